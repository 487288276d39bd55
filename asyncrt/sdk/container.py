"""A container in the hands of a program.

async with asyncrt.connect() as rt, rt.run("host:", ["cat"], stdin=True) as container:
    await container.stdin.send(b"hello\\n")
    await container.stdin.aclose()
    async for line in container.stdout.lines():
        print(line)
    print((await container.wait()).code)
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Literal

from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, Unavailable, from_dict
from asyncrt.model.container import Container as Record
from asyncrt.model.container import Exit
from asyncrt.model.image_requests import RemoveImage
from asyncrt.model.limits import Limits
from asyncrt.model.options import Options
from asyncrt.model.protocol import (
    NOT_THIS,
    Attach,
    Attached,
    CloseStdin,
    Inspect,
    Kill,
    Outcome,
    Pause,
    PressureOf,
    Progress,
    Remove,
    Resize,
    Start,
    StatsOf,
    Stop,
    Unpause,
    Update,
    Version,
    Wait,
)
from asyncrt.model.stats import Stats
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.connection import Reach
from asyncrt.sdk.deadlines import within
from asyncrt.sdk.following import Log, PressureStream
from asyncrt.sdk.gather import KEPT, Completed, gather
from asyncrt.sdk.pipes import Source
from asyncrt.sdk.process import Process, running
from asyncrt.sdk.streams import ATTEMPTS, Input, Output, Subscription
from asyncrt.sdk.trees import Trees
from asyncrt.sdk.wishes import Env, exec_wish

StreamName = Literal["stdout", "stderr"]


class Container(Trees):
    """A handle: it holds an id, not the container. Calls raise NoSuchObject once that was removed.

    Every call takes `timeout`, in seconds, after which it raises TimedOut; anyio's cancel scopes work as well. A call
    that a supervisor dies under raises Unavailable; wait() and the streams go on with its successor instead.
    """

    def __init__(self, reach: Reach, id: str, name: str, options: Options, index: int = 0) -> None:
        self.id = id
        self.name = name
        self.options = options
        self.index = index
        """From 0, within the request that made it; the container finds it in ASYNCRT_INDEX."""
        self.pid = 0
        """In the machine's pid namespace, once it was started from here."""
        self.exit: Exit | None = None
        """How it ended, once wait() has told."""
        self._reach = reach
        self._outputs: dict[str, Output] = {}
        self._made: weakref.WeakSet[Output | Log] = weakref.WeakSet()
        self._input: Input | None = None

    def __repr__(self) -> str:
        return f"<container {self.name} ({self.id[:12]})>"

    # streams

    @property
    def stdout(self) -> Output:
        """What it writes there, from the first byte on; with a terminal, all that it writes. Always the same stream."""
        return self._output("stdout")

    @property
    def stderr(self) -> Output:
        """What it writes there, from the first byte on. Always the same stream."""
        return self._output("stderr")

    @property
    def stdin(self) -> Input:
        """Its stdin. Conflict if it was made without (stdin=True)."""
        if not self.options.stdin:
            raise Conflict("write to", f"stdin of {self.name}", "it was made without", "give stdin=True")
        if self._input is None:
            self._input = Input(self._feed, self._half_close, f"stdin of {self.name}")
        return self._input

    def output(self, stream: StreamName = "stdout", offset: int = 0) -> Output:
        """A stream of its own from a byte offset on, or from asyncrt.OLDEST or asyncrt.FROM_NOW; as many as you like.

        Reading raises Conflict, naming the oldest byte there is, where a bounded log (log_max_bytes) dropped what is
        asked for.
        """
        made = Output(self._subscriber(stream), self._over(stream), offset, f"{stream} of {self.name}")
        self._made.add(made)
        return made

    def close(self) -> None:
        """Let go of its streams, as the end of its block does; the container does not notice."""
        for made in self._made:
            made.close()
        if self._input is not None:
            self._input.let_go()

    def _output(self, stream: StreamName) -> Output:
        if stream not in self._outputs:
            self._outputs[stream] = self.output(stream)
        return self._outputs[stream]

    def _subscriber(self, stream: StreamName) -> Any:
        async def subscribe(offset: int) -> Subscription:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            source = Source(read_end)
            try:
                stdout, stderr = (offset if stream == name else NOT_THIS for name in ("stdout", "stderr"))
                answer, link = await self._reach.call(Attach(self.id, False, stdout, stderr), [write_end])
                close_all([write_end])
                write_end = -1
                begun = typed(await answer.result(), Attached)
            except BaseException:
                source.close()
                raise
            finally:
                close_all([write_end] if write_end >= 0 else [])
            return Subscription(source, getattr(begun, stream), link)

        return subscribe

    def _over(self, stream: StreamName) -> Any:
        async def over(offset: int, ended: Subscription) -> bool:
            """Whether a subscription's end, after `offset` bytes of the stream, is the stream's."""
            if self.exit is not None:
                whole = self.exit.stdout_bytes if stream == "stdout" else self.exit.stderr_bytes
                return bool(self.exit.lost) or offset >= whole
            if self.options.log_max_bytes and offset > ended.offset:
                return False  # a reader that fell behind was cut off: only a subscription that brings nothing tells
            try:
                # Whoever took our pipe lives, so it was not his death that ended it.
                await ended.link.ask(Version())
            except Unavailable:
                return False
            return True

        return over

    async def _feed(self, read_end: int) -> None:
        await self._reach.ask(Attach(self.id, True, NOT_THIS, NOT_THIS), [read_end])

    async def _half_close(self) -> None:
        with suppress(Conflict, NoSuchObject):  # it ended, or closed it itself
            await self._reach.ask(CloseStdin(self.id))

    # deeds

    async def start(self, timeout: float | None = None) -> None:
        """Start it. StartFailed (125, 126 or 127), Conflict if it runs already."""
        with within(timeout, "start", self.name):
            answer, _ = await self._reach.call(Start((self.id,)))
            async for value, fds in answer:
                close_all(fds)
                self._heard(typed(value, Progress))

    def _heard(self, progress: Progress) -> None:
        if progress.error is not None:
            raise from_dict(progress.error)
        self.pid = progress.pid or self.pid

    async def wait(self, timeout: float | None = None) -> Exit:
        """The exit record once it ended: code, signal, times, CPU, memory, OOM kills, bytes of each stream.

        Goes on when the supervisor dies. A container that was never started is waited for until it was.
        """
        with within(timeout, "wait for", self.name):
            for attempt in range(ATTEMPTS):
                if self.exit is not None:
                    break
                try:
                    (ended,) = typed(await self._reach.ask(Wait((self.id,))), list[Progress])
                except Unavailable:
                    if attempt == ATTEMPTS - 1:
                        raise
                    continue
                if ended.error is not None:
                    raise from_dict(ended.error)
                self.exit = ended.exit
        assert self.exit is not None
        return self.exit

    async def inspect(self, timeout: float | None = None) -> Record:
        """Its record: state, pid, timeline, exit (asyncrt/model/container.py)."""
        with within(timeout, "inspect", self.name):
            (record,) = typed(await self._reach.ask(Inspect((self.id,))), list[Record])
        return record

    async def kill(self, signal: int = 9, all: bool = False, timeout: float | None = None) -> None:
        """Send its first process a signal, or `all` of them. Conflict if it does not run."""
        with within(timeout, "kill", self.name):
            await outcomes(self._reach, Kill((self.id,), signal, all))

    async def stop(self, grace: float = 10.0, timeout: float | None = None) -> None:
        """SIGTERM, and SIGKILL where it still runs after `grace` seconds. Conflict if it does not run."""
        with within(timeout, "stop", self.name):
            await outcomes(self._reach, Stop((self.id,), grace))

    async def remove(self, force: bool = False, timeout: float | None = None) -> None:
        """Remove it with its log and layer. Conflict if it runs, unless `force`, which kills it."""
        with within(timeout, "remove", self.name):
            await outcomes(self._reach, Remove((self.id,), force))

    async def pause(self, timeout: float | None = None) -> None:
        """Every process of it stands still until unpause(). Conflict if it does not run."""
        with within(timeout, "pause", self.name):
            await outcomes(self._reach, Pause((self.id,)))

    async def unpause(self, timeout: float | None = None) -> None:
        """Conflict if it is not paused."""
        with within(timeout, "unpause", self.name):
            await outcomes(self._reach, Unpause((self.id,)))

    async def update(
        self,
        *,
        memory: int | None = None,
        cpus: float | None = None,
        cpuset_cpus: str | None = None,
        pids_limit: int | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
    ) -> None:
        """Change limits, now and for its next start: bytes, cores, a list of cores, processes; 0 lifts one.

        What is set in `limits` is changed as well. All or nothing: Conflict says which the kernel refused, BadRequest
        which cannot be given.
        """
        with within(timeout, "update", self.name):
            await outcomes(self._reach, Update((self.id,), memory, cpus, cpuset_cpus, pids_limit, limits or Limits()))

    async def stats(self, timeout: float | None = None) -> Stats:
        """What it uses now (asyncrt/model/stats.py); CPU as the mean since its start. Conflict if it does not run."""
        found: list[Stats] = []
        with within(timeout, "stats of", self.name):
            answer, _ = await self._reach.call(StatsOf((self.id,)))
            async for value, fds in answer:
                close_all(fds)
                found += typed(value, list[Stats])
        if not found:
            raise Conflict("stats of", self.name, "it ended")
        return found[0]

    def pressure(
        self, resource: str, *, some_us: int = 0, full_us: int = 0, window_us: int = 2_000_000
    ) -> PressureStream:
        """Iterates: a reading whenever its tasks waited for `resource` (cpu, io or memory) for `some_us` (some tasks)
        or `full_us` (all at once) within `window_us`; to its end.

            async for reading in container.pressure("memory", some_us=150_000):
                print(reading.some_avg10)

        Conflict where this machine keeps no account of it, BadRequest for what cannot be watched.
        """
        return PressureStream(self._reach, PressureOf(self.id, resource, some_us, full_us, window_us))

    async def resize(self, rows: int, columns: int, timeout: float | None = None) -> None:
        """Set its terminal's size in characters. Conflict if it has none."""
        with within(timeout, "resize", self.name):
            await self._reach.ask(Resize(self.id, rows, columns))

    def logs(
        self,
        follow: bool = False,
        since_ns: int = 0,
        until_ns: int | None = None,
        tail: int | None = None,
    ) -> Log:
        """What it wrote, both streams in their order, as (time_ns, stream, data) per arrival.

        `since_ns` and `until_ns` are times in ns since 1970; `tail` counts lines from the end. `follow` goes on until
        it ended. Conflict if it keeps no log (log_format="none").
        """
        made = Log(self._reach, self.id, follow, since_ns, until_ns, tail)
        self._made.add(made)
        return made

    # exec

    def exec(
        self,
        args: Sequence[str],
        *,
        env: Env = (),
        workdir: str = "",
        user: str = "",
        tty: bool = False,
        rows: int = 0,
        columns: int = 0,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Process]:
        """One more process in it, killed where the block is left before it ended. `timeout` bounds its start.

        Entering raises StartFailed (127: not found, 126: not executable) and Conflict where the container is paused or
        does not run. Empty fields are the container's own; `env` comes on top of its.
        """
        words = {"env": env, "workdir": workdir, "user": user, "tty": tty, "rows": rows, "columns": columns}
        return running(self._reach, self.id, exec_wish(args, **words), timeout)

    async def execute(
        self,
        args: Sequence[str],
        *,
        input: bytes = b"",
        limit: int = KEPT,
        env: Env = (),
        workdir: str = "",
        user: str = "",
        timeout: float | None = None,
    ) -> Completed:
        """An exec from beginning to end: `input` goes to its stdin, the first `limit` bytes of each stream come back.

        What is beyond them is read and dropped. TimedOut after `timeout` seconds, and it is killed. Raises as exec().
        """
        with within(timeout, "exec in", self.name):
            async with self.exec(args, env=env, workdir=workdir, user=user) as process:
                return await gather(process, input, limit)
        raise AssertionError("unreachable")


Deeds = RemoveImage | Kill | Stop | Remove | Pause | Unpause | Update


async def outcomes(reach: Reach, request: Deeds, missing_ok: bool = False) -> None:
    """Put a deed to the supervisor; the first error of one of its containers is raised, once all were tried."""
    answer, _ = await reach.call(request)
    errors: list[AsyncrtError] = []
    async for value, fds in answer:
        close_all(fds)
        if (trouble := typed(value, Outcome).error) is not None:
            errors.append(from_dict(trouble))
    for error in errors:
        if not (missing_ok and isinstance(error, NoSuchObject)):
            raise error
