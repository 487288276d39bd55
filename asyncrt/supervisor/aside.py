"""The root of a container that does not run, mounted aside: in a mount namespace that one thread has to itself.

    with mounted(recipe, binds, writable=True) as root:      # an fd on the root directory
        ...

Nobody else sees these mounts, the machine's table does not grow, and they end with the thread, whatever becomes of this
process. The fds that were opened in them work in every thread until then. Blocks; call it in a worker thread.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from asyncrt.errors import StorageFailed
from shimd.linux import mounts, paths, processes
from shimd.wire.messages import RootMount

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class _Aside(threading.Thread):
    def __init__(self, recipe: RootMount, binds: Sequence[tuple[str, str]], writable: bool) -> None:
        super().__init__(name="mounts aside", daemon=True)
        self._recipe = recipe
        self._binds = binds
        self._writable = writable
        self.root = -1
        self.error: OSError | None = None
        self.ready = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        try:
            processes.unshare(processes.CLONE_NEWNS)
            mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
            self.root = self._mount()
        except OSError as error:
            self.error = error
        self.ready.set()
        self.over.wait()

    def _mount(self) -> int:
        recipe = self._recipe
        if recipe.kind != "overlay":
            return os.open(recipe.lower[0], _DIRECTORY)
        lower = recipe.lower if self._writable else [recipe.upper, *recipe.lower]
        place = os.path.dirname(recipe.upper)
        words = [recipe.upper, recipe.work] if self._writable else []
        if mounts.overlay_appends() and all(len(os.fsencode(path)) <= mounts.STRING_BYTES for path in lower + words):
            anchor = os.open(place, _DIRECTORY)
            try:
                root = _overlay(lower, words)
                mounts.move_mount(root, anchor)
            finally:
                os.close(anchor)
        else:
            mounts.mount("overlay", place, "overlay", 0 if words else mounts.MS_RDONLY, _options(lower, words))
            root = os.open(place, _DIRECTORY)
        for source, target in self._binds:
            self._bind(root, source, target)
        return root

    def _bind(self, root: int, source: str, target: str) -> None:
        try:
            tree = mounts.open_tree(mounts.AT_FDCWD, source, mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE)
        except FileNotFoundError:
            return  # gone since the container was made: a start would say so, a copy of something else need not
        try:
            directory = os.path.isdir(source)
            if self._writable:
                make = paths.make_directory_in_root if directory else paths.make_file_in_root
                place = make(root, target)
            else:
                place = paths.open_in_root(root, target)
            try:
                mounts.move_mount(tree, place)
            finally:
                os.close(place)
        except (FileNotFoundError, NotADirectoryError):
            return  # it was never started: nothing is there
        finally:
            os.close(tree)


@contextmanager
def mounted(recipe: RootMount, binds: Sequence[tuple[str, str]], writable: bool) -> Iterator[int]:
    """The root of `recipe` with (source, target) bound in it. StorageFailed."""
    thread = _Aside(recipe, binds, writable)
    thread.start()
    thread.ready.wait()
    try:
        if thread.error is not None:
            cause = (thread.error.strerror or str(thread.error)).lower()
            raise StorageFailed("mount", f"the root of {os.path.dirname(recipe.upper)}", cause) from thread.error
        yield thread.root
    finally:
        if thread.root >= 0:
            os.close(thread.root)
        thread.over.set()
        thread.join()


def _overlay(lower: Sequence[str], upper: Sequence[str]) -> int:
    configuration = mounts.fsopen("overlay")
    try:
        mounts.fsconfig_string(configuration, "source", "overlay")
        for layer in lower:
            mounts.fsconfig_string(configuration, "lowerdir+", layer)
        for key, path in zip(("upperdir", "workdir"), upper, strict=False):
            mounts.fsconfig_string(configuration, key, path)
        mounts.fsconfig_create(configuration)
        return mounts.fsmount(configuration, 0 if upper else mounts.MOUNT_ATTR_RDONLY)
    except OSError as error:
        raise OSError(error.errno, mounts.log(configuration) or error.strerror) from None
    finally:
        os.close(configuration)


def _options(lower: Sequence[str], upper: Sequence[str]) -> str:
    """For kernels before 6.7: all paths in one page of options, with overlay's own escapes."""
    lowers = ":".join(path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:") for path in lower)
    words = [f"lowerdir={lowers}"]
    for key, path in zip(("upperdir", "workdir"), upper, strict=False):
        words.append(f"{key}={path}".replace("\\", "\\\\").replace(",", "\\,"))
    text = ",".join(words)
    if len(os.fsencode(text)) > mounts.OPTIONS_BYTES:
        raise OSError(errno.E2BIG, f"{len(lower)} layers are more than one page of options holds")
    return text


def running_root(pid: int, cgroup: str) -> int:
    """The root of a running process, as it sees it, with all its mounts. ProcessLookupError: it is another's, or gone.

    /proc/PID is opened once: it stays this process's, and what is read from it later fails once that has ended.
    """
    process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        file = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
        try:
            told = os.read(file, 1 << 16).decode(errors="surrogateescape")
        finally:
            os.close(file)
        if not any(line.rpartition(":")[2].startswith(cgroup) for line in told.splitlines()):
            raise ProcessLookupError(errno.ESRCH, "it is another process by now", f"/proc/{pid}")
        with suppress(FileNotFoundError):  # ended in between
            return os.open("root", _DIRECTORY, dir_fd=process)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}")
    finally:
        os.close(process)
