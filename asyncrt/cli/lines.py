"""Output of many containers on one terminal: whole lines, each with its container's name before it."""

from __future__ import annotations

LONGEST = 64 * 1024  # bytes of a line that has not ended yet; a longer one is shown in pieces


class Lines:
    """One stream of one container. Bytes go in as they come, bytes to be written come out."""

    def __init__(self, name: str) -> None:
        self.taken = 0
        self._prefix = f"{name} | ".encode()
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that are whole now."""
        self.taken += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) >= LONGEST:
            whole.append(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]
        return b"".join(self._prefix + line + b"\n" for line in whole)

    def end(self) -> bytes:
        """What was left without a line end gets one."""
        rest, self._rest = self._rest, b""
        return self._prefix + rest + b"\n" if rest else b""
