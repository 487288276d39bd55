"""Trees to compare: everything that a layer says about each path."""

import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import NamedTuple

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


class Seen(NamedTuple):
    mode: str
    owner: tuple[int, int]
    mtime_ns: int
    device: int
    content: str
    links: tuple[str, ...]
    xattrs: tuple[tuple[str, bytes], ...]


def look(place: Path, root: bool = True) -> dict[str, Seen]:
    """Every path below (and the root itself); hardlinks as the names that one file has."""
    groups: dict[tuple[int, int], list[str]] = {}
    paths = [os.fsencode(place)]
    for directory, names, files in os.walk(os.fsencode(place)):
        paths += [os.path.join(directory, name) for name in names + files]
    found = {}
    for path in sorted(paths):
        status = os.lstat(path)
        name = os.fsdecode(os.path.relpath(path, os.fsencode(place)))
        if not stat.S_ISDIR(status.st_mode):
            groups.setdefault((status.st_dev, status.st_ino), []).append(name)
        if name == "." and not root:
            continue
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = f"{status.st_size} {hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()}"
        elif stat.S_ISLNK(status.st_mode):
            content = os.fsdecode(os.readlink(path))
        attributes = tuple(
            (n, os.getxattr(path, n, follow_symlinks=False)) for n in sorted(os.listxattr(path, follow_symlinks=False))
        )
        found[name] = Seen(
            oct(status.st_mode),
            (status.st_uid, status.st_gid),
            status.st_mtime_ns,
            status.st_rdev,
            content,
            (),
            attributes,
        )
    for group in groups.values():
        for name in group:
            if name in found and len(group) > 1:
                found[name] = found[name]._replace(links=tuple(sorted(group)))
    return found


def plant(place: Path, owners: bool, devices: bool = True) -> None:
    """A tree with one of everything; `owners` and `devices` need root."""
    place.mkdir()
    (place / "dir").mkdir(mode=0o750)
    (place / "dir/file").write_bytes(b"hello")
    (place / "dir/empty").touch()
    (place / "big").write_bytes(os.urandom(700_000))
    with open(place / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(8 << 20)
    with open(place / "hole", "wb") as file:
        file.truncate(1 << 20)
    (place / "link").symlink_to("dir/file")
    (place / "dangling").symlink_to("/no/" + "where" * 40)
    os.link(place / "dir/file", place / "hard")
    os.link(place / "dangling", place / "hardsymlink", follow_symlinks=False)
    os.mkfifo(place / "fifo", 0o622)
    long = place / "/".join(["n" * 120] * 3)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_bytes(b"deep")
    os.link(long / ("f" * 200), place / "zhard")
    (place / "ünïcödé").write_text("name")
    Path(os.fsdecode(os.fsencode(place) + b"/latin\xe4")).write_text("name")
    Path(os.fsdecode(os.fsencode(long) + b"/" + b"\xff" * 90)).write_text("name")
    os.chmod(place / "big", 0o4755)
    (place / "sticky").mkdir()
    os.chmod(place / "sticky", 0o1777)
    (place / "setgid").mkdir()
    os.setxattr(place / "dir/file", "user.a", b"\0\xff=\n")
    os.setxattr(place / "dir", "user.on-directory", b"yes")
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(place)
        listener.bind("socket")
        os.chdir(before)
    if owners:
        os.chown(place / "dir", 1000, 1001)
        os.chown(place / "dir/empty", 3_000_000, 4_000_000_000)
        os.chown(place / "link", 12, 13, follow_symlinks=False)
        os.chown(place / "setgid", 0, 50)
        os.setxattr(place / "dir/empty", "security.capability", CAPABILITY)
    os.chmod(place / "setgid", 0o2775)
    if devices:
        os.mknod(place / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(place / "disk", 0o640 | stat.S_IFBLK, os.makedev(259, 70000))
    for number, path in enumerate(sorted([place, *place.rglob("*")], reverse=True)):
        os.utime(path, ns=(0, 1_500_000_000_000_000_000 + number * 1_000_000_001), follow_symlinks=False)
    os.utime(place / "big", ns=(0, -86_400_000_000_000))
