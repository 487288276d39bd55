"""Operations of a bundle's plan in system calls, where they differ from those under a shim (encoders.py).

What init opens by path under the reference it opens so here too: nothing came along as an fd.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

from shimd.container import cgroups, devices, encoders, home, identity, mounts, namespaces, root, seccomp, waiting
from shimd.container.encoders import EXECUTING, place_bind, seccomp_filter
from shimd.container.phrases import CLONE, DIRECTORY, MISSING, TYPE, UNSYMLINKED, Unscripted
from shimd.container.standalone_phrases import StandalonePhrases
from shimd.errors import NOT_EXECUTABLE, Trouble
from shimd.linux import bpf, paths, processes, procfs
from shimd.linux import cgroups as hierarchies
from shimd.linux import mounts as kernel
from shimd.linux.script import ANY_ERROR, Label

AT_EACCESS = 0x200
STATX_INO, STX_INO = 0x100, 32
HIDING = ("/", "/etc", "/etc/passwd")  # a mount there, and the passwd of the root file system is not the container's
WRITE = os.O_WRONLY | os.O_CLOEXEC
CPUSET = ("cpuset.cpus", "cpuset.mems")
LIST_BYTES = 1024  # of CPUs or memory nodes
MARK = "\x01"


def _take_cgroup(to: StandalonePhrases, step: cgroups.TakeCgroup) -> None:
    """The cgroups above are there, or the reference makes them; one of this name that is there is its affair too."""
    code = to.script
    mount = step.hierarchy.mount
    above = os.path.dirname(to.cgroup_below).rstrip("/")
    _look_above(step, above)
    directory = to.cgroup_path(mount)
    code.call("mkdirat", kernel.AT_FDCWD, directory, 0o755)
    held, failed = Label(), Label()
    lost = ((ANY_ERROR,), failed)
    if step.hierarchy.version == 2:
        code.call("openat", kernel.AT_FDCWD, directory, DIRECTORY, out=to.cgroup, expect=lost)
    else:
        if "cpuset" in step.hierarchy.controllers:
            for name in CPUSET:
                _inherit(to, f"{mount}{above}/{name}", f"{mount}{to.cgroup_below}/{name}", failed)
        tasks = code.cell()
        to.tasks.append(tasks)
        code.call("openat", kernel.AT_FDCWD, to.cgroup_path(mount, "/tasks"), WRITE, out=tasks, expect=lost)
    code.jump(held)
    code.here(failed)
    code.attempt("rmdir", directory)
    code.fail(errno.EIO)
    code.here(held)


def _look_above(step: cgroups.TakeCgroup, above: str) -> None:
    """Unscripted unless `make_parent` would find nothing to do."""
    hierarchy = step.hierarchy
    if hierarchy.version == 1:
        if above and not os.path.isdir(hierarchy.mount + above):
            raise Unscripted(step.describe())
        if above and "cpuset" in hierarchy.controllers:
            given = [hierarchies.read(hierarchy.mount + above, name).strip() for name in CPUSET]
            if not all(given):
                raise Unscripted(step.describe())
        return
    place = hierarchy.mount
    for name in ["", *above.split("/")[1:]]:
        place = f"{place}/{name}" if name else place
        if not set(hierarchy.controllers) <= set(hierarchies.read(place, "cgroup.subtree_control").split()):
            raise Unscripted(step.describe())


def _inherit(to: StandalonePhrases, above: str, here: str, failed: Label) -> None:
    """As `linux.cgroups.inherit_cpuset` does for one file."""
    code = to.script
    lost = ((ANY_ERROR,), failed)
    found, length = code.room(LIST_BYTES), code.cell()
    full = Label()
    fd = code.opened("openat", kernel.AT_FDCWD, code.text(here), os.O_RDWR | os.O_CLOEXEC, expect=lost)
    code.call("read", fd, found, LIST_BYTES, expect=lost)
    empty = Label()
    code.match(found, 0xFF, ord("\n"), empty)
    code.jump(full)
    code.here(empty)
    source = code.opened("openat", kernel.AT_FDCWD, code.text(above), os.O_RDONLY | os.O_CLOEXEC, expect=lost)
    code.call("read", source, found, LIST_BYTES, out=length, expect=lost)
    code.same(length, LIST_BYTES, failed)  # there is more of it
    code.call("write", fd, found, length, expect=lost)
    code.close(source)
    code.here(full)
    code.close(fd)


def _write_first(to: StandalonePhrases, step: cgroups.WriteFirst) -> None:
    code = to.script
    done = Label()
    for file, value in step.choices:
        absent = Label()
        path, text = to.cgroup_path(step.mount, f"/{file}"), value.encode()
        fd = code.opened("openat", kernel.AT_FDCWD, path, WRITE, expect=((errno.ENOENT,), absent))
        code.call("write", fd, code.blob(text), len(text))
        code.close(fd)
        code.jump(done)
        code.here(absent)
    if not step.optional:
        code.fail(errno.ENOENT)
    code.here(done)


def _limit_devices(to: StandalonePhrases, step: cgroups.LimitDevices) -> None:
    """As `bpf.install` does where no program is yet: the cgroup was made a moment ago."""
    code = to.script
    directory = code.opened("openat", kernel.AT_FDCWD, to.cgroup_path(step.mount), os.O_DIRECTORY | os.O_CLOEXEC)
    name = struct.unpack("=QQ", bpf.NAME.ljust(16, b"\0"))
    head = bpf.CGROUP_DEVICE_TYPE | len(step.program) // bpf.LENGTH << 32
    load = code.words([head, code.blob(step.program), code.blob(bpf.LICENSE), 0, 0, 0, *name])
    program = code.cell()
    code.call("bpf", bpf.PROG_LOAD, load, 64, out=program)
    attach = code.room(24, struct.pack("=IIIII", 0, 0, bpf.CGROUP_DEVICE, bpf.ALLOW_MULTI, 0))
    code.store(attach, directory)
    code.store(code.offset(attach, 4), program)
    code.call("bpf", bpf.PROG_ATTACH, attach, 20)
    code.close(program, directory)


def _hand_over_cgroup(to: StandalonePhrases, step: cgroups.HandOverCgroup) -> None:
    code = to.script
    code.call("fchownat", kernel.AT_FDCWD, to.cgroup_path(step.mount), step.owner, -1, 0)
    for name in hierarchies.delegated_files():
        after = Label()
        path = to.cgroup_path(step.mount, f"/{name}")
        code.call("fchownat", kernel.AT_FDCWD, path, step.owner, -1, 0, expect=((errno.ENOENT,), after))
        code.here(after)


def _open_namespace(to: StandalonePhrases, step: namespaces.OpenNamespace) -> None:
    flag = namespaces.FLAGS[step.kind]
    if flag & namespaces.FOR_CHILDREN or flag in (processes.CLONE_NEWNS, processes.CLONE_NEWUSER):
        raise Unscripted(step.describe())
    code = to.script
    fd = code.opened("openat", kernel.AT_FDCWD, code.text(step.path), os.O_RDONLY | os.O_CLOEXEC)
    to.namespaces.append((flag, fd))
    found, right = code.cell(), Label()
    code.call("ioctl", fd, processes.NS_GET_NSTYPE, out=found)
    code.same(found, flag, right)
    code.fail(errno.EINVAL)
    code.here(right)
    if step.foreign:
        own = os.stat(f"/proc/self/ns/{namespaces.FILES[step.kind]}").st_ino
        code.call("statx", fd, code.text(""), kernel.AT_EMPTY_PATH, STATX_INO, to.status)
        another, same = Label(), Label()
        code.match(code.offset(to.status, STX_INO), -1, own, same)
        code.jump(another)
        code.here(same)
        code.fail(errno.EPERM)
        code.here(another)


def _join_namespaces(to: StandalonePhrases, step: namespaces.JoinNamespaces) -> None:
    for flag, fd in to.namespaces:
        to.script.call("setns", fd, flag)


def _rename_joined(to: StandalonePhrases, step: namespaces.RenameJoined) -> None:
    name = os.fsencode(step.hostname)
    to.script.call("sethostname", to.script.blob(name), len(name))


def _oom_score(to: StandalonePhrases, step: identity.SetOomScore) -> None:
    """As `procfs.write`. The kernel sets the score of the front too, which shares the memory and is about to end."""
    code = to.script
    place = code.opened("openat", kernel.AT_FDCWD, code.text("/proc"), DIRECTORY)
    code.call("fstatfs", place, to.status)
    code.require(to.status, -1, procfs.MAGIC, errno.EXDEV)
    code.call("statx", place, code.text(""), kernel.AT_EMPTY_PATH, STATX_INO, to.status)
    code.require(code.offset(to.status, STX_INO), -1, procfs.ROOT_INODE, errno.EXDEV)
    resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_XDEV | paths.RESOLVE_NO_MAGICLINKS
    how = code.record("QQQ", WRITE, 0, resolve)
    fd = code.opened("openat2", place, code.text("self/oom_score_adj"), how, 24)
    value = str(step.value).encode()
    code.call("write", fd, code.blob(value), len(value))
    code.close(fd, place)


def _mount_root(to: StandalonePhrases, step: root.MountRoot) -> None:
    code = to.script
    anchor = code.opened("openat", kernel.AT_FDCWD, code.text(to.anchors.root), DIRECTORY)
    code.call("open_tree", kernel.AT_FDCWD, code.text(step.path), CLONE | kernel.AT_RECURSIVE, out=to.root)
    to.set_attributes(to.root, propagation=step.propagation, recursive=True)
    to.attach(to.root, anchor)
    code.close(anchor)


def _bind(to: StandalonePhrases, step: mounts.BindMount) -> None:
    code = to.script
    flags = CLONE | (kernel.AT_RECURSIVE if step.recursive else 0)
    tree = code.opened("open_tree", kernel.AT_FDCWD, code.text(step.source), flags)
    place_bind(to, step, tree)
    code.close(tree)


def _propagate_root(to: StandalonePhrases, step: root.PropagateRoot) -> None:
    code = to.script
    flags = kernel.AT_RECURSIVE if step.recursive else 0
    attributes = code.record("QQQQ", 0, 0, step.propagation, 0)
    code.call("mount_setattr", kernel.AT_FDCWD, code.text("/"), flags, attributes, 32)


def _make_device(to: StandalonePhrases, step: devices.MakeDevice) -> None:
    code = to.script
    parent, _, name = step.path.rstrip("/").rpartition("/")
    directory = to.directory(parent)
    number = os.makedev(step.major, step.minor)
    code.call("mknodat", directory, code.text(name), devices.KINDS[step.kind] | step.mode, number)
    if step.uid or step.gid:
        code.call("fchownat", directory, code.text(name), step.uid, step.gid, kernel.AT_SYMLINK_NOFOLLOW)
    code.close(directory)


def _find_program(to: StandalonePhrases, step: waiting.FindProgram) -> None:
    """One of the places has to have a program; else the reference says why there is none."""
    program = step.program
    if not program:
        raise Unscripted(step.describe())
    code = to.script
    places = [program] if "/" in program else [f"{place or '.'}/{program}" for place in step.path.split(":")]
    found = Label()
    for place in places:
        path, other = code.text(place), Label()
        missing = ((ANY_ERROR,), other)
        code.call("statx", kernel.AT_FDCWD, path, 0, 1, to.status, expect=missing)
        code.match(to.status_mode, TYPE, stat.S_IFDIR, other)
        old = Label()  # a filter may be older than faccessat2(2)
        code.call("faccessat2", kernel.AT_FDCWD, path, os.X_OK, AT_EACCESS, expect=((ANY_ERROR,), old))
        code.jump(found)
        code.here(old)
        code.call("faccessat", kernel.AT_FDCWD, path, os.X_OK, expect=missing)
        code.jump(found)
        code.here(other)
    code.fail(errno.ENOENT)
    code.here(found)


def _find_home(to: StandalonePhrases, step: home.FindHome) -> None:
    """Found now, where the file is the one that the container will see: `home.FindHome` says when that is so."""
    if any(os.path.normpath(_destination(other)) in HIDING for other in to.plan.rooting):
        raise Unscripted(step.describe())
    rootfs = os.open(to.anchors.root, DIRECTORY)
    try:
        fd = paths.openat2(rootfs, home.PASSWD, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, UNSYMLINKED)
    except FileNotFoundError:
        to.home = home.FALLBACK
        return
    finally:
        os.close(rootfs)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size >= home.MOST_BYTES:
            raise Unscripted(step.describe())
        to.home = home.home_of(step.uid, os.read(fd, home.MOST_BYTES))
    finally:
        os.close(fd)


def _destination(step: Any) -> str:
    """Where a step puts something in the root; "" for one that does not."""
    found: str = getattr(step, "destination", "") or getattr(step, "path", "")
    return "" if isinstance(step, root.MountRoot) else found


def _confined_exec(to: StandalonePhrases, step: seccomp.ConfinedExec) -> None:
    to.say(*_words(Trouble(*step.load.describe(), MARK)))
    seccomp_filter(to, step.load)
    _exec(to, step.exec)


def _exec(to: StandalonePhrases, step: identity.Exec) -> None:
    """As `Exec.run`. No guard: what would be run by a magic link is a sealed copy of the front."""
    code = to.script
    environment = dict(entry.split("=", 1) for entry in step.env if "=" in entry)
    if to.home:
        environment["HOME"] = to.home
    program = step.args[0]
    if not program or MARK in program or "\0" in "".join((*step.args, *step.env)):
        raise Unscripted(step.describe())
    arguments, _ = code.row([code.text(word) for word in step.args], 0)
    variables, _ = code.row([code.text(f"{key}={value}") for key, value in environment.items()], 0)
    refused, number = code.cell(), code.cell()
    half = Label()
    code.reach(EXECUTING)
    for candidate in step.candidates(environment):
        path = code.text(candidate)
        came, absent, after = Label(), Label(), Label()
        code.call("execve", path, arguments, variables, expect=((ANY_ERROR,), came))
        code.here(came)
        code.came(number)
        for missing in MISSING:
            code.same(number, missing, absent)
        with code.unless_empty(refused):
            code.jump(after)
        code.copy(number, refused)
        code.jump(after)
        code.here(absent)
        code.call("faccessat", kernel.AT_FDCWD, path, 0, expect=((ANY_ERROR,), after))
        code.jump(half)
        code.here(after)
    with code.unless_empty(refused):
        to.say(*_words(identity.refusal(program, 0, MARK, NOT_EXECUTABLE)))
        code.fail(refused)
    to.say(*_words(identity.not_found(program)))
    code.fail(errno.ENOENT)
    code.here(half)
    to.say(*_words(identity.half_there(program)))
    code.fail(errno.ENOENT)


def _words(trouble: Trouble) -> tuple[str, str, int]:
    """(head, cause, code): the cause is the errno's where the trouble has MARK instead of one."""
    head, mark, _ = str(trouble).partition(MARK)
    return (head, "", trouble.code) if mark else ("", head, trouble.code)


OUTSIDE: dict[type, Callable[[Any, Any], None]] = {
    cgroups.TakeCgroup: _take_cgroup,
    cgroups.WriteCgroup: encoders.OUTSIDE[cgroups.WriteCgroup],
    cgroups.WriteFirst: _write_first,
    cgroups.LimitDevices: _limit_devices,
    cgroups.HandOverCgroup: _hand_over_cgroup,
    namespaces.OpenNamespace: _open_namespace,
}
ENCODERS: dict[type, Callable[[Any, Any], None]] = {
    **encoders.ENCODERS,
    namespaces.JoinNamespaces: _join_namespaces,
    namespaces.RenameJoined: _rename_joined,
    identity.SetOomScore: _oom_score,
    root.MountRoot: _mount_root,
    root.PropagateRoot: _propagate_root,
    mounts.BindMount: _bind,
    devices.MakeDevice: _make_device,
    home.FindHome: _find_home,
    waiting.FindProgram: _find_program,
    seccomp.ConfinedExec: _confined_exec,
    identity.Exec: _exec,
}
