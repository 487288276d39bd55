"""`asyncrt run --count N`: start N, show what all of them write, wait for all.

One loop over one connection and 2 N pipes. For each container that starts: Attach (its output from the
beginning) and Wait. With --rm the removal is asked for from here, once the output is out: the engine's own
would race with the Attach of a container that ends at once.

A supervisor that dies costs nothing here: the shims hold the pipes. Its successor is asked what became of
each.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import time

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.live import Live
from asyncrt.cli.member import ATTEMPTS, Member, Stream
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.signals import Proxy
from asyncrt.cli.tally import Tally
from asyncrt.errors import AsyncrtError, Unavailable, from_dict
from asyncrt.model.container import Container
from asyncrt.model.options import Options
from asyncrt.model.protocol import Attach, Progress, Run, Wait
from asyncrt.sdk.answer import Answer, close_all, typed

LINGER = 5.0  # seconds of silence after the exit in which a stream without its end is still read
_BLOCK = 64 * 1024  # bytes of one read
_SPARE = 64  # file descriptors beside the pipes
_SUCCESSORS = 5  # supervisors that may die before we give up


def crowd(places: Places, options: Options, number: int) -> int:
    """0 where all ended with 0, else the code of the first (by index) that did not."""
    _room_for(2 * number + _SPARE)
    live = Live(f"{number} x {options.image}", os.environ)
    with Proxy(places) as proxy:
        loop = Crowd(places, options, number, live, proxy)
        try:
            return loop.run()
        except (KeyboardInterrupt, BrokenPipeError):
            live.leave()
            running = sum(member.started and member.code < 0 for member in loop.members.values())
            if running or (options.auto_remove and loop.members):
                say(f"left {running} of {number} running, none removed (see them with: asyncrt ps -a)")
            raise
        finally:
            live.leave()
            loop.close()


class Crowd:
    """The loop's state. `members` by id, in the order in which they were heard of."""

    def __init__(self, places: Places, options: Options, number: int, live: Live, proxy: Proxy) -> None:
        self.members: dict[str, Member] = {}
        self._places, self._number, self._live, self._proxy = places, number, live, proxy
        self._remove = options.auto_remove
        self._options = msgspec.structs.replace(options, auto_remove=False)
        self._selector = selectors.DefaultSelector()
        self._tally = Tally(number, time.monotonic())
        self._lost_starts: list[int] = []
        self._refused: OSError | None = None
        self._losses = 0
        self._pending: set[str] = set()
        self._next_look = 0.0
        self._client = connect(places)
        self._selector.register(self._client, selectors.EVENT_READ)
        self._starting: Answer | None = self._client.call(Run(self._options, number))
        self._answers: list[Answer] = []

    def run(self) -> int:
        """Until every container is over."""
        lost: Unavailable | None = None
        while lost is not None or self._starting is not None or self._pending:
            try:
                if lost is not None:
                    self._succeed(lost)
                    lost = None
                self._hear()
                if self._starting is not None or self._pending:
                    self._poll()
            except Unavailable as error:
                lost = error
        now = time.monotonic()
        self._live.finish(self._tally.counts(now), self._tally.timelines.values())
        self._clean_up()
        return self._code()

    def close(self) -> None:
        for member in self.members.values():
            close_all(stream.fd for stream in member.streams if stream.fd >= 0)
        self._selector.close()
        self._client.close()

    def _poll(self) -> None:
        """Wait for bytes, answers or the next drawing."""
        now = time.monotonic()
        if not self._live.due(now):
            self._live.draw(self._tally.counts(now), now)
        for key, _ in self._selector.select(max(0.01, self._live.due(now))):
            if isinstance(key.data, tuple):
                self._read(*key.data)
            else:
                self._client.receive(0)
        self._let_go()

    def _hear(self) -> None:
        """Take what answers say; subscribe to what has started since."""
        started: list[Member] = []
        if self._starting is not None:
            self._steps(self._starting, started)
            if self._starting.done:
                self._starting.result()
                self._starting = None
                self._unheard("nobody said what became of it")
        for answer in self._answers:
            self._steps(answer, started)
        self._answers = [answer for answer in self._answers if not answer.done]
        if started:
            self._proxy.aim([member.id for member in started])
            self._wait_for(started)
            for member in started:
                self._attach(member)

    def _steps(self, answer: Answer, started: list[Member]) -> None:
        try:
            for value, fds in answer.ready():
                close_all(fds)
                self._step(typed(value, Progress), started)
        except Unavailable:
            raise
        except AsyncrtError as error:
            if answer is self._starting:
                self._live.conceal()
                raise
            # One container could not be attached to or waited for: the others go on.
            self._live.say(str(error))

    def _step(self, step: Progress, started: list[Member]) -> None:
        now = time.monotonic()
        self._tally.feed(step, now)
        if not step.id:
            self._lost_starts.append(from_dict(step.error or {}).code)
            self._live.say(str(from_dict(step.error or {})))
            return
        member = self.members.get(step.id)
        if member is None:
            member = self.members[step.id] = Member(step.id, step.name or step.id[:12], step.index)
            self._pending.add(step.id)
        if step.step == "started" and not member.started:
            member.started = True
            started.append(member)
        elif step.step == "failed" and member.code < 0:
            error = from_dict(step.error or {})
            member.code = error.code
            self._live.say(str(error))
        elif step.step == "ended" and step.exit is not None and member.code < 0:
            if not member.started:
                member.started = True
                started.append(member)
            member.exit, member.code, member.quiet_since = step.exit, step.exit.code, now
        if member not in started:
            self._settle(member)

    def _settle(self, member: Member) -> None:
        """Whether it is over; where bytes are missing, subscribe once more."""
        if member.missing:
            self._attach(member)
        elif member.over:
            self._pending.discard(member.id)

    def _wait_for(self, members: list[Member]) -> None:
        waited = tuple(member.id for member in members if member.code < 0)
        if waited:
            self._answers.append(self._client.call(Wait(waited)))

    def _attach(self, member: Member) -> None:
        """Subscribe from where its output was left."""
        stdout, stderr = (stream.lines.taken for stream in member.streams)
        writes, streams = member.open()
        for stream in streams:
            self._selector.register(stream.fd, selectors.EVENT_READ, (member, stream))
        try:
            self._answers.append(self._client.call(Attach(member.id, False, stdout, stderr), writes))
        finally:
            close_all(writes)

    def _read(self, member: Member, stream: Stream) -> None:
        if stream.fd < 0:
            return
        data = os.read(stream.fd, _BLOCK)
        member.quiet_since = time.monotonic()
        self._write(stream.target, stream.lines.feed(data))
        if not data:
            self._shut(stream)
            self._settle(member)

    def _shut(self, stream: Stream) -> None:
        self._selector.unregister(stream.fd)
        os.close(stream.fd)
        stream.fd = -1
        self._write(stream.target, stream.lines.end())

    def _let_go(self) -> None:
        """Of streams that a process left behind by an ended container holds open."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + 0.5
        for member in [self.members[id] for id in self._pending]:
            if member.code >= 0 and member.flows and now - member.quiet_since > LINGER:
                for stream in member.streams:
                    if stream.fd >= 0:
                        self._shut(stream)
                member.attempts = ATTEMPTS
                self._settle(member)

    def _write(self, target: int, data: bytes) -> None:
        if not data or self._refused is not None:
            return
        try:
            self._live.above(target, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._refused = error
            self._live.say(f"write stdout: {os.strerror(error.errno or 0).lower()}")

    def _succeed(self, error: Unavailable) -> None:
        """The supervisor went away: ask its successor, started if need be, what became of each."""
        self._losses += 1
        if not self.members or self._losses > _SUCCESSORS:
            raise error
        self._live.conceal()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._client)
        self._client.close()
        self._drop_stale()
        self._client = connect(self._places)
        self._selector.register(self._client, selectors.EVENT_READ)
        self._starting, self._answers = None, []
        started: list[Member] = []
        for container in self._client.containers(all=True):
            if container.id in self.members:
                self._learn(container, started)
        self._unheard(f"the supervisor went away before it was started: {error.cause}")
        self._proxy.aim([member.id for member in started])
        self._wait_for([member for member in self.members.values() if member.started])
        for member in started:
            self._attach(member)

    def _drop_stale(self) -> None:
        """A selector made on fds keeps a closed one's place: build it anew."""
        self._selector.close()
        self._selector = selectors.DefaultSelector()
        for member in self.members.values():
            for stream in member.streams:
                if stream.fd >= 0:
                    self._selector.register(stream.fd, selectors.EVENT_READ, (member, stream))

    def _learn(self, container: Container, started: list[Member]) -> None:
        """From a record what the lost answers would have told."""
        step = ""
        if container.exit is not None:
            step = "ended"
        elif container.state in ("running", "paused"):
            step = "started"
        if step:
            self._step(
                Progress(
                    step,
                    container.id,
                    container.name,
                    container.index,
                    container.pid,
                    container.timeline,
                    container.exit,
                ),
                started,
            )

    def _unheard(self, cause: str) -> None:
        """Containers that were made but of whose start nothing was heard count as failed."""
        for member in self.members.values():
            if not member.started and member.code < 0:
                error = AsyncrtError("start", member.name, cause, "see: asyncrt ps -a")
                self._step(Progress("failed", member.id, member.name, member.index, error=error.to_dict()), [])

    def _clean_up(self) -> None:
        ids = tuple(self.members)
        if self._remove and ids:
            for outcome in self._client.remove(ids, force=True, volumes=True):
                if outcome.error is not None:
                    self._live.say(str(from_dict(outcome.error)))

    def _code(self) -> int:
        ordered = sorted(self.members.values(), key=lambda member: member.index)
        codes = [member.code for member in ordered if member.code] + self._lost_starts
        missing = self._number - len(self.members) - len(self._lost_starts)
        if missing > 0:
            say(f"{missing} of {self._number} were not started")
            codes.append(125)
        return codes[0] if codes else int(self._refused is not None)


def _room_for(fds: int) -> None:
    """Lift the soft limit on open files to what the pipes need, as far as the hard one goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < fds:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(fds, hard) if hard >= 0 else fds, hard))
    if 0 <= hard < fds:
        cause = f"it needs {fds} open files, the limit is {hard}"
        raise AsyncrtError("run", "--count", cause, "raise it with ulimit -n, or use -d")
