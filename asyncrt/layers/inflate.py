"""A stored layer to its tar: gzip, zstd or plain, in a thread of its own, digests computed by the way.

    with Inflated(blob, limits) as inflated:    # blob: an fd; read by pread(2), so its position does not matter
        feed = Feed(inflated.chunks())
        ...
        feed.drain()
        inflated.diff_id, inflated.digest

The form is told by the first bytes, as every engine does, since media types are often wrong. All members of a gzip file
and all frames of zstd are read; what follows them that is neither is an error, as in gzip(1).

Two threads share the work of one layer: this one reads, hashes what is stored and inflates; the one that asks for
chunks hashes what came out and writes files. All of that but the asking goes on without the interpreter's lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from asyncrt.errors import AsyncrtError, BadImage, StorageFailed
from asyncrt.layers.frames import Blocks
from asyncrt.layers.limits import DEFAULT, Limits
from asyncrt.model.digest import Digest, new_hash

READ = 1 << 18  # bytes of one read
CHUNK = 1 << 20  # bytes of one chunk, at most
_AHEAD = 4  # chunks that wait for the reader
_WINDOW = 1 << 27  # of zstd: what its command line takes without --long

Form = Literal["plain", "gzip", "zstd"]
_MAGIC: tuple[tuple[bytes, Form], ...] = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_SKIPPABLE = b"\x2a\x4d\x18"  # behind a first byte 0x50 to 0x5f: RFC 8878, 3.1.2


def form_of(head: bytes) -> Form:
    """The form of a stored layer by its first four bytes. BadImage: one that nobody can read."""
    for magic, form in _MAGIC:
        if head.startswith(magic):
            return form
    if head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50:
        return "zstd"
    if head.startswith((b"BZh", b"\xfd7zX")):
        raise BadImage("read layer", "", "bzip2 and xz are no forms of the image-spec", "write it with gzip or zstd")
    return "plain"


class _Decoder(Protocol):
    """One member or frame: decode(data) until `ended`; `rest` is what it did not want."""

    ended: bool
    rest: bytes

    def decode(self, data: bytes) -> Iterator[bytes]: ...


class _Gzip:
    def __init__(self) -> None:
        from isal import igzip_lib  # lazy: the command line imports none of this

        self._inner = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
        self.ended = False
        self.rest = b""

    def decode(self, data: bytes) -> Iterator[bytes]:
        while True:
            yield self._inner.decompress(data, CHUNK)
            data = b""
            if self._inner.eof:
                self.ended, self.rest = True, self._inner.unused_data
                return
            if self._inner.needs_input:
                return


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._inner: Any = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._blocks = Blocks()
        self.ended = False
        self.rest = b""

    def decode(self, data: bytes) -> Iterator[bytes]:
        taken = 0
        for portion in self._blocks.portions(data):
            yield self._inner.decompress(portion)
            taken += len(portion)
            if self._inner.eof:
                self.ended = True
                self.rest = self._inner.unused_data + data[taken:]
                return


_DECODERS: dict[Form, Callable[[], _Decoder]] = {"gzip": _Gzip, "zstd": _Zstd}


class Inflated:
    """The tar of one stored layer. `digest` and `diff_id` are there once all chunks were taken."""

    def __init__(self, blob: int, limits: Limits = DEFAULT, hash_stored: bool = True) -> None:
        """Without `hash_stored` there is no `digest`: for a blob that was verified when it was stored."""
        self._blob = blob
        self._limits = limits
        self._stored_hash = new_hash() if hash_stored else None
        self._tar_hash = new_hash()
        self.stored = 0  # bytes read
        self.size = 0  # bytes of the tar
        self._complete = False
        self._stopped = False
        self._room = threading.Semaphore(_AHEAD)
        self._queue: SimpleQueue[bytes | Exception] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopped = True
        self._room.release()
        self._thread.join()

    @property
    def digest(self) -> Digest:
        """Of the bytes as they are stored."""
        assert self._complete
        assert self._stored_hash is not None
        return Digest("sha256", self._stored_hash.hexdigest())

    @property
    def diff_id(self) -> Digest:
        """Of the uncompressed tar, as far as chunks were taken: its end included once there are no more."""
        return Digest("sha256", self._tar_hash.hexdigest())

    def chunks(self) -> Iterator[bytes]:
        """The tar, in order. BadImage: it is damaged, cut short, or blows up beyond the limits."""
        while True:
            chunk = self._queue.get()
            self._room.release()
            if isinstance(chunk, Exception):
                raise chunk
            if not chunk:
                self._complete = True
                return
            self._tar_hash.update(chunk)
            yield chunk

    def _run(self) -> None:
        """The thread."""
        last: bytes | Exception = b""
        try:
            for chunk in self._inflate():
                if chunk and not self._put(chunk):
                    return
        except OSError as error:
            last = StorageFailed("read layer", "", str(error.strerror or error).lower())
        except AsyncrtError as error:
            last = error
        except Exception as error:  # noqa: BLE001 - isal and zstandard have errors of their own, without a common base
            last = BadImage("read layer", "", f"its compressed form is damaged: {str(error).lower()}")
        self._put(last)

    def _put(self, chunk: bytes | Exception) -> bool:
        """Hand it over; False if nobody wants it."""
        self._room.acquire()
        if self._stopped:
            return False
        if isinstance(chunk, bytes):
            self.size += len(chunk)
            limits = self._limits
            if self.size > limits.tar_bytes:
                chunk = BadImage("read layer", "", f"uncompressed it has more than {limits.tar_bytes} bytes", "a bomb?")
            elif self.size > limits.ratio_from and self.size > limits.ratio * max(self.stored, 1):
                chunk = BadImage("read layer", "", f"it has grown {limits.ratio} times in unpacking", "a bomb?")
        self._queue.put(chunk)
        return isinstance(chunk, bytes)

    def _read(self) -> bytes:
        data = os.pread(self._blob, READ, self.stored)
        self.stored += len(data)
        if self._stored_hash is not None:
            self._stored_hash.update(data)
        return data

    def _inflate(self) -> Iterator[bytes]:
        data = self._read()
        form = form_of(data[:4])
        if form == "plain":
            while data:
                yield data
                data = self._read()
            return
        while data:
            if form_of(data[:4]) != form:
                if form == "gzip" and not data.strip(b"\0"):  # padding, as gzip(1) takes it
                    data = self._read()
                    continue
                raise BadImage("read layer", "", f"something that is no {form} follows its end")
            decoder: _Decoder = _DECODERS[form]()
            while True:
                yield from decoder.decode(data)
                if decoder.ended:
                    break
                data = self._read()
                if not data:
                    raise BadImage("read layer", "", "its compressed form is cut short")
            data = decoder.rest
            if len(data) < READ // 2:
                data += self._read()  # so that a magic number is never cut in two
