"""Bytes in chunks, taken by blocks and pieces: what the tar reader reads.

feed = Feed(chunks)             # an iterator of bytes objects, of any sizes but 0
feed.take(512)                  # bytes, exactly as many; b"" at the end of the stream
for view in feed.pieces(size):  # the same without a copy
feed.skip(size)
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncrt.errors import BadImage


def truncated(wanted: str = "the stream ends in the middle of an entry") -> BadImage:
    """What is said of a tar that is cut off."""
    return BadImage("read layer", "", wanted, "it was cut short where it was made or stored")


class Feed:
    """A position in a stream of chunks. Never more than one chunk is held, and what take() was asked for."""

    __slots__ = ("_chunks", "_end", "buffer", "consumed", "position")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.buffer = b""
        self.position = 0
        self.consumed = 0  # bytes of the chunks before this one
        self._end = 0

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self.consumed + self.position

    def _more(self) -> bool:
        self.consumed += self._end
        self.position = 0
        self.buffer = next(self._chunks, b"")
        self._end = len(self.buffer)
        return self._end > 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes; b"" if the stream has ended. BadImage if it ends in between."""
        start = self.position
        if start + count <= self._end:
            self.position = start + count
            return self.buffer[start : start + count]
        data = b"".join(self.pieces(count, end_is_fine=True))
        if data and len(data) != count:
            raise truncated()
        return data

    def pieces(self, count: int, end_is_fine: bool = False) -> Iterator[memoryview]:
        """The next `count` bytes as views, each good until the next is asked for. BadImage if there are fewer."""
        while count:
            if self.position == self._end and not self._more():
                if end_is_fine:
                    return
                raise truncated()
            start = self.position
            length = min(count, self._end - start)
            self.position = start + length
            count -= length
            yield memoryview(self.buffer)[start : start + length]

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes. BadImage if there are fewer."""
        if self.position + count <= self._end:
            self.position += count
            return
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Pass over all that is left: digests are of the whole stream."""
        while self._more():
            pass
