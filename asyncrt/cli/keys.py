"""Detach keys: the sequence of keys that leaves a terminal's container running (docker's --detach-keys)."""

from __future__ import annotations

from asyncrt.errors import BadRequest

DEFAULT = "ctrl-p,ctrl-q"
_CONTROL = {**{chr(97 + n): n + 1 for n in range(26)}, "@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str, flag: str = "--detach-keys") -> bytes:
    """ "ctrl-p,ctrl-q" or "a,ctrl-@" as bytes; empty: none. BadRequest otherwise.

    >>> parse("ctrl-p,x")
    b'\\x10x'
    """
    keys = bytearray()
    for word in text.split(",") if text else ():
        name = word.lower().removeprefix("ctrl-")
        if word.lower().startswith("ctrl-") and name in _CONTROL:
            keys.append(_CONTROL[name])
        elif len(word) == 1 and word.isascii():
            keys += word.encode()
        else:
            hint = "a character, or ctrl- and one of a-z @ [ \\ ] ^ _, with commas between"
            raise BadRequest("read", flag, f'"{word}" is no key', hint)
    return bytes(keys)


class Watch:
    """Looks for the keys in what is typed. What may be their beginning is held back until it is known."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on to the container, and whether the keys were there (what is behind them is dropped).

        >>> watch = Watch(parse("ctrl-p,ctrl-q"))
        >>> watch.feed(b"ls\\x10"), watch.feed(b"x\\x10"), watch.feed(b"\\x11y")
        ((b'ls', False), (b'\\x10x', False), (b'', True))
        """
        if not self._keys:
            return data, False
        data = self._held + data
        found = data.find(self._keys)
        if found >= 0:
            self._held = b""
            return data[:found], True
        keep = next((n for n in range(min(len(self._keys) - 1, len(data)), 0, -1) if data.endswith(self._keys[:n])), 0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], False
