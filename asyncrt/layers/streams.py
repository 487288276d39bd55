"""From who writes to who reads, in one process: the bytes of a sink as an iterator of chunks.

with piped(lambda sink: write(changes, sink, "plain")) as chunks:       # `write` runs in a thread of its own
    reader = Reader(Feed(chunks))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

_AHEAD = 8  # chunks


class _Stopped(Exception):
    """Nobody reads any more."""


@contextmanager
def piped(write: Callable[[Callable[[bytes], object]], object]) -> Iterator[Iterator[bytes]]:
    """The chunks that `write` gives to its sink, in order; its exception comes out of the iterator."""
    queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(_AHEAD)
    stopped = threading.Event()

    def sink(data: bytes) -> None:
        room.acquire()
        if stopped.is_set():
            raise _Stopped
        queue.put(data)

    def run() -> None:
        last: BaseException | None = None
        try:
            write(sink)
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again where it is read
            last = error
        queue.put(last)

    def chunks() -> Iterator[bytes]:
        while True:
            chunk = queue.get()
            room.release()
            if chunk is None:
                return
            if isinstance(chunk, BaseException):
                raise chunk
            if chunk:
                yield chunk

    thread = threading.Thread(target=run, name="pack", daemon=True)
    thread.start()
    try:
        yield chunks()
    finally:
        stopped.set()
        room.release()
        thread.join()
