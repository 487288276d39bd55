"""A supervisor without containers: the real protocol on a unix socket, plain processes behind it.

    with FakeSupervisor(path) as fake:
        fake.requests            what was asked, in order
        fake.slow = 0.1          seconds a start takes
        fake.vanish()            every connection drops, the processes go on; it listens again at once

`image` picks what happens: `missing:` is refused whole (NoSuchObject), `absent:` fails to start with
127, `broken:` fails in every third container; everything else runs `args` on this machine. Run by hand it
is a stage for the picture: python -m tests.asyncrt.fake_supervisor SOCKET [SECONDS_A_START]
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, StartFailed
from asyncrt.model import protocol as p
from asyncrt.model.container import Exit
from asyncrt.model.events import Event
from asyncrt.model.image_requests import Pull
from asyncrt.model.options import Options
from asyncrt.sdk.answer import close_all
from tests.asyncrt.fake_container import FakeContainer

Reply = Callable[..., None]

NOBODY = (1 << 22) - 1  # the highest pid there can be: whoever waits for its end need not wait


class FakeSupervisor:
    """Entered, it listens."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.requests: list[Any] = []
        self.containers: dict[str, FakeContainer] = {}
        self.slow = 0.0
        self.lose_attach = 0  # so many subscriptions are lost, as by a death in the middle of them
        self.before: dict[str, Callable[[], None]] = {}  # by request name: runs before it is answered
        self._place = tempfile.TemporaryDirectory(prefix="fake-supervisor-")
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._number = 0

    def __enter__(self) -> "FakeSupervisor":
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish(back=False)
        for container in self.containers.values():
            with contextlib.suppress(Conflict):
                container.signal(signal.SIGKILL)
                container.over.wait(5)
        self._place.cleanup()

    def listen(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def vanish(self, back: bool = True) -> None:
        """As kill -9; `back`: and another comes."""
        assert self._listener is not None
        for link in [self._listener, *self._connections]:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._connections = []
        if back:
            self.listen()
        else:
            os.unlink(self.path)

    def of(self, kind: type) -> list[Any]:
        return [request for request in self.requests if isinstance(request, kind)]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            self._connections.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        reader, lock = p.FrameReader(), threading.Lock()
        with contextlib.suppress(OSError):
            while True:
                data, fds, _, _ = socket.recv_fds(link, 1 << 16, p.MAX_FDS)
                if not data:
                    break
                reader.feed(data, list(fds))
                for body, riders in reader.frames():
                    call = p.decode_call(body)
                    self.requests.append(call.request)
                    arguments = (link, lock, call, riders)
                    threading.Thread(target=self._answer, args=arguments, daemon=True).start()
        link.close()

    def _answer(self, link: socket.socket, lock: threading.Lock, call: p.Call, fds: list[int]) -> None:
        def reply(value: Any, riders: list[int] | None = None) -> None:
            send(p.Item(call.id, value), riders or [])

        def send(message: p.Item | p.End | p.Failure, riders: list[int]) -> None:
            with lock, contextlib.suppress(OSError):
                socket.send_fds(link, [p.frame(message, len(riders))], riders)

        name = type(call.request).__name__.lower()
        if hook := self.before.get(name):
            hook()
        try:
            send(p.End(call.id, getattr(self, f"_do_{name}")(call.request, fds, reply)), [])
        except AsyncrtError as error:
            send(p.Failure(call.id, error.to_dict()), [])
        if name == "shutdown":
            self.vanish(back=False)

    def _find(self, ref: str) -> FakeContainer:
        for container in self.containers.values():
            if ref == container.record.name or container.id.startswith(ref):
                return container
        raise NoSuchObject("find", ref, "no such container", "see: asyncrt ps -a")

    # What each request does; what these return is the End's value.

    def _do_version(self, request: p.Version, fds: list[int], reply: Reply) -> Any:
        return {"version": "fake", "protocol": p.VERSION}

    def _do_info(self, request: p.Info, fds: list[int], reply: Reply) -> Any:
        return {"supervisor_pid": os.getpid(), "containers": {"running": 1}, "images": ["host:"]}

    def _made(self, options: Options, count: int, reply: Reply) -> list[FakeContainer]:
        if options.image == "missing:":
            raise NoSuchObject("run", "image missing:", "no such image")
        if any(options.name == other.record.name for other in self.containers.values() if options.name):
            raise Conflict("create", options.name, "the name is in use", f"asyncrt rm {options.name}")
        made = []
        for index in range(count):
            self._number += 1
            base = options.name or "box"
            name = f"{base}-{index + 1}" if count > 1 else options.name or f"box{self._number}"
            made.append(FakeContainer(Path(self._place.name), self._number, index, name, options))
            self.containers[made[-1].id] = made[-1]
            reply(p.Progress("created", made[-1].id, name, index))
        return made

    def _do_pull(self, request: Pull, fds: list[int], reply: Reply) -> Any:
        return {"name": request.image, "digest": "", "id": ""}

    def _do_create(self, request: p.Create, fds: list[int], reply: Reply) -> Any:
        return [container.id for container in self._made(request.options, request.count, reply)]

    def _do_run(self, request: p.Run, fds: list[int], reply: Reply) -> Any:
        begin = time.monotonic_ns()
        try:
            made = self._made(request.options, request.count, reply)
        except AsyncrtError:
            close_all(fds)
            raise
        for container in made:
            if request.attach:
                for stream, fd in zip(("stdout", "stderr"), fds[-2:], strict=True):
                    if self.lose_attach > 0:
                        os.close(fd)
                    else:
                        container.subscribe(stream, fd, 0)
                self.lose_attach -= 1
            self._start(container, begin, reply, fds[0] if len(fds) == 3 else None)
            close_all(fds[:-2])
        return [container.id for container in made]

    def _start(self, container: FakeContainer, begin: int, reply: Reply, stdin: int | None = None) -> None:
        told = (container.id, container.record.name, container.record.index)
        try:
            container.start(begin, self.slow, stdin)
        except AsyncrtError as error:
            for stream in ("stdout", "stderr"):
                container._ended.add(stream)
                close_all(container._subscribers[stream])
            reply(p.Progress("failed", *told, error=error.to_dict()))
        else:
            reply(p.Progress("started", *told, container.record.pid, container.record.timeline))

    def _do_start(self, request: p.Start, fds: list[int], reply: Reply) -> Any:
        for ref in request.refs:
            self._start(self._find(ref), time.monotonic_ns(), reply)

    def _do_list(self, request: p.List, fds: list[int], reply: Reply) -> Any:
        records = [container.record for container in self.containers.values()]
        shown = [record for record in records if request.all or record.state == "running"]
        for at in range(0, len(shown), 2):
            reply(shown[at : at + 2])

    def _do_inspect(self, request: p.Inspect, fds: list[int], reply: Reply) -> Any:
        return [self._find(ref).record for ref in request.refs]

    def _do_wait(self, request: p.Wait, fds: list[int], reply: Reply) -> Any:
        found = [self._find(ref) for ref in request.refs]
        ends = []
        for container in found:
            container.over.wait()
            record = container.record
            ends.append(p.Progress("ended", record.id, record.name, record.index, exit=record.exit))
            reply(ends[-1])
        return ends

    def _each(self, refs: tuple[str, ...], reply: Reply, deed: Callable[[FakeContainer], None]) -> None:
        for ref in refs:
            try:
                container = self._find(ref)
                deed(container)
                reply(p.Outcome(ref, container.id))
            except AsyncrtError as error:
                reply(p.Outcome(ref, error=error.to_dict()))

    def _do_kill(self, request: p.Kill, fds: list[int], reply: Reply) -> Any:
        self._each(request.refs, reply, lambda container: container.signal(request.signal))

    def _do_stop(self, request: p.Stop, fds: list[int], reply: Reply) -> Any:
        self._each(request.refs, reply, lambda container: container.signal(signal.SIGTERM))

    def _do_remove(self, request: p.Remove, fds: list[int], reply: Reply) -> Any:
        def remove(container: FakeContainer) -> None:
            if container.record.state == "running":
                if not request.force:
                    raise Conflict("remove", container.record.name, "it runs", "stop it, or use -f")
                container.signal(signal.SIGKILL)
                container.over.wait()
            del self.containers[container.id]

        self._each(tuple(self.containers) if request.all else request.refs, reply, remove)

    def _do_logs(self, request: p.Logs, fds: list[int], reply: Reply) -> Any:
        names = ["stdout", "stderr", "index"]
        files = [os.open(self._find(request.ref).place / name, os.O_RDONLY) for name in names]
        reply(names, files)
        close_all(files)

    def _do_attach(self, request: p.Attach, fds: list[int], reply: Reply) -> Any:
        container, left = self._find(request.ref), list(fds)
        self.lose_attach -= 1
        if self.lose_attach >= 0:
            close_all(fds)
            return p.Attached(max(-1, request.stdout), max(-1, request.stderr))
        for stream, offset in (("stdout", request.stdout), ("stderr", request.stderr)):
            if offset != -1:
                container.subscribe(stream, left.pop(0), max(0, offset))
        return p.Attached(max(-1, request.stdout), max(-1, request.stderr))

    def _do_exec(self, request: p.Exec, fds: list[int], reply: Reply) -> Any:
        try:
            self._find(request.ref)
            if request.options.args[0] == "absent":
                raise StartFailed("exec", "absent", "executable not found", code=127)
            process = subprocess.Popen(request.options.args, stdin=fds[0], stdout=fds[1], stderr=fds[2])
        finally:
            close_all(fds)
        reply({"exec": "1", "pid": process.pid})
        code = process.wait()
        return Exit(128 - code if code < 0 else code)

    def _do_events(self, request: p.Events, fds: list[int], reply: Reply) -> Any:
        for seq in range(max(request.after, 0) + 1, 4):
            reply(Event(seq, 1_700_000_000_000_000_000 + seq, "start", "ab" * 32, "box", {"pid": seq}))
        while request.follow:
            time.sleep(0.05)

    def _do_shutdown(self, request: p.Shutdown, fds: list[int], reply: Reply) -> Any:
        return {"supervisor_pid": NOBODY}


def stage(path: str, slow: float) -> Iterator[None]:
    """For the eye."""
    with FakeSupervisor(path) as fake:
        fake.slow = slow
        while True:
            yield
            time.sleep(1)


if __name__ == "__main__":
    for _ in stage(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0):
        pass
