"""Signals that reach the command go to the container (docker's --sig-proxy), and so does our terminal's size.

    with Proxy(places) as proxy:
        proxy.aim([id])          from now on; what came before is delivered now

A thread sends them over a connection of its own, so that a signal is delivered whatever the main thread
waits for. A container's pid 1 ignores signals that it has no handler for (pid_namespaces(7)): at the third
SIGINT or SIGTERM the command leaves, by KeyboardInterrupt, and the container goes on.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from asyncrt.cli.connect import connect
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.terminal import size_of
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject
from asyncrt.model.protocol import Resize
from asyncrt.sdk.blocking import Client

PROXIED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
PATIENCE = 3  # interrupts until the command leaves
_SECONDS = 10.0  # for the supervisor's answer to one


class Proxy:
    """Handlers while it is entered; those that stood before are put back."""

    def __init__(self, places: Places, signals: bool = True, size_fd: int = -1) -> None:
        """`signals`: send them on. `size_fd`: a terminal whose size is the container's terminal's, too."""
        self._places = places
        self._numbers = [*(PROXIED if signals else ()), *([signal.SIGWINCH] if size_fd >= 0 else ())]
        self._size_fd = size_fd
        self._before: dict[signal.Signals, Any] = {}
        # put() of a SimpleQueue may interrupt itself, which a signal handler's does.
        self._queue: queue.SimpleQueue[int | list[str]] = queue.SimpleQueue()
        self._interrupts = 0
        self._thread = threading.Thread(target=self._work, name="signals", daemon=True)

    def __enter__(self) -> Proxy:
        for number in self._numbers:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # nohup(1)
                self._before[number] = before
                signal.signal(number, self._take)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            with contextlib.suppress(TypeError):
                signal.signal(number, before)
        self._queue.put(0)

    def aim(self, ids: Iterable[str]) -> None:
        """These containers, too, get what comes; the first ones also what has come."""
        self._queue.put(list(ids))
        if self._size_fd >= 0:
            self._queue.put(signal.SIGWINCH)  # it may have changed since the container was asked for

    def _take(self, number: int, frame: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self._interrupts += 1
            if self._interrupts >= PATIENCE:
                raise KeyboardInterrupt
        self._queue.put(number)

    def _work(self) -> None:
        targets: list[str] = []
        held: list[int] = []
        while True:
            word = self._queue.get()
            if isinstance(word, list):
                targets += word
            elif word == 0:
                return
            else:
                held.append(word)
            while held and targets:
                self._send(targets, held.pop(0))

    def _send(self, targets: list[str], number: int) -> None:
        try:
            with contextlib.closing(connect(self._places, _SECONDS)) as client:
                if number == signal.SIGWINCH:
                    self._resize(client, targets)
                    return
                # An Outcome with an error is a container that has just ended: the wish is granted.
                for _ in client.kill(targets, number):
                    pass
        except AsyncrtError as error:
            say(str(error))

    def _resize(self, client: Client, targets: list[str]) -> None:
        rows, columns = size_of(self._size_fd)
        for id in targets if rows else ():
            with contextlib.suppress(Conflict, NoSuchObject):  # it ended meanwhile
                client.call(Resize(id, rows, columns)).result()
