"""Where the blocks of a zstd frame end, so that a frame is inflated a few at a time.

A block makes 128 KiB at most, but four bytes may be one that does: a portion of a frame cut anywhere can blow up 32,000
times. Cut behind every eighth block it makes 1 MiB. Source: RFC 8878, 3.1.1 (frames) and 3.1.2 (skippable frames).
"""

from __future__ import annotations

from collections.abc import Iterator

BLOCKS = 8
_SKIPPABLE = b"\x2a\x4d\x18"
_RLE = 1


class Blocks:
    """The blocks of one frame, from its magic number on."""

    def __init__(self) -> None:
        self._head = b""  # of a frame or block, as far as it is there
        self._need = 8  # bytes that make it whole
        self._skip = 0  # bytes of what the last head announced
        self._in_frame = False
        self._last = False

    def portions(self, data: bytes) -> Iterator[bytes]:
        """`data` in pieces that each end at most BLOCKS blocks. What follows the frame comes uncut with its end."""
        position = start = blocks = 0
        while position < len(data) and not (self._last and not self._skip):
            if self._skip:
                step = min(self._skip, len(data) - position)
                position, self._skip = position + step, self._skip - step
                if not self._skip:
                    blocks += 1
                    if blocks == BLOCKS:
                        yield data[start:position]
                        start, blocks = position, 0
                continue
            step = min(self._need - len(self._head), len(data) - position)
            self._head += data[position : position + step]
            position += step
            if len(self._head) == self._need:
                position -= self._frame() if not self._in_frame else self._block()
        if start < len(data):
            yield data[start:]

    def _frame(self) -> int:
        """Read eight bytes of a frame; how many of them belong to what follows its head."""
        head, self._head, self._in_frame, self._need = self._head, b"", True, 3
        if head[1:4] == _SKIPPABLE:
            self._skip, self._last = int.from_bytes(head[4:8], "little"), True
            return 0
        flags = head[4]
        single = flags >> 5 & 1
        size = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        self._checksum = 4 * (flags >> 2 & 1)
        self._skip = max(0, size - 8)
        return max(0, 8 - size)

    def _block(self) -> int:
        head, self._head = int.from_bytes(self._head, "little"), b""
        self._last = bool(head & 1)
        self._skip = 1 if head >> 1 & 3 == _RLE else head >> 3
        if self._last:
            self._skip += self._checksum
        return 0
