"""What the encoders share: a container's own cells, and the phrases that several operations consist of.

Each phrase makes the calls of a helper in `mounts`, `paths` or `root`, in the same order.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from shimd.container import cgroups, launch, mounts
from shimd.container.making import Anchors
from shimd.container.plan import Plan
from shimd.linux import mounts as kernel
from shimd.linux import paths
from shimd.linux.script import Cell, Label, Script

LAYERS = 128  # of an overlay, in a script
MISSING = (errno.ENOENT, errno.ENOTDIR)
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
IN_ROOT = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS
UNSYMLINKED = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS
CLONE = kernel.OPEN_TREE_CLONE | kernel.OPEN_TREE_CLOEXEC
TYPE = 0o170000  # of st_mode
_ONTO = kernel.MOVE_MOUNT_F_EMPTY_PATH | kernel.MOVE_MOUNT_T_EMPTY_PATH
# statx(2), struct statx: the mode's place and that of the device numbers.
_STATX_BYTES, _STATX_MODE, _STATX_RDEV = 256, 28, 128
_STATX_TYPE = 1


class Unscripted(Exception):
    """This plan, or this container, is for the reference executor."""


class Source(NamedTuple):
    """What open_tree(2) clones: (directory, path, flags), by path unless the Spawn brought an fd for it."""

    directory: Cell
    name: Cell
    flags: Cell


class Own(NamedTuple):
    """The cells that differ from container to container. They lie side by side in this order, from cell 1 on.

    So they are filled in one go: an object for each would be a page of the shim's own memory for each.
    """

    address: Cell
    address_bytes: Cell
    line: Cell
    name: Cell
    keyring: Cell
    hostname: Cell
    hostname_bytes: Cell
    overlay: Cell
    upper: Cell
    work: Cell
    root: Source
    binds: tuple[Source, ...]
    cgroup_paths: tuple[Cell, ...]
    layers: tuple[tuple[Cell, Cell], ...]
    """(path, fd) for each."""


class Phrases:
    """A script in the making, for one plan."""

    def __init__(self, plan: Plan, anchors: Anchors) -> None:
        self.plan = plan
        self.anchors = anchors
        self.script = code = Script()
        binds = [step for step in plan.rooting if isinstance(step, mounts.BindMount)]
        self.cgroup_paths = _cgroup_paths(plan)
        self.own = self._take_cells(len(binds))
        self.binds = tuple((step.source, CLONE | (kernel.AT_RECURSIVE if step.recursive else 0)) for step in binds)
        self.trees = tuple(code.cell() for _ in binds)
        self.stdio = tuple(code.cell() for _ in range(3))
        """init's ends; the first one stays 0, the null device, where the plan keeps no stdin."""
        self.kept = (code.cell(), code.cell(), code.cell())
        """The shim's ends."""
        self.done = (code.cell(), code.cell())
        """A pipe whose other end closes as init execs or ends."""
        self.let_go = code.cell()
        self.listener, self.root, self.cgroup = code.cell(), code.cell(), code.cell()
        self.tasks: list[Cell] = []
        self.environment: dict[str, int] = {}
        self.spare: tuple[int, ...] = ()
        self.stamps: list[tuple[str, Cell]] = []
        self.status = code.room(_STATX_BYTES)
        self.status_mode = code.offset(self.status, _STATX_MODE)
        self.status_rdev = code.offset(self.status, _STATX_RDEV)
        self.pair = code.room(8)
        self.pair_second = code.offset(self.pair, 4)
        self.polled = code.room(8)
        """A struct pollfd."""
        self.null: Cell | None = None

    def _take_cells(self, binds: int) -> Own:
        one = self.script.cell
        # fmt: off
        own = Own(
            one(), one(), one(), one(), one(), one(), one(), one(), one(), one(),
            Source(one(), one(), one()),
            tuple(Source(one(), one(), one()) for _ in range(binds)),
            tuple(one() for _ in self.cgroup_paths),
            tuple((one(), one()) for _ in range(LAYERS)),
        )
        # fmt: on
        assert own.layers[-1][1].number == 13 + 3 * binds + len(self.cgroup_paths) + 2 * LAYERS
        return own

    # what several operations need

    def cgroup_path(self, before: str, after: str = "") -> Cell:
        """The address of a path that has the container's cgroup in the middle."""
        return self.own.cgroup_paths[self.cgroup_paths.index((before, after))]

    def open(self, path: str, flags: int, resolve: int, *missing: Any) -> Cell:
        how = self.script.record("QQQ", flags | os.O_CLOEXEC, 0, resolve)
        expect = missing[0] if missing else None
        return self.script.opened(
            "openat2", self.root, self.script.text(path.strip("/") or "."), how, 24, expect=expect
        )

    def directory(self, path: str, unsymlinked: bool = False) -> Cell:
        """As `mounts._directory`: an fd on the directory to mount on, made if it is missing."""
        code = self.script
        found, missing, done = code.cell(), Label(), Label()
        resolve = UNSYMLINKED if unsymlinked else IN_ROOT
        how = code.record("QQQ", DIRECTORY, 0, resolve)
        within = path.strip("/")
        code.call("openat2", self.root, code.text(within or "."), how, 24, out=found, expect=((errno.ENOENT,), missing))
        code.jump(done)
        code.here(missing)
        parent, _, name = within.rpartition("/")
        above = self.directory(parent) if parent else self.root
        code.attempt("mkdirat", above, code.text(name), 0o755, errors=(errno.EEXIST,))
        code.call("openat2", self.root, code.text(within), code.record("QQQ", DIRECTORY, 0, IN_ROOT), 24, out=found)
        if parent:
            code.close(above)
        code.here(done)
        return found

    def file(self, path: str) -> Cell:
        """As `paths.make_file_in_root`."""
        code = self.script
        found, missing, done = code.cell(), Label(), Label()
        how = code.record("QQQ", os.O_PATH | os.O_CLOEXEC, 0, IN_ROOT)
        within = path.strip("/")
        code.call("openat2", self.root, code.text(within), how, 24, out=found, expect=((errno.ENOENT,), missing))
        code.jump(done)
        code.here(missing)
        parent, _, name = within.rpartition("/")
        above = self.directory(parent) if parent else self.root
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        code.close(code.opened("openat", above, code.text(name), flags, 0o644))
        here = code.record("QQQ", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, paths.RESOLVE_NO_SYMLINKS)
        code.call("openat2", above, code.text(name), here, 24, out=found)
        if parent:
            code.close(above)
        code.here(done)
        return found

    def filesystem(self, kind: str, source: str, attributes: int, parameters: Sequence[tuple[str, str | None]]) -> Cell:
        """As `mounts.make_filesystem`: a detached mount."""
        code = self.script
        configuration = code.opened("fsopen", code.text(kind), kernel.FSOPEN_CLOEXEC)
        for key, value in ([("source", source)] if source else []) + list(parameters):
            how = kernel.FSCONFIG_SET_FLAG if value is None else kernel.FSCONFIG_SET_STRING
            text = 0 if value is None else code.text(value)
            code.call("fsconfig", configuration, how, code.text(key), text, 0)
        code.call("fsconfig", configuration, kernel.FSCONFIG_CMD_CREATE, 0, 0, 0)
        tree = code.opened("fsmount", configuration, kernel.FSMOUNT_CLOEXEC, attributes)
        code.close(configuration)
        return tree

    def attach(self, tree: Cell, target: Cell) -> None:
        nothing = self.script.text("")
        self.script.call("move_mount", tree, nothing, target, nothing, _ONTO)

    def set_attributes(
        self, tree: Cell, set_: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False
    ) -> None:
        code = self.script
        flags = kernel.AT_EMPTY_PATH | (kernel.AT_RECURSIVE if recursive else 0)
        code.call("mount_setattr", tree, code.text(""), flags, code.record("QQQQ", set_, clear, propagation, 0), 32)

    def restore_signals(self) -> None:
        """As `launch.restore_signals`."""
        code = self.script
        for number in (launch.SIGPIPE, launch.SIGXFSZ):
            code.call("rt_sigaction", number, code.blob(bytes(32)), 0, 8)
        code.call("rt_sigprocmask", 2, code.blob(bytes(8)), 0, 8)

    def look(self, fd: Cell) -> None:
        """Type and device numbers of what fd is on, into `status`."""
        code = self.script
        code.call("statx", fd, code.text(""), kernel.AT_EMPTY_PATH, _STATX_TYPE, self.status)

    def prove_null(self) -> Cell:
        """As `mounts.null_device`, proven once; each mask clones it."""
        code = self.script
        if self.null is not None:
            return self.null
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        self.null = code.opened("openat", kernel.AT_FDCWD, code.text("/dev/null"), flags)
        self.look(self.null)
        code.require(self.status_mode, TYPE, stat.S_IFCHR, errno.EPERM)
        code.require(self.status_rdev, -1, 1 | 3 << 32, errno.EPERM)  # major and minor, 32 bits each
        return self.null


def _cgroup_paths(plan: Plan) -> list[tuple[str, str]]:
    """What precedes and follows the container's cgroup in each path that the script needs."""
    found: dict[tuple[str, str], None] = {}
    for step in plan.outside:
        if isinstance(step, cgroups.CreateCgroup):
            found[step.hierarchy.mount, ""] = None
            if step.hierarchy.version == 1:
                found[step.hierarchy.mount, "/tasks"] = None
        elif isinstance(step, cgroups.WriteCgroup):
            found[step.mount, f"/{step.file}"] = None
    return list(found)
