"""A container in the foreground, for `run` and `attach`: our stdio is its stdio, its exit code is ours.

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
import os
import select
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Detached, Pumps
from asyncrt.cli.say import say
from asyncrt.cli.signals import Proxy
from asyncrt.cli.terminal import Terminal, size_of
from asyncrt.errors import AsyncrtError, BadRequest, Conflict, NoSuchObject, StartFailed, Unavailable, from_dict
from asyncrt.model.container import Exit
from asyncrt.model.options import Options
from asyncrt.model.protocol import NOT_THIS, OLDEST, Attach, Attached, CloseStdin, Progress, Run, Wait
from asyncrt.sdk.answer import Answer, typed
from asyncrt.sdk.blocking import Client

# Seconds after the exit in which a stream without its end may stay silent: a process that the container left
# behind can hold it open for ever (promise 3 of the streams).
LINGER = 5.0
SUCCESSORS = 5  # supervisors that may die one after another while we ask for one exit code
TARGETS = {"stdout": 1, "stderr": 2}


class Manner(NamedTuple):
    """How we are in front of it: its terminal or none, our stdin or none, the keys that leave it, signals."""

    tty: bool = False
    stdin: bool = False
    keys: bytes = b""
    signals: bool = True


def need_terminal(tty: bool, stdin: bool) -> None:
    """Docker's words and code for a terminal that has none of ours behind it."""
    if tty and stdin and not os.isatty(0):
        raise BadRequest("use stdin", "", "the input device is not a TTY", "leave out -t, or -i", 1)


def foreground(places: Places, options: Options, manner: Manner) -> int:
    """`run`: the container's exit code. Raises StartFailed, Unavailable, and KeyboardInterrupt (it goes on)."""
    if options.tty:
        rows, columns = size_of(1 if os.isatty(1) else 0)
        options = msgspec.structs.replace(options, rows=rows, columns=columns)

    def begin(client: Client, pumps: Pumps, watch: Watch) -> Answer:
        if options.log_format == "none" and not options.tty:
            # What we hand over is the container's own. A terminal of ours is not (TIOCSTI; CVE-2016-2568 and kin).
            fds = [pumps.input(0) if os.isatty(0) else 0] if options.stdin else []
            fds += [pumps.output(name, fd) if os.isatty(fd) else fd for name, fd in TARGETS.items()]
        else:
            fds = [pumps.input(0, manner.keys)] if options.stdin else []
            fds += [pumps.output("stdout", 1)] + ([] if options.tty else [pumps.output("stderr", 2)])
        # A pipe's end is the input's end, also if it is our death; a terminal's container may be come back to.
        return client.call(Run(options, 1, True, stdin_once=not options.tty), fds)

    return hold(places, manner._replace(tty=options.tty, stdin=options.stdin), begin)


def hold(places: Places, manner: Manner, begin: Callable[[Client, Pumps, Watch], Answer]) -> int:
    """From `begin`, whose answer tells of the container's start or end, to its end; the exit code.

    0 after the detach keys. Raises what foreground() does.
    """
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal(0)) if manner.tty and manner.stdin else None
        pumps = stack.enter_context(Pumps())
        size_fd = -1 if not manner.tty else 1 if os.isatty(1) else 0
        proxy = stack.enter_context(Proxy(places, manner.signals, size_fd if os.isatty(size_fd) else -1))
        watch = Watch(places, proxy)
        try:
            _to_the_end(places, begin, watch, pumps, terminal)
        except Detached:
            _sane(terminal)
            say(f"left {watch.name} running (come back with: asyncrt attach {watch.name})")
            return 0
        except (KeyboardInterrupt, BrokenPipeError):
            _sane(terminal)
            if watch.id and watch.exit is None:
                say(f"left {watch.name} running (see it with: asyncrt logs -f {watch.name})")
            raise
        _sane(terminal)
        failure = pumps.failure()
        return watch.exit.code or failure if watch.exit is not None else 125


def _sane(terminal: Terminal | None) -> None:
    if terminal is not None:
        terminal.sane()


def _to_the_end(
    places: Places,
    begin: Callable[[Client, Pumps, Watch], Answer],
    watch: Watch,
    pumps: Pumps,
    terminal: Terminal | None,
) -> None:
    try:
        with contextlib.closing(connect(places)) as client:
            if terminal is not None:
                terminal.raw()
            answer = begin(client, pumps, watch)
            pumps.close_remote()
            watch.follow(client, answer, pumps)
            if watch.exit is None and watch.id:
                # The answer to Run did not tell the end: ask for it.
                watch.follow(client, client.call(Wait((watch.id,))), pumps)
    except Unavailable as error:
        if not watch.id:
            raise
        _drain(pumps, watch)
        watch.exit = exit_from_successor(places, watch.id, watch.name, error)
    _drain(pumps, watch, LINGER)
    _fetch_rest(places, watch, pumps)


def _fetch_rest(places: Places, watch: Watch, pumps: Pumps) -> None:
    """Output that did not come: a supervisor died before it had handed our pipes to the shim, or a log with a bound
    had no more what we were too slow for."""
    if watch.exit is None or pumps.open or watch.exit.lost:
        return
    whole = {"stdout": watch.exit.stdout_bytes, "stderr": watch.exit.stderr_bytes}
    reached = {pump.name: watch.begun[pump.name] + pump.copied for pump in pumps.outputs if pump.error is None}
    missing = {name: at for name, at in reached.items() if at < whole[name]}
    for name, at in missing.items():
        with contextlib.closing(connect(places)) as client:
            try:
                _subscribe(client, watch.id, pumps, name, at)
            except Conflict:
                first = _subscribe(client, watch.id, pumps, name, OLDEST)
                say(f"the log of {watch.name} has dropped bytes {at} to {first} of {name}")
        _drain(pumps, watch)


def _subscribe(client: Client, id: str, pumps: Pumps, name: str, offset: int) -> int:
    """Copy one stream from there on; where it begins."""
    stdout, stderr = (offset if name == one else NOT_THIS for one in TARGETS)
    answer = client.call(Attach(id, False, stdout, stderr), [pumps.output(name, TARGETS[name])])
    pumps.close_remote()
    begun: int = getattr(typed(answer.result(), Attached), name)
    return begun


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


class Watch:
    """What is known of the container so far. `begun`: the offsets at which our copies of its streams begin."""

    def __init__(self, places: Places, proxy: Proxy) -> None:
        self.id = ""
        self.name = ""
        self.exit: Exit | None = None
        self.begun = dict.fromkeys(TARGETS, 0)
        self.half_close = False
        """Is our stdin's end to be told by a message? Else the pipe's end tells it."""
        self._places = places
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
                    self.tend(pumps)
                woken = pumps.fileno() in (fd for fd, _ in poll.poll())
                client.receive(0)
        except Unavailable:
            raise
        except AsyncrtError:
            _drain(pumps, self, 1.0)
            raise

    def tend(self, pumps: Pumps) -> None:
        """A pump has ended."""
        pumps.woken()
        if pumps.stdin_ended and self.half_close and self.id:
            self.half_close = False
            with contextlib.closing(connect(self._places)) as client, contextlib.suppress(Conflict, NoSuchObject):
                client.call(CloseStdin(self.id)).result()

    def is_about(self, id: str, name: str) -> None:
        """This container runs."""
        self.id, self.name = id, name
        self._proxy.aim([id])

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


def _drain(pumps: Pumps, watch: Watch, linger: float | None = None) -> None:
    """Until the outputs are at their end, or nothing has come for `linger` seconds (None: however long)."""
    poll = select.poll()
    poll.register(pumps, select.POLLIN)
    while pumps.open:
        left = None if linger is None else linger - pumps.idle()
        if left is not None and left <= 0:
            return
        poll.poll(None if left is None else left * 1000 + 1)
        watch.tend(pumps)
