"""One run: print so many bytes to both streams and end with such a code, in one of four ways.

Whatever the supervisor does meanwhile, a client knows what to do:

- no `created` came: nothing was started, ask again;
- a container that its successor knows as created was not started, one that nobody knows was taken back: ask again;
- else it runs or ran: wait for its exit, and attach for what has not come yet (both pipes have ended by then).
"""

import contextlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from asyncrt.errors import Conflict, NoSuchObject, Unavailable
from asyncrt.model.container import Exit
from asyncrt.model.options import ExecOptions, Options
from asyncrt.model.protocol import NOT_THIS, Exec, Progress, Run, WaitExec
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.blocking import Client, exit_of
from tests.soak.reckoning import Reckoning

MOST = 1 << 20
PATIENCE = 90.0  # seconds for one run, restarts of the supervisor included; beyond it hangs
STREAMS = ("stdout", "stderr")
WAYS = ("attached", "detached", "executed")
T = TypeVar("T")


class Job(NamedTuple):
    """What a run is to print and how it is to end."""

    number: int
    sizes: tuple[int, int]
    code: int

    @property
    def args(self) -> tuple[str, ...]:
        out, err = self.sizes
        return ("sh", "-c", f"head -c {err} /pattern >&2 & head -c {out} /pattern; wait; exit {self.code}")


def job(number: int, dice: random.Random) -> Job:
    """Sizes from 0 to a MiB, small ones more often than large."""
    sizes = [dice.choice((0, dice.randrange(200), dice.randrange(70_000), dice.randrange(MOST + 1))) for _ in STREAMS]
    return Job(number, (sizes[0], sizes[1]), dice.choice((0, 0, 1, 7, 125, 255)))


class Hang(Exception):
    """It took longer than PATIENCE."""


class Pipe:
    """Our end of a stream, read by a thread until its end."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe2(os.O_CLOEXEC)
        self.found = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._ours, 1 << 16):
            self.found += data
        os.close(self._ours)

    def hand_over(self) -> None:
        """The other side has it now."""
        os.close(self.theirs)
        self.theirs = -1

    def end(self, deadline: float) -> None:
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            raise Hang("a stream without its end")


class Worker:
    """One client after another of one engine. `wake` starts a supervisor where none is."""

    def __init__(
        self, path: str, image: str, pattern: bytes, reckoning: Reckoning, wake: Callable[[], None], box: str
    ) -> None:
        self.path = path
        self.image = image
        self.pattern = pattern
        self.reckoning = reckoning
        self.wake = wake
        self.box = box
        """A container that lives throughout, for execs."""

    def do(self, work: Job, dice: random.Random) -> None:
        """One run in one of the ways, and the judgement of it."""
        way = dice.choice((self.attached, self.attached, self.detached, self.executed))
        deadline = time.monotonic() + PATIENCE
        what = f"run {work.number} ({way.__name__}, {work.sizes}, code {work.code})"
        try:
            code, found = way(work, deadline)
        except Hang as error:
            self.reckoning.fault("hang", f"{what}: {error}")
            return
        except Exception as error:  # noqa: BLE001 # whatever it is, it is a fault of the run, and the next one goes on
            self.reckoning.fault("error", f"{what}: {type(error).__name__}: {error}")
            return
        self.reckoning.count(way.__name__)
        if code != work.code:
            self.reckoning.fault("wrong code", f"{what}: {code}")
        for stream, size, data in zip(STREAMS, work.sizes, found, strict=True):
            self.reckoning.judge(what, stream, self.pattern[:size], data)

    def ask(self, deadline: float, question: Callable[[Client], T]) -> T:
        """An answer from this supervisor or from one of its successors."""
        while True:
            try:
                with Client(self.path, timeout=max(1.0, deadline - time.monotonic())) as client:
                    return question(client)
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise Hang(str(error)) from error
                self.reckoning.count("asked again")
                self.wake()

    # attached

    def attached(self, work: Job, deadline: float) -> tuple[int, list[bytes]]:
        while True:
            pipes = [Pipe(), Pipe()]
            id, exit = self._run(work, deadline, pipes)
            if id and exit is None:
                exit = self._exit(id, deadline)
            for pipe in pipes:
                pipe.end(deadline)
            if exit is None:
                self.reckoning.count("taken back")
                continue
            self._fetch_rest(id, exit, pipes, deadline)
            self.remove(id, deadline)
            return exit.code, [bytes(pipe.found) for pipe in pipes]

    def _run(self, work: Job, deadline: float, pipes: list[Pipe]) -> tuple[str, Exit | None]:
        """(id, exit) as far as they were heard of."""
        id, exit = "", None
        try:
            with Client(self.path, timeout=max(1.0, deadline - time.monotonic())) as client:
                answer = client.call(Run(Options(self.image, work.args), 1, True), [pipe.theirs for pipe in pipes])
                for pipe in pipes:
                    pipe.hand_over()
                for value, _ in answer:
                    step = typed(value, Progress)
                    id, exit = step.id or id, step.exit or exit
        except Unavailable:
            self.wake()
        finally:
            for pipe in pipes:
                if pipe.theirs >= 0:
                    pipe.hand_over()
        return id, exit

    def _exit(self, id: str, deadline: float) -> Exit | None:
        """How it ended; None if it was never started, and then it is gone."""

        def question(client: Client) -> Exit | None:
            try:
                [container] = client.inspect([id])
                if container.state in ("creating", "created"):
                    list(client.remove([id], force=True))
                    return None
                return client.wait([id])[0].exit
            except NoSuchObject:
                return None

        return self.ask(deadline, question)

    def _fetch_rest(self, id: str, exit: Exit, pipes: list[Pipe], deadline: float) -> None:
        """What did not come because the supervisor died before the shim had our pipes."""
        wanted = [size if len(pipe.found) < size else -1 for pipe, size in zip(pipes, self._sizes(exit), strict=True)]
        if wanted == [-1, -1]:
            return
        self.reckoning.count("fetched later")
        rest = [Pipe() if size >= 0 else None for size in wanted]
        at = [len(pipe.found) if more else NOT_THIS for pipe, more in zip(pipes, rest, strict=True)]
        handed = [pipe.theirs for pipe in rest if pipe]
        self.ask(deadline, lambda client: client.attach(id, handed, stdout=at[0], stderr=at[1]))
        for pipe, more in zip(pipes, rest, strict=True):
            if more:
                more.hand_over()
                more.end(deadline)
                pipe.found += more.found

    @staticmethod
    def _sizes(exit: Exit) -> tuple[int, int]:
        return exit.stdout_bytes, exit.stderr_bytes

    # detached: its log is read when it has ended

    def detached(self, work: Job, deadline: float) -> tuple[int, list[bytes]]:
        while True:
            id = ""
            try:
                with Client(self.path, timeout=max(1.0, deadline - time.monotonic())) as client:
                    for step in client.run(Options(self.image, work.args)):
                        id = step.id or id
            except Unavailable:
                self.wake()
            exit = self._exit(id, deadline) if id else None
            if exit is None:
                self.reckoning.count("taken back")
                continue
            found = self._logs(id, deadline)
            self.remove(id, deadline)
            return exit.code, found

    def _logs(self, id: str, deadline: float) -> list[bytes]:
        files = self.ask(deadline, lambda client: client.logs(id))
        try:
            return [os.pread(files[name], 2 * MOST, 0) if name in files else b"" for name in STREAMS]
        finally:
            close_all(files.values())

    # exec

    def executed(self, work: Job, deadline: float) -> tuple[int, list[bytes]]:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                id = secrets.token_hex(16)
                pipes = [Pipe(), Pipe()]
                exit = self._exec(id, work, deadline, null, pipes)
                for pipe in pipes:
                    pipe.end(deadline)
                if exit is not None:
                    return exit.code, [bytes(pipe.found) for pipe in pipes]
                self.reckoning.count("taken back")
        finally:
            os.close(null)

    def _exec(self, id: str, work: Job, deadline: float, null: int, pipes: list[Pipe]) -> Exit | None:
        """How it ended; None if it was never begun."""
        try:
            with Client(self.path, timeout=max(1.0, deadline - time.monotonic())) as client:
                fds = [null, *(pipe.theirs for pipe in pipes)]
                answer = client.call(Exec(self.box, ExecOptions(work.args), id), fds)
                for pipe in pipes:
                    pipe.hand_over()
                return exit_of(answer)
        except Unavailable:
            self.wake()
        finally:
            for pipe in pipes:
                if pipe.theirs >= 0:
                    pipe.hand_over()

        def question(client: Client) -> Exit | None:
            try:
                return typed(client.call(WaitExec(self.box, id)).result(), Exit)
            except Conflict:
                return None

        return self.ask(deadline, question)

    def remove(self, id: str, deadline: float) -> None:
        with contextlib.suppress(NoSuchObject):
            for outcome in self.ask(deadline, lambda client: list(client.remove([id]))):
                if outcome.error is not None and outcome.error.get("kind") != "no-such-object":
                    raise RuntimeError(str(outcome.error))
