"""What every use case needs, built once by the daemon and handed on."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import trio

from asyncrt.engine.events import Bus
from asyncrt.engine.hooks import Household
from asyncrt.engine.images import Images
from asyncrt.engine.sweeping import Directories, Sweeper
from asyncrt.engine.table import Table
from asyncrt.errors import Conflict
from asyncrt.metadata.changes import AppendEvent, PutContainer
from asyncrt.metadata.writer import Writer
from asyncrt.model.container import Container
from asyncrt.supervisor.cgroups import Cgroups
from asyncrt.supervisor.monitor import Monitor, News
from asyncrt.supervisor.promise import Promise
from asyncrt.supervisor.task import Task
from asyncrt.supervisor.trees import Trees
from asyncrt.supervisor.zygote import Zygote
from shimd.linux import freezer
from shimd.spec.config import Process

# Starts under way at once: enough to keep every core busy while some wait for the kernel, few enough that they do
# not only wait for each other's locks (measured on 2 cores: 4 to 16 are alike, 64 costs 15 %).
STARTS_PER_CPU = 4
REMEMBERED = 4096  # containers that were removed and whose end may still be asked for


class Engine:
    """The shared state. All use cases run on trio's thread; what blocks goes to worker threads."""

    def __init__(
        self,
        root: Path,
        state: Path,
        writer: Writer,
        bus: Bus,
        zygote: Zygote,
        cgroups: Cgroups,
        directories: Directories,
        images: Images,
        nursery: trio.Nursery,
        hooks: Household,
    ) -> None:
        self.root = root
        self.state = state
        self.writer = writer
        self.bus = bus
        self.zygote = zygote
        self.cgroups = cgroups
        self.directories = directories
        self.images = images
        self.hooks = hooks
        self.sweeper = Sweeper(directories)
        self.trees = Trees([Path("/"), root, state])
        self.nursery = nursery
        """Jobs that outlive the request that began them."""
        self.table = Table()
        self.tasks: dict[str, Task] = {}
        """Running containers, and those that are being started, by container id."""
        self.bases: dict[str, Process] = {}
        """The processes of containers in which something was exec'd, until they are removed (engine/execute.py)."""
        self.beginning: set[str] = set()
        """Containers whose start was asked for, until it is over, however it went."""
        self.leaving: dict[str, Task] = {}
        """Shims whose container ended and that have not gone yet: a slow reader, a full disk."""
        self.handled: dict[str, trio.Event] = {}
        """Containers that do not run and whose tree somebody works in: who starts or removes them waits."""
        self.removing: dict[str, Promise[None]] = {}
        """Removals under way, by container id: who wants the same waits for them."""
        self.departed: OrderedDict[str, Container] = OrderedDict()
        """Last record of removed containers: a wait that comes late is still answered."""
        self.monitor = Monitor(cgroups.hierarchies, self.limit_did)
        self.starting = trio.CapacityLimiter(STARTS_PER_CPU * (os.cpu_count() or 1))

    def record(self, container: Container, action: str = "", **attributes: str | int) -> None:
        """Remember a new state of a container, and that something happened; durable soon, nobody waits."""
        self.table.put(container)
        changes: list[PutContainer | AppendEvent] = [PutContainer(container)]
        if action:
            changes.append(AppendEvent(action, container.id, container.name, attributes))
        self.writer.submit(changes)

    def note(self, action: str, container: Container, **attributes: str | int) -> None:
        """Something happened that changes no record."""
        self.writer.submit([AppendEvent(action, container.id, container.name, attributes)])

    def limit_did(self, id: str, news: News) -> None:
        """A limit of a running container killed something of it, or held it back; or somebody froze it."""
        container = self.table.get(id)
        if container is None:
            return
        if news.kind in ("frozen", "thawed"):
            self.note(news.kind, container)
            return
        knows = msgspec.structs.replace(container, told=container.told | {news.kind: news.total})
        if news.kind == "oom":
            self.record(knows, "oom", kills=news.more, total=news.total, cgroup=news.cgroup)
        else:
            self.record(knows, news.kind, hits=news.more, total=news.total)

    @contextlib.asynccontextmanager
    async def held(self, id: str, deed: str, name: str) -> AsyncIterator[None]:
        """While a container's tree is worked in. Conflict: it is about to run, or to be removed."""
        while (other := self.handled.get(id)) is not None:
            await other.wait()
        if id in self.beginning or id in self.tasks or id in self.removing or id not in self.table:
            raise Conflict(deed, name, "it is being started or removed", "try again")
        self.handled[id] = over = trio.Event()
        try:
            yield
        finally:
            del self.handled[id]
            over.set()

    async def let_go(self, id: str) -> None:
        """Wait until nobody works in a container's tree."""
        while (other := self.handled.get(id)) is not None:
            await other.wait()

    def thaw(self, id: str) -> None:
        """Let a paused container go on, the record first (engine/pause.py); OSError. Another is left as it is."""
        container = self.table.get(id)
        if container is not None and container.state == "paused":
            self.record(msgspec.structs.replace(container, state="running"), "unpause")
            freezer.thaw(*self.cgroups.freezer(id))

    def bury(self, container: Container) -> None:
        """Forget a removed container, but for those who ask how it ended."""
        self.table.drop(container.id)
        self.bases.pop(container.id, None)
        self.cgroups.drop(container.id)
        self.hooks.drop(container.id)
        self.departed[container.id] = container
        if len(self.departed) > REMEMBERED:
            self.departed.popitem(last=False)

    def shim_socket(self, id: str) -> Path:
        return self.state / "shims" / f"{id}.sock"
