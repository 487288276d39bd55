"""`asyncrt run` of one container, attached: our stdio is its stdio, its exit code is ours.

    we                                supervisor                shim
     | -- Run(attach) + pipe ends ----> | -- pipe ends ----------> |
     | <- created, started ------------ |                          |
     | <============ bytes of stdout and stderr =================== |
     | <- ended, or answer to Wait ---- | <- exit ---------------- |

The shim holds the pipes, so a supervisor that dies in the middle costs nothing: we copy until their end,
and ask its successor for the exit code.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any

from asyncrt.cli.connect import connect
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Pumps
from asyncrt.cli.say import say
from asyncrt.cli.signals import Proxy
from asyncrt.errors import AsyncrtError, NoSuchObject, StartFailed, Unavailable, from_dict
from asyncrt.model.container import Exit
from asyncrt.model.options import Options
from asyncrt.model.protocol import Progress, Run, Wait
from asyncrt.sdk.answer import Answer, typed
from asyncrt.sdk.blocking import Client

# Seconds after the exit in which a stream without its end may stay silent: a process that the container left
# behind can hold it open for ever (promise 3 of the streams).
LINGER = 5.0
SUCCESSORS = 5  # supervisors that may die one after another while we ask for one exit code


def foreground(places: Places, options: Options) -> int:
    """The container's exit code. Raises StartFailed, Unavailable, and KeyboardInterrupt (it goes on)."""
    with Pumps() as pumps, Proxy(places) as proxy:
        watch = _Watch(proxy)
        try:
            try:
                _attached(places, options, watch, pumps)
            except Unavailable as error:
                if not watch.id:
                    raise
                _drain(pumps)
                watch.exit = exit_from_successor(places, watch.id, watch.name, error)
                _fetch_rest(places, watch, pumps)
        except (KeyboardInterrupt, BrokenPipeError):
            if watch.id and watch.exit is None:
                say(f"left {watch.name} running (see it with: asyncrt logs -f {watch.name})")
            raise
        _drain(pumps, LINGER)
        failure = pumps.failure()
        return watch.exit.code or failure if watch.exit is not None else 125


def _attached(places: Places, options: Options, watch: _Watch, pumps: Pumps) -> None:
    with contextlib.closing(connect(places)) as client:
        fds = [pumps.input(0)] if options.stdin else []
        fds += [pumps.output("stdout", 1), pumps.output("stderr", 2)]
        answer = client.call(Run(options, 1, True, stdin_once=True), fds)
        pumps.close_remote()
        watch.follow(client, answer, pumps)
        if watch.exit is None and watch.id:
            # The answer to Run did not tell the end: ask for it.
            watch.follow(client, client.call(Wait((watch.id,))), pumps)


def _fetch_rest(places: Places, watch: _Watch, pumps: Pumps) -> None:
    """Output that did not come: the supervisor died before it had handed our pipes to the shim."""
    if watch.exit is None:
        return
    whole = {"stdout": watch.exit.stdout_bytes, "stderr": watch.exit.stderr_bytes}
    offsets, fds = {"stdout": -1, "stderr": -1}, []
    for pump in list(pumps.outputs):
        if pump.copied < whole[pump.name] and pump.error is None:
            offsets[pump.name] = pump.copied
            fds.append(pumps.output(pump.name, 1 if pump.name == "stdout" else 2))
    if fds:
        with contextlib.closing(connect(places)) as client:
            client.attach(watch.id, fds, stdout=offsets["stdout"], stderr=offsets["stderr"])
        pumps.close_remote()
        _drain(pumps)


def exit_from_successor(places: Places, id: str, name: str, lost: Unavailable) -> Exit:
    """How it ended, from the supervisor that came after, started if need be; and from its successors.

    Raises StartFailed where it never ran, Unavailable where nobody knows.
    """
    deed = "learn the exit code of"
    for _ in range(SUCCESSORS):
        try:
            with contextlib.closing(connect(places)) as client:
                for container in client.inspect([id]):
                    if container.state in ("creating", "created"):
                        cause = container.error or "the supervisor went away before it was started"
                        raise StartFailed("start", name, cause, "asyncrt start, or asyncrt rm")
                    if container.state == "stopped" and container.exit is None:
                        raise StartFailed("start", name, container.error or "it never ran")
                for progress in client.wait([id]):
                    if progress.exit is not None:
                        return progress.exit
        except NoSuchObject as error:
            raise Unavailable(deed, name, "its record has gone (--rm) with the supervisor") from error
        except Unavailable as error:
            lost = error
    raise Unavailable(deed, name, lost.cause, lost.hint) from lost


class _Watch:
    """What is known of the container so far."""

    def __init__(self, proxy: Proxy) -> None:
        self.id = ""
        self.name = ""
        self.exit: Exit | None = None
        self._proxy = proxy

    def follow(self, client: Client, answer: Answer, pumps: Pumps) -> None:
        """Until this answer has come whole. Raises the error of a failed start, once its output is out."""
        poll = select.poll()
        poll.register(pumps, select.POLLIN)
        poll.register(client, select.POLLIN)
        woken = False
        try:
            while True:
                for value, _ in answer.ready():
                    self._step(typed(value, Progress))
                if answer.done:
                    self._conclude(answer.result())
                    return
                if woken:  # after what was heard: whoever leaves now can say which container goes on
                    pumps.woken()
                woken = pumps.fileno() in (fd for fd, _ in poll.poll())
                client.receive(0)
        except Unavailable:
            raise
        except AsyncrtError:
            _drain(pumps, 1.0)
            raise

    def _step(self, progress: Progress) -> None:
        self.id, self.name = progress.id or self.id, progress.name or progress.id or self.name
        if progress.step == "started":
            self._proxy.aim([self.id])
        elif progress.step == "ended":
            self.exit = progress.exit
        if progress.error is not None:
            raise from_dict(progress.error)

    def _conclude(self, value: Any) -> None:
        """The End of Wait is a list of Progress, that of Run the ids."""
        for entry in value or []:
            if not isinstance(entry, str):
                self._step(entry if isinstance(entry, Progress) else typed(entry, Progress))


def _drain(pumps: Pumps, linger: float | None = None) -> None:
    """Until the outputs are at their end, or nothing has come for `linger` seconds (None: however long)."""
    poll = select.poll()
    poll.register(pumps, select.POLLIN)
    while pumps.open:
        left = None if linger is None else linger - pumps.idle()
        if left is not None and left <= 0:
            return
        poll.poll(None if left is None else left * 1000 + 1)
        pumps.woken()
