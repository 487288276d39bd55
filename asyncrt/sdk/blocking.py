"""A synchronous client of the native API.

    with Client("/run/asyncrt/asyncrt.sock") as client:
        for progress in client.run(Options(image="host:", args=("true",))):
            print(progress.step, progress.id)

One thread uses it at a time. Several calls may be open at once: each has its own Answer, and whoever waits
for one sorts the frames of the others into theirs. It waits in poll(2), where nothing has been read yet, so
an interruption (KeyboardInterrupt) there leaves the connection whole; an interruption in the middle of a
frame closes it.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from asyncrt.errors import Unavailable
from asyncrt.model.container import Container, Exit
from asyncrt.model.events import Event
from asyncrt.model.image import BlobProgress, ImageSummary
from asyncrt.model.image_requests import Images, Load, Pull, Push, RemoveImage, Save, Tag
from asyncrt.model.moving_requests import Copy, Login, Logout, Unpack
from asyncrt.model.options import ExecOptions, Options
from asyncrt.model.protocol import (
    AnyRequest,
    Attach,
    Create,
    Events,
    Exec,
    Info,
    Inspect,
    Kill,
    List,
    Logs,
    Outcome,
    Pause,
    Progress,
    Remove,
    Run,
    Shutdown,
    Start,
    StatsOf,
    Stop,
    Top,
    Unpause,
    Update,
    Version,
    Wait,
)
from asyncrt.model.stats import Process, Stats
from asyncrt.model.tree_requests import (
    Commit,
    CopyFrom,
    CopyTo,
    Diff,
    Export,
    Import,
    InspectImages,
    PathStat,
    PruneImages,
    Stat,
)
from asyncrt.sdk import copying
from asyncrt.sdk.answer import Answer, each, typed
from asyncrt.sdk.door import dial
from asyncrt.sdk.exchange import Exchange


class Client:
    """One connection to the supervisor. `timeout`: seconds without any frame after which a wait gives up.

    `link` is a socket that is connected already (door.open_door); without, connect() makes one.
    """

    def __init__(self, socket_path: str, timeout: float | None = None, link: socket.socket | None = None) -> None:
        self.path = socket_path
        self._timeout = timeout
        self._exchange = Exchange(link, socket_path) if link is not None else None

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Unavailable where nobody listens; its __cause__ is the OSError."""
        if self._exchange is None:
            self._exchange = Exchange(dial(self.path), self.path)

    def close(self) -> None:
        """Calls that still wait end as Unavailable; nothing that was done is undone."""
        if self._exchange is not None:
            self._exchange.lose("the connection was closed")

    def fileno(self) -> int:
        """For a selector: readable means that receive() will not block. -1 once it is closed."""
        return self._exchange.link.fileno() if self._exchange is not None else -1

    def call(self, request: AnyRequest, fds: Sequence[int] = ()) -> Answer:
        """Send a request, now. The fds stay the caller's, who may close them at once."""
        exchange = self._exchange
        if exchange is None:
            raise Unavailable("ask", f"the supervisor at {self.path}", "the connection is closed")
        answer, data = exchange.open(request, lambda number: Answer(number, self.receive), len(fds))
        try:
            rest = exchange.send(data, fds)
            if rest:
                exchange.link.sendall(rest, socket.MSG_NOSIGNAL)
        except OSError as error:
            # What it had said before it went may still be read, but no answer to this will come.
            raise exchange.lose("supervisor went away") from error
        except BaseException:
            exchange.lose("interrupted in the middle of a request")
            raise
        return answer

    def receive(self, timeout: float | None = None) -> bool:
        """Take in what comes within `timeout` seconds (None: the client's), False if nothing did.

        The end of the connection is no error here: it is told to every answer that waits.
        """
        exchange = self._exchange
        if exchange is None or exchange.lost is not None:
            return False
        patience = self._timeout if timeout is None else timeout
        poll = select.poll()
        poll.register(exchange.link, select.POLLIN)
        if not poll.poll(None if patience is None else max(0, patience) * 1000):
            if timeout is None:
                exchange.lose(f"no answer within {patience} s")
            return False
        exchange.take()
        return True

    # One helper per request, in the protocol's order.

    def version(self) -> dict[str, Any]:
        return typed(self.call(Version()).result(), dict[str, Any])

    def info(self) -> dict[str, Any]:
        return typed(self.call(Info()).result(), dict[str, Any])

    def create(self, options: Options, count: int = 1) -> Iterator[Progress]:
        return each(self.call(Create(options, count)), Progress)

    def run(
        self, options: Options, count: int = 1, attach: bool = False, fds: Sequence[int] = ()
    ) -> Iterator[Progress]:
        """Create and start; with `attach` the fds are [stdin] stdout stderr, and stdin's EOF is the container's."""
        return each(self.call(Run(options, count, attach, attach), fds), Progress)

    def start(self, refs: Iterable[str]) -> Iterator[Progress]:
        return each(self.call(Start(tuple(refs))), Progress)

    def containers(self, all: bool = False) -> list[Container]:
        """Running ones, or all."""
        chunks = each(self.call(List(all)), list[Container])
        return [container for chunk in chunks for container in chunk]

    def inspect(self, refs: Iterable[str]) -> list[Container]:
        return typed(self.call(Inspect(tuple(refs))).result(), list[Container])

    def wait(self, refs: Iterable[str]) -> list[Progress]:
        """How each ended, in the order asked; blocks until the last has."""
        return typed(self.call(Wait(tuple(refs))).result(), list[Progress])

    def kill(self, refs: Iterable[str], signal: int = 9, all: bool = False) -> Iterator[Outcome]:
        return each(self.call(Kill(tuple(refs), signal, all)), Outcome)

    def stop(self, refs: Iterable[str], timeout: float = 10.0) -> Iterator[Outcome]:
        """SIGTERM, then SIGKILL after `timeout` seconds."""
        return each(self.call(Stop(tuple(refs), timeout)), Outcome)

    def remove(self, refs: Iterable[str] = (), force: bool = False, all: bool = False) -> Iterator[Outcome]:
        return each(self.call(Remove(tuple(refs), force, all)), Outcome)

    def pause(self, refs: Iterable[str]) -> Iterator[Outcome]:
        return each(self.call(Pause(tuple(refs))), Outcome)

    def unpause(self, refs: Iterable[str]) -> Iterator[Outcome]:
        return each(self.call(Unpause(tuple(refs))), Outcome)

    def update(self, wish: Update) -> Iterator[Outcome]:
        return each(self.call(wish), Outcome)

    def stats(self, refs: Iterable[str] = (), interval: float = 1.0, stream: bool = False) -> Iterator[list[Stats]]:
        """Samples of those named, or of all that run: once, or every `interval` seconds."""
        return each(self.call(StatsOf(tuple(refs), interval, stream)), list[Stats])

    def top(self, ref: str) -> list[Process]:
        return typed(self.call(Top(ref)).result(), list[Process])

    def pull(self, image: str, platform: str = "", missing: bool = False) -> Iterator[BlobProgress]:
        """Fetch and unpack; with `missing` only what is not here."""
        return each(self.call(Pull(image, platform, missing)), BlobProgress)

    def push(self, image: str) -> Iterator[BlobProgress]:
        return each(self.call(Push(image)), BlobProgress)

    def images(self) -> list[ImageSummary]:
        return typed(self.call(Images()).result(), list[ImageSummary])

    def tag(self, image: str, name: str) -> None:
        self.call(Tag(image, name)).result()

    def remove_images(self, refs: Iterable[str], force: bool = False) -> Iterator[Outcome]:
        return each(self.call(RemoveImage(tuple(refs), force)), Outcome)

    def load(self, fd: int) -> list[str]:
        """The names of the images in the archive that `fd` gives (a file or a pipe)."""
        return typed(self.call(Load(), (fd,)).result(), list[str])

    def save(self, refs: Iterable[str], fd: int, format: str = "") -> None:
        """One archive of these images into `fd`; with "oci-dir" a layout into that directory. See Save."""
        self.call(Save(tuple(refs), format), (fd,)).result()

    def copy(self, wish: Copy) -> Iterator[BlobProgress]:
        """An image from one place to another, as `asyncrt copy`; paths are absolute."""
        return each(self.call(wish), BlobProgress)

    def unpack(self, image: str, path: str, platform: str = "", what: str = "bundle") -> str:
        """An image into a new directory, as a bundle, "rootfs" or "config"; its name in full."""
        return typed(self.call(Unpack(image, path, platform, what)).result(), dict[str, str])["name"]

    def login(self, host: str, user: str, password: str) -> str:
        """Try and keep credentials; where they are kept."""
        return typed(self.call(Login(host, user, password)).result(), dict[str, str])["kept"]

    def logout(self, host: str) -> bool:
        """Forget them; whether there were any."""
        return typed(self.call(Logout(host)).result(), dict[str, bool])["gone"]

    def inspect_images(self, refs: Iterable[str]) -> list[dict[str, Any]]:
        """Documents as docker's `image inspect` has them; History is the steps, the newest first."""
        return typed(self.call(InspectImages(tuple(refs))).result(), list[dict[str, Any]])

    def prune_images(self, all: bool = False) -> dict[str, list[str]]:
        """Forget images without a name that no container stands on, or all such images; what went."""
        return typed(self.call(PruneImages(all)).result(), dict[str, list[str]])

    def diff(self, ref: str) -> list[tuple[str, str]]:
        """(A, C or D; path) of what a container changed."""
        return typed(self.call(Diff(ref)).result(), list[tuple[str, str]])

    def export(self, ref: str, fd: int) -> None:
        """A container's tree as a tar into `fd`."""
        self.call(Export(ref), (fd,)).result()

    def commit(self, wish: Commit) -> dict[str, str]:
        """An image of a container: its name, digest and id."""
        return typed(self.call(wish).result(), dict[str, str])

    def import_(self, wish: Import, fd: int) -> dict[str, str]:
        """An image of the tar that `fd` gives: its name, digest and id."""
        return typed(self.call(wish, (fd,)).result(), dict[str, str])

    def stat(self, ref: str, path: str, follow: bool = False) -> Stat:
        """What a path in a container is."""
        return typed(self.call(PathStat(ref, path, follow)).result(), Stat)

    def copy_from(self, ref: str, path: str, target: str | int, follow: bool = False, owners: bool = False) -> int:
        """Copy out of a container, to a local path by docker's rules or, to an fd, as a tar; the count of entries."""
        contents = copying.is_contents(path)
        if isinstance(target, int):
            wish = CopyFrom(ref, path, contents=contents, follow=follow)
            return int(self.call(wish, (target,)).result())
        found = self.stat(ref, path, follow)
        with copying.destination(target, found, contents) as end:
            wish = CopyFrom(ref, path, end.name, end.contents, follow, owners)
            return int(self.call(wish, (end.fd,)).result())

    def copy_to(self, ref: str, source: str | int, path: str, follow: bool = False, owners: bool = False) -> int:
        """Copy a local path, or the tar that an fd gives, into a container; the count of entries."""
        if isinstance(source, int):
            return int(self.call(CopyTo(ref, path), (source,)).result())
        with copying.source(source, follow) as end:
            wish = CopyTo(ref, path, end.name, end.called, end.contents, owners)
            return int(self.call(wish, (end.fd,)).result())

    def logs(self, ref: str) -> dict[str, int]:
        """Open fds by name: stdout, stderr, index, those that exist. The caller closes them."""
        answer = self.call(Logs(ref))
        files: dict[str, int] = {}
        for names, fds in answer:
            files.update(zip(typed(names, list[str]), fds, strict=False))
        return files

    def attach(self, ref: str, fds: Sequence[int], stdin: bool = False, stdout: int = 0, stderr: int = 0) -> None:
        """Subscribe fds ([stdin] [stdout] [stderr], pipe ends) from these offsets; returns once it is so."""
        self.call(Attach(ref, stdin, stdout, stderr), fds).result()

    def execute(self, ref: str, options: ExecOptions, fds: Sequence[int]) -> Answer:
        """Exec with stdin, stdout, stderr. Item: {"exec", "pid"}; `exit_of(answer)` waits for the end."""
        return self.call(Exec(ref, options), fds)

    def events(self, after: int = -1, follow: bool = True) -> Iterator[Event]:
        return each(self.call(Events(after, follow)), Event)

    def shutdown(self) -> int:
        """The pid of the supervisor that ends; wait_closed() returns once it is gone."""
        return int(typed(self.call(Shutdown()).result(), dict[str, int]).get("supervisor_pid", 0))

    def wait_closed(self, timeout: float) -> bool:
        """Whether the supervisor closed the connection, within `timeout` seconds without a frame."""
        while self.fileno() >= 0:
            if not self.receive(timeout):
                return False
        return True


def exit_of(answer: Answer) -> Exit:
    """How an exec ended; blocks."""
    return typed(answer.result(), Exit)
