"""How each operation of a plan is said in system calls: the calls of its execute(), in the same order.

What is not in the tables has no encoding, and a plan with it has no script.
"""

from __future__ import annotations

import errno
import os
import stat
from _socket import AF_INET, SOCK_DGRAM
from collections.abc import Callable
from typing import Any

from shimd.container import cgroups, devices, identity, mounts, namespaces, root, seccomp
from shimd.container.phrases import CLONE, DIRECTORY, IN_ROOT, MISSING, TYPE, UNSYMLINKED, Phrases, Unscripted
from shimd.linux import executables, filters, netdevice, processes
from shimd.linux import identity as capabilities
from shimd.linux import mounts as kernel
from shimd.linux import seccomp as filter_calls
from shimd.linux.script import ANY_ERROR, Cell, Label

EXECUTING = 1  # what a run's state says from the first execve on (start.c)
SPARE_ENV = 32
MEMORY_LIMITS = ("memory.limit_in_bytes", "memory.max")
SMALLEST_MEMORY = 16 << 20


def _enter_cgroups(to: Phrases, step: cgroups.EnterCgroups) -> None:
    for fd in to.tasks:
        to.script.call("write", fd, to.script.text("0"), 1)


def _unshare_cgroup(to: Phrases, step: namespaces.UnshareCgroup) -> None:
    to.script.call("unshare", processes.CLONE_NEWCGROUP)


def _loopback(to: Phrases, step: namespaces.LoopbackUp) -> None:
    code = to.script
    socket = code.opened("socket", AF_INET, SOCK_DGRAM, 0)
    code.call("ioctl", socket, netdevice.SIOCSIFFLAGS, code.blob(netdevice.LOOPBACK_UP))
    code.close(socket)


def _hostname(to: Phrases, step: namespaces.SetHostname) -> None:
    code = to.script
    own, length = to.own.hostname, to.own.hostname_bytes
    name = os.fsencode(step.hostname)
    done = Label()
    with code.unless_empty(own):
        code.call("sethostname", own, length)
        code.jump(done)
    if name:
        code.call("sethostname", code.blob(name), len(name))
    code.here(done)


def _domainname(to: Phrases, step: namespaces.SetDomainname) -> None:
    name = os.fsencode(step.domainname)
    to.script.call("setdomainname", to.script.blob(name), len(name))


def _sysctl(to: Phrases, step: namespaces.WriteSysctl) -> None:
    code = to.script
    flags = os.O_WRONLY | os.O_CLOEXEC
    fd = code.opened("openat", kernel.AT_FDCWD, code.text(namespaces.sysctl_path(step.key)), flags, 0)
    value = step.value.encode()
    code.call("write", fd, code.blob(value or b"\0"), len(value))
    code.close(fd)


def _propagation(to: Phrases, step: mounts.SetPropagation) -> None:
    if step.propagation == kernel.MS_PRIVATE and to.anchors.private:
        return
    code = to.script
    attributes = code.record("QQQQ", 0, 0, step.propagation, 0)
    code.call("mount_setattr", kernel.AT_FDCWD, code.text("/"), kernel.AT_RECURSIVE, attributes, 32)


def _mount_root(to: Phrases, step: root.MountRoot) -> None:
    if step.propagation != kernel.MS_PRIVATE:
        raise Unscripted(step.describe())
    code = to.script
    anchor = code.opened("openat", kernel.AT_FDCWD, code.text(to.anchors.root), DIRECTORY)
    to.attach(to.root, anchor)
    code.close(anchor)


def _mount_filesystem(to: Phrases, step: mounts.MountFilesystem) -> None:
    target = to.directory(step.destination, step.kind in mounts.UNSYMLINKED)
    tree = to.filesystem(step.kind, step.source, step.attributes, step.parameters)
    to.attach(tree, target)
    if step.propagation:
        to.set_attributes(tree, propagation=step.propagation)
    to.script.close(tree, target)


def _bind(to: Phrases, step: mounts.BindMount) -> None:
    sources = [other for other in to.plan.rooting if isinstance(other, mounts.BindMount)]
    place_bind(to, step, to.trees[[other is step for other in sources].index(True)])


def place_bind(to: Phrases, step: mounts.BindMount, tree: Cell) -> None:
    """All of a bind but the clone of its source."""
    code = to.script
    to.set_attributes(tree, step.recursive_set, step.recursive_clear, step.propagation, recursive=True)
    if step.set or step.clear:
        to.set_attributes(tree, step.set, step.clear)
    is_directory, found = Label(), Label()
    to.look(tree)
    code.match(to.status_mode, TYPE, stat.S_IFDIR, is_directory)
    to.attach(tree, to.file(step.destination))
    code.jump(found)
    code.here(is_directory)
    target = to.directory(step.destination)
    to.attach(tree, target)
    code.close(target)
    code.here(found)


def _mount_cgroups(to: Phrases, step: mounts.MountCgroups) -> None:
    if step.whole:
        raise Unscripted(step.describe())
    code = to.script
    target = to.directory(step.destination)
    if step.hierarchies and step.hierarchies[0].version == 2:
        tree = _own_cgroup(to, step.hierarchies[0].mount)
        to.set_attributes(tree, step.attributes)
        to.attach(tree, target)
        code.close(tree, target)
        return
    shelf = to.filesystem("tmpfs", "tmpfs", 0, (("mode", "755"), ("size", "64k")))
    to.attach(shelf, target)
    for hierarchy in step.hierarchies:
        name = os.path.basename(hierarchy.mount)
        code.call("mkdirat", shelf, code.text(name), 0o755)
        place = code.opened("openat", shelf, code.text(name), DIRECTORY)
        tree = _own_cgroup(to, hierarchy.mount)
        to.attach(tree, place)
        code.close(tree, place)
        for controller in hierarchy.controllers:
            if controller != name:
                code.call("symlinkat", code.text(name), shelf, code.text(controller))
    to.set_attributes(shelf, step.attributes, recursive=True)
    code.close(shelf, target)


def _own_cgroup(to: Phrases, mount: str) -> Cell:
    return to.script.opened("open_tree", kernel.AT_FDCWD, to.cgroup_path(mount), CLONE)


def _mask(to: Phrases, step: mounts.MaskPath) -> None:
    code = to.script
    null = to.prove_null()
    gone, is_directory, made = Label(), Label(), Label()
    target = to.open(step.path, os.O_PATH, IN_ROOT, (MISSING, gone))
    tree = code.cell()
    to.look(target)
    code.match(to.status_mode, TYPE, stat.S_IFDIR, is_directory)
    code.call("open_tree", null, code.text(""), CLONE | kernel.AT_EMPTY_PATH, out=tree)
    code.jump(made)
    code.here(is_directory)
    if to.anchors.empty:
        code.call("open_tree", kernel.AT_FDCWD, code.text(to.anchors.empty), CLONE, out=tree)
    else:
        code.copy(to.filesystem("tmpfs", "tmpfs", kernel.MOUNT_ATTR_RDONLY, mounts.EMPTY), tree)
    code.here(made)
    to.attach(tree, target)
    code.close(tree, target)
    code.here(gone)


def _readonly(to: Phrases, step: mounts.ReadonlyPath) -> None:
    code = to.script
    gone = Label()
    target = to.open(step.path, os.O_PATH, IN_ROOT, (MISSING, gone))
    flags = CLONE | kernel.AT_EMPTY_PATH | kernel.AT_RECURSIVE
    tree = code.opened("open_tree", target, code.text(""), flags)
    to.set_attributes(tree, kernel.MOUNT_ATTR_RDONLY, recursive=True)
    to.attach(tree, target)
    code.close(tree, target)
    code.here(gone)


def _make_directory(to: Phrases, step: mounts.MakeDirectory) -> None:
    to.script.close(to.directory(step.path))


def _default_devices(to: Phrases, step: devices.DefaultDevices) -> None:
    if step.bound:
        return
    code = to.script
    code.attempt("mkdirat", to.root, code.text("dev"), 0o755, errors=(errno.EEXIST,))
    directory = to.open("dev", os.O_PATH | os.O_DIRECTORY, UNSYMLINKED)
    for name, major, minor in devices.DEFAULT_NODES:
        number = os.makedev(major, minor)
        code.call("mknodat", directory, code.text(name), stat.S_IFCHR | 0o666, number)
    for name, target in devices.DEFAULT_LINKS:
        code.attempt("symlinkat", code.text(target), directory, code.text(name), errors=(errno.EEXIST,))
    code.close(directory)


def _seal_root(to: Phrases, step: root.SealRoot) -> None:
    to.set_attributes(to.root, kernel.MOUNT_ATTR_RDONLY)


def _pivot_root(to: Phrases, step: root.PivotRoot) -> None:
    code = to.script
    here = code.text(".")
    code.call("fchdir", to.root)
    code.call("pivot_root", here, here)
    code.call("umount2", here, kernel.MNT_DETACH)
    code.call("chdir", code.text("/"))


def _keyring(to: Phrases, step: identity.JoinKeyring) -> None:
    to.script.attempt("keyctl", 1, to.own.keyring, errors=(errno.ENOSYS, errno.EDQUOT))


def _rlimit(to: Phrases, step: identity.SetRlimit) -> None:
    code = to.script
    code.call("prlimit64", 0, step.number, code.record("QQ", step.soft, step.hard), 0)


def _no_new_privileges(to: Phrases, step: identity.NoNewPrivileges) -> None:
    to.script.call("prctl", processes.PR_SET_NO_NEW_PRIVS, 1)


def _change_directory(to: Phrases, step: identity.ChangeDirectory) -> None:
    code = to.script
    code.call("chdir", code.text(step.path))
    where = code.room(4096)
    code.call("getcwd", where, 4096)
    code.require(where, 0xFF, ord("/"), errno.EXDEV)


def _become(to: Phrases, step: identity.Become) -> None:
    code = to.script
    if step.uid:
        for fd in range(3):
            theirs, pipe, file = Label(), Label(), Label()
            to.look(code.constant(fd))
            code.match(to.status_mode, TYPE, stat.S_IFIFO, pipe)
            code.match(to.status_mode, TYPE, stat.S_IFREG, file)
            code.jump(theirs)
            code.here(pipe)
            code.call("fchown", fd, step.uid, step.gid)
            code.jump(theirs)
            code.here(file)
            code.attempt("fchown", fd, step.uid, -1, errors=(errno.EPERM, errno.EROFS, errno.EINVAL))
            code.here(theirs)
    if step.sets is None:
        _take_ids(to, step)
    else:
        if not step.possible:
            raise Unscripted(step.describe())
        bounding, effective, inheritable, permitted, ambient = step.sets
        for number in _numbers(step.possible & ~bounding):
            code.call("prctl", processes.PR_CAPBSET_DROP, number)
        _take_ids(to, step)
        words: list[int] = []
        for shift in (0, 32):
            words += [(bits & step.possible) >> shift & 0xFFFFFFFF for bits in (effective, permitted, inheritable)]
        header = code.record("Ii", capabilities.VERSION_3, 0)
        code.call("capset", header, code.record("6I", *words))
        code.call("prctl", processes.PR_CAP_AMBIENT, processes.PR_CAP_AMBIENT_CLEAR_ALL)
        for number in _numbers(ambient & inheritable & permitted & step.possible):
            code.call("prctl", processes.PR_CAP_AMBIENT, processes.PR_CAP_AMBIENT_RAISE, number)
    code.call("umask", step.umask)


def _take_ids(to: Phrases, step: identity.Become) -> None:
    code = to.script
    groups = code.record(f"{len(step.groups)}I", *step.groups) if step.groups else 0
    code.call("setgroups", len(step.groups), groups)
    code.call("setresgid", step.gid, step.gid, step.gid)
    code.call("prctl", processes.PR_SET_KEEPCAPS, 1)
    code.call("setresuid", step.uid, step.uid, step.uid)
    code.call("prctl", processes.PR_SET_KEEPCAPS, 0)


def _numbers(bits: int) -> list[int]:
    return [number for number in range(bits.bit_length()) if bits >> number & 1]


def _die_with_shim(to: Phrases, step: identity.DieWithShim) -> None:
    to.script.call("prctl", processes.PR_SET_PDEATHSIG, 9)


def seccomp_filter(to: Phrases, step: seccomp.LoadSeccomp) -> None:
    if step.listener is not None:
        raise Unscripted(step.describe())
    code = to.script
    program = code.words([len(step.program) // filters.INSTRUCTION_BYTES, code.blob(step.program)])  # struct sock_fprog
    code.call("seccomp", filter_calls.SET_MODE_FILTER, step.flags, program)


def _confined_exec(to: Phrases, step: seccomp.ConfinedExec) -> None:
    seccomp_filter(to, step.load)
    _exec(to, step.exec)


def _exec(to: Phrases, step: identity.Exec) -> None:
    if executables.OWN is not None:  # then each start has to look whether it would run us (CVE-2019-5736)
        raise Unscripted(step.describe())
    code = to.script
    environment = dict(entry.split("=", 1) for entry in step.env if "=" in entry)
    program = step.args[0]
    if not program or "\0" in "".join((*step.args, *step.env)):
        raise Unscripted(step.describe())
    arguments, _ = code.row([code.text(word) for word in step.args], 0)
    texts = [code.text(f"{key}={value}") for key, value in environment.items()]
    variables, places = code.row(texts, SPARE_ENV)
    to.environment = dict(zip(environment, places, strict=False))
    to.spare = tuple(places[len(texts) : -1])
    code.reach(EXECUTING)
    for candidate in step.candidates(environment):
        path = code.text(candidate)
        after, absent = Label(), Label()
        code.call("execve", path, arguments, variables, expect=(MISSING, absent))
        code.here(absent)  # the file may be there, and what is missing be its interpreter: then no other is tried
        code.call("faccessat", kernel.AT_FDCWD, path, 0, expect=(MISSING, after))
        code.fail(errno.ENOENT)
        code.here(after)
    code.fail(errno.ENOENT)


def _create_cgroup(to: Phrases, step: cgroups.CreateCgroup) -> None:
    code = to.script
    mount = step.hierarchy.mount
    if step.hierarchy.version == 1 and "cpuset" in step.hierarchy.controllers:
        raise Unscripted(step.describe())  # its cpus are read from above
    directory = to.cgroup_path(mount)
    code.call("mkdirat", kernel.AT_FDCWD, directory, 0o755)
    held, failed = Label(), Label()
    if step.hierarchy.version == 2:
        code.call("openat", kernel.AT_FDCWD, directory, DIRECTORY, out=to.cgroup, expect=((ANY_ERROR,), failed))
    else:
        tasks = code.cell()
        to.tasks.append(tasks)
        path, flags = to.cgroup_path(mount, "/tasks"), os.O_WRONLY | os.O_CLOEXEC
        code.call("openat", kernel.AT_FDCWD, path, flags, out=tasks, expect=((ANY_ERROR,), failed))
    code.jump(held)
    code.here(failed)  # a step that failed is not undone: it takes back what it did
    code.attempt("rmdir", directory)
    code.fail(errno.EIO)
    code.here(held)


def _write_cgroup(to: Phrases, step: cgroups.WriteCgroup) -> None:
    if step.file in MEMORY_LIMITS and step.value.isdigit() and int(step.value) < SMALLEST_MEMORY:
        raise Unscripted(step.describe())
    code = to.script
    flags = os.O_WRONLY | os.O_CLOEXEC
    fd = code.opened("openat", kernel.AT_FDCWD, to.cgroup_path(step.mount, f"/{step.file}"), flags)
    code.call("write", fd, code.blob(step.value.encode()), len(step.value.encode()))
    code.close(fd)


OUTSIDE: dict[type, Callable[[Phrases, Any], None]] = {
    cgroups.CreateCgroup: _create_cgroup,
    cgroups.WriteCgroup: _write_cgroup,
}
ENCODERS: dict[type, Callable[[Phrases, Any], None]] = {
    cgroups.EnterCgroups: _enter_cgroups,
    namespaces.UnshareCgroup: _unshare_cgroup,
    namespaces.LoopbackUp: _loopback,
    namespaces.SetHostname: _hostname,
    namespaces.SetDomainname: _domainname,
    namespaces.WriteSysctl: _sysctl,
    mounts.SetPropagation: _propagation,
    root.MountRoot: _mount_root,
    mounts.MountFilesystem: _mount_filesystem,
    mounts.BindMount: _bind,
    mounts.MountCgroups: _mount_cgroups,
    mounts.MaskPath: _mask,
    mounts.ReadonlyPath: _readonly,
    mounts.MakeDirectory: _make_directory,
    devices.DefaultDevices: _default_devices,
    root.SealRoot: _seal_root,
    root.PivotRoot: _pivot_root,
    identity.JoinKeyring: _keyring,
    identity.SetRlimit: _rlimit,
    identity.NoNewPrivileges: _no_new_privileges,
    identity.ChangeDirectory: _change_directory,
    identity.Become: _become,
    identity.DieWithShim: _die_with_shim,
    seccomp.LoadSeccomp: seccomp_filter,
    seccomp.ConfinedExec: _confined_exec,
    identity.Exec: _exec,
}
