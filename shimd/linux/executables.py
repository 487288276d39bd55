"""The program that this process runs, out of a container's reach (CVE-2019-5736).

Whoever executes /proc/self/exe in the moment before the user's program runs (as the command, as an image's symlink, or
as the interpreter of a script) gets the runtime's own program, here the machine's Python, and by its /proc/PID/exe a
way to write it. Two answers: run from a mount that nobody can write by (`sealed`), or do not run it (`is_own`).
"""

from __future__ import annotations

import errno
import os

from shimd.linux import mounts, paths

SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE
NESTED_SCRIPTS = 5  # the kernel follows as many


def sealed(path: str) -> int:
    """An fd to execute `path` by, as /proc/self/fd/N: on a read-only mount of its own, in no namespace."""
    tree = mounts.open_tree(mounts.AT_FDCWD, os.path.realpath(path), mounts.OPEN_TREE_CLONE)
    try:
        mounts.mount_setattr(tree, "", set_=mounts.MOUNT_ATTR_RDONLY)
    except OSError:
        os.close(tree)
        raise
    return tree


def _own() -> tuple[int, int] | None:
    """(device, inode) of what runs here; None if it is sealed, or nobody can tell: then there is nothing to guard."""
    try:
        if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
            return None
        found = os.stat("/proc/self/exe")
    except OSError:
        return None
    return found.st_dev, found.st_ino


OWN = _own()


def is_own(program: str) -> bool:
    """Would execve(2) run this process's own program, by a magic link: itself, or as a script's interpreter?

    By an ordinary path it is the container's own file (a root that is the machine's). False for what cannot be read.
    """
    if OWN is None:
        return False
    for _ in range(NESTED_SCRIPTS):
        try:
            fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return _by_magic(program)
        try:
            head = os.read(fd, SHEBANG_BYTES)
        except OSError:
            return False
        finally:
            os.close(fd)
        if _by_magic(program):
            return True
        if not head.startswith(b"#!"):
            return False
        words = head[2:].split(b"\n")[0].split()
        if not words:
            return False
        program = os.fsdecode(words[0])
    return False


def _by_magic(program: str) -> bool:
    try:
        found = os.stat(program)
        if (found.st_dev, found.st_ino) != OWN:
            return False
        os.close(paths.openat2(mounts.AT_FDCWD, program, os.O_PATH, 0, paths.RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        return error.errno == errno.ELOOP
    return False
