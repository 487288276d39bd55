"""Hooks as processes of the supervisor's: the state on stdin, a limit in time, what they say kept.

    trouble = await run("createRuntime", hooks, state)          # None, or why the first that failed did
    troubles = await run_all("poststop", hooks, state)

Who runs what, where and when: docs/walks/hooks.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import structlog
import trio

from shimd.errors import Trouble
from shimd.linux import signals
from shimd.spec import text
from shimd.spec.config import Hook

SECONDS = 30.0  # for a hook that says nothing of it: a container must not wait for ever
AT_ONCE = 16
KEPT = 64 * 1024  # bytes of each of its streams that are told
LAST_WORDS_SECONDS = 0.5  # for what lies in its pipes when it has ended
KEPT_WORDS = 2048  # of a failed one's words, the end, in the error
_DEED = "error running hook"  # what runc's callers look for
_log = structlog.get_logger("asyncrt.supervisor.hooks")

State = Mapping[str, Any]
Function = Callable[[State], Awaitable[None]]
"""An embedder's own hook. What it raises is its failure."""


class Runner:
    """All hooks of one supervisor: bounded, and logged."""

    def __init__(self) -> None:
        self._places = trio.CapacityLimiter(AT_ONCE)

    async def run(self, moment: str, hooks: Sequence[Hook | Function], state: State) -> Trouble | None:
        """One after the other; why the first that failed did."""
        for hook in hooks:
            trouble = await self._run(moment, hook, state)
            if trouble is not None:
                return trouble
        return None

    async def run_all(self, moment: str, hooks: Sequence[Hook | Function], state: State) -> list[Trouble]:
        """Every one, whatever becomes of the others."""
        troubles = [await self._run(moment, hook, state) for hook in hooks]
        return [trouble for trouble in troubles if trouble is not None]

    async def _run(self, moment: str, hook: Hook | Function, state: State) -> Trouble | None:
        async with self._places:
            run = self._program(moment, hook, state) if isinstance(hook, Hook) else self._function(moment, hook, state)
            trouble = await run
        if trouble is not None:
            _log.warning("a hook failed", container=state["id"], moment=moment, error=str(trouble))
        return trouble

    async def _function(self, moment: str, hook: Function, state: State) -> Trouble | None:
        name = getattr(hook, "__qualname__", repr(hook))
        with trio.move_on_after(SECONDS) as limit:
            try:
                await hook(state)
            except Exception as error:  # noqa: BLE001 # a stranger's: whatever it is, it is the hook's failure
                return Trouble(_DEED, name, f"{moment} hook failed: {type(error).__name__}: {error}")
        if limit.cancelled_caught:
            return Trouble(_DEED, name, f"{moment} hook took longer than {SECONDS:g} s")
        return None

    async def _program(self, moment: str, hook: Hook, state: State) -> Trouble | None:
        seconds = float(hook.timeout) if hook.timeout else SECONDS
        said: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        with open_state(state) as stdin:
            try:
                process = await trio.lowlevel.open_process(
                    list(hook.args or (hook.path,)),
                    executable=hook.path,
                    env=environment(hook),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                return Trouble(_DEED, hook.path, (error.strerror or str(error)).lower(), errno=error.errno or 0)
        in_time = False
        try:
            with trio.move_on_after(seconds):
                await _listen(process, said)
                in_time = True
        finally:
            if not in_time:
                await _end(process)
        for stream, words in said.items():
            if words:
                told = words.decode(errors="replace").rstrip()
                _log.info("hook", container=state["id"], moment=moment, path=hook.path, stream=stream, said=told)
        if not in_time:
            return Trouble(_DEED, hook.path, f"{moment} hook took longer than {seconds:g} s")
        return _judged(moment, hook, process.returncode or 0, said)


async def _listen(process: trio.Process, said: dict[str, bytes]) -> None:
    """Until it ended. Its own end counts, not its pipes': what it left in the background may keep those for ever."""

    async def read(name: str, stream: trio.abc.ReceiveStream) -> None:
        async for part in stream:
            said[name] = (said[name] + part)[:KEPT]

    assert process.stdout is not None
    assert process.stderr is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, "stdout", process.stdout)
        nursery.start_soon(read, "stderr", process.stderr)
        await process.wait()
        nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_SECONDS


async def _end(process: trio.Process) -> None:
    """It and what it started: it is not reaped yet, or its group is its own."""
    with trio.CancelScope(shield=True):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _judged(moment: str, hook: Hook, code: int, said: Mapping[str, bytes]) -> Trouble | None:
    if code == 0:
        return None
    how = f"failed with exit code {code}" if code > 0 else f"was killed by signal {-code}, {signals.words(-code)}"
    words = (said["stdout"] + said["stderr"])[-KEPT_WORDS:].decode(errors="replace").strip()
    cause = f"{moment} hook {how}"
    return Trouble(_DEED, hook.path, f"{cause}: {words}" if words else cause)


def environment(hook: Hook) -> dict[str, str]:
    """What it brings, or the supervisor's own (config.md: env of execle)."""
    if hook.env is None:
        return dict(os.environ)
    return dict(entry.split("=", 1) for entry in hook.env if "=" in entry)


@contextlib.contextmanager
def open_state(state: State) -> Iterator[int]:
    """The state in a memfd: a hook that does not read it must not block."""
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.write(dict(state)).encode())
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
