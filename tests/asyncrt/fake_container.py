"""What the fake supervisor has in place of a container and its shim."""

import contextlib
import os
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from asyncrt.errors import Conflict, StartFailed
from asyncrt.model.container import Container, Exit
from asyncrt.model.options import Options
from asyncrt.sdk.answer import close_all

INDEX = struct.Struct("<QIB3x")


class FakeContainer:
    """A process, its log on disk, its subscribers; what a shim would hold."""

    def __init__(self, place: Path, number: int, index: int, name: str, options: Options) -> None:
        self.id = f"{number:064x}"[::-1]
        self.place = place / str(number)
        self.place.mkdir()
        self.record = Container(self.id, name, options, index, "created", time.time_ns())
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._subscribers: dict[str, list[int]] = {"stdout": [], "stderr": []}
        self._ended: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        for stream in ("stdout", "stderr", "index"):
            (self.place / stream).touch()

    def change(self, **fields: Any) -> None:
        self.record = msgspec.structs.replace(self.record, **fields)

    def start(self, begin: int, slow: float, stdin: int | None = None) -> None:
        """Raises StartFailed."""
        options = self.record.options
        time.sleep(slow)
        if options.image == "absent:" or (options.image == "broken:" and self.record.index % 3 == 1):
            error = StartFailed("start", self.record.name, "executable not found", "is it in the image?", 127)
            self.change(error=str(error), state="stopped")
            raise error
        env = {**os.environ, **dict(pair.split("=", 1) for pair in options.env)}
        self._process = subprocess.Popen(
            [*options.entrypoint, *options.args],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        now = time.monotonic_ns()
        part = (now - begin) // 4
        steps = ("request", "queue", "zygote", "mounts", "exec")
        timeline = tuple((name, begin + part * n) for n, name in enumerate(steps))
        self.change(state="running", pid=self._process.pid, started_ns=time.time_ns(), timeline=timeline)
        self.change(shim_pid=os.getpid())
        threading.Thread(target=self._live, args=(self._process,), daemon=True).start()

    def subscribe(self, stream: str, fd: int, offset: int) -> None:
        with self._lock:
            data = (self.place / stream).read_bytes()[offset:]
            with contextlib.suppress(BrokenPipeError):
                while data:
                    data = data[os.write(fd, data) :]
            if stream in self._ended:
                os.close(fd)
            else:
                self._subscribers[stream].append(fd)

    def signal(self, number: int) -> None:
        if self.record.state != "running" or self._process is None:
            raise Conflict("kill", self.record.name, "it does not run", "", 1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _live(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        assert process.stderr
        copies = [
            threading.Thread(target=self._copy, args=(name, pipe, number), daemon=True)
            for number, (name, pipe) in enumerate((("stdout", process.stdout), ("stderr", process.stderr)), 1)
        ]
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        code = process.wait()
        # The test may be over and its directory gone before the last process is.
        files = [self.place / name for name in ("stdout", "stderr")]
        sizes = [file.stat().st_size if file.exists() else 0 for file in files]
        died = Exit(
            128 - code if code < 0 else code,
            signal=max(0, -code),
            started_ns=self.record.started_ns,
            ended_ns=time.time_ns(),
            stdout_bytes=sizes[0],
            stderr_bytes=sizes[1],
        )
        self.change(state="stopped", exit=died)
        self.over.set()

    def _copy(self, stream: str, pipe: Any, number: int) -> None:
        # A start may still be under way when its test is over and the place is gone.
        with pipe, contextlib.suppress(FileNotFoundError):
            self._copy_all(stream, pipe, number)

    def _copy_all(self, stream: str, pipe: Any, number: int) -> None:
        with (self.place / stream).open("ab") as log, (self.place / "index").open("ab") as index:
            while data := os.read(pipe.fileno(), 65536):
                with self._lock:
                    log.write(data)
                    log.flush()
                    index.write(INDEX.pack(time.time_ns(), len(data), number))
                    index.flush()
                    for fd in list(self._subscribers[stream]):
                        self._tell(stream, fd, data)
        with self._lock:
            self._ended.add(stream)
            fds, self._subscribers[stream] = self._subscribers[stream], []
            close_all(fds)

    def _tell(self, stream: str, fd: int, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(fd, data) :]
        except BrokenPipeError:
            self._subscribers[stream].remove(fd)
            os.close(fd)
