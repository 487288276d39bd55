"""--user to ids, by the image's own /etc/passwd and /etc/group.

The files are hostile: they are opened inside the image's root (a symlink cannot lead out of it), must be
regular (a fifo would block, a device act), and are read up to a bound (GO-2026-5475). No nss and no pwd
module: those read the machine's files, or load the image's libraries.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from asyncrt.errors import BadRequest, StorageFailed
from asyncrt.snapshots.stack import open_file, stacked
from shimd.linux.paths import open_in_root

MAX_BYTES = 1 << 20
MAX_LINES = 100_000
MAX_ID = 2**32 - 2  # (uid_t)-1 tells setresuid(2) to change nothing: who asks for it would stay root

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


Opener = Callable[[str], int]
"""An fd on a file of the image, by its path; OSError."""


class Identity(NamedTuple):
    """Who a process is. `additional_gids` begins with `gid`, as moby sets it (CVE-2022-36109)."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def resolve(root: int | str | Sequence[str], spec: str) -> Identity:
    """The ids and home of USER[:GROUP] in the file system `root`; "" is root.

    `root` is a directory's fd or path, or the paths of an image's layers, the top first.

    All digits are an id, never a name: an image whose passwd has a user "1000" with uid 0 does not make one
    root (CVE-2026-46680), and a number that is too big is refused (CVE-2026-30892, CVE-2024-40635). An id
    needs no entry. Without a group the groups of the user are added. BadRequest names the user or group
    that is not there, or the file that cannot be read.
    """
    user, colon, group = spec.partition(":")
    if spec and (not user or (colon and not group) or ":" in group):
        raise BadRequest("read user", f'"{spec}"', "it is no USER[:GROUP]")
    if isinstance(root, int):
        account, gid, more = _resolve(lambda path: open_in_root(root, path, _OPEN), user, group)
    else:
        fds = [_open_root(path) for path in ([root] if isinstance(root, str) else root)]
        try:
            if len(fds) == 1:
                account, gid, more = _resolve(lambda path: open_in_root(fds[0], path, _OPEN), user, group)
            else:
                with stacked(fds) as level:
                    opener = partial(open_file, level, flags=_OPEN)
                    account, gid, more = _resolve(lambda path: opener(path.encode()), user, group)
        finally:
            for fd in fds:
                os.close(fd)
    others = tuple(sorted(set(more) - {gid}))
    return Identity(account.uid, gid, (gid, *others), account.home)


def _resolve(files: Opener, user: str, group: str) -> tuple[_Account, int, tuple[int, ...]]:
    """(the account, the group id, more group ids), by the files that `files` opens."""
    account = _account(files, user)
    gid = _group(files, group) if group else account.gid
    return account, gid, () if group else _memberships(files, account)


def _open_root(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed("read image", path, str(error.strerror).lower()) from error


def _account(files: Opener, user: str) -> _Account:
    numeric = not user or _DIGITS.fullmatch(user) is not None
    wanted = str(_id("user", user or "0")) if numeric else user
    for name, uid, gid, home in _fields(files, "/etc/passwd", (0, 2, 3, 5)):
        if wanted == (uid if numeric else name):
            return _Account(name, _entry_id(uid, name), _entry_id(gid, name), _home(home))
    if numeric:
        return _Account("", int(wanted), 0, "/")
    raise BadRequest("find user", f'"{user}"', "the image's /etc/passwd has no such entry", "a number needs none")


def _group(files: Opener, group: str) -> int:
    if _DIGITS.fullmatch(group):
        return _id("group", group)
    for name, gid in _fields(files, "/etc/group", (0, 2)):
        if name == group:
            return _entry_id(gid, name, "/etc/group")
    raise BadRequest("find group", f'"{group}"', "the image's /etc/group has no such entry", "a number needs none")


def _memberships(files: Opener, account: _Account) -> tuple[int, ...]:
    if not account.name:
        return ()
    return tuple(
        _entry_id(gid, name, "/etc/group")
        for name, gid, members in _fields(files, "/etc/group", (0, 2, 3))
        if account.name in members.split(",")
    )


def _id(kind: str, digits: str) -> int:
    if len(digits) > 10 or int(digits) > MAX_ID:
        raise BadRequest("read user", f'"{digits}"', f"the {kind} id is too big", f"ids go up to {MAX_ID}")
    return int(digits)


def _entry_id(text: str, name: str, path: str = "/etc/passwd") -> int:
    # A line that is damaged is an error only for whom it is meant: nobody becomes root by an empty field.
    if not _DIGITS.fullmatch(text) or len(text) > 10 or int(text) > MAX_ID:
        raise BadRequest("find user", f'"{name}"', f'the image\'s {path} gives it the id "{text[:20]}"')
    return int(text)


def _home(text: str) -> str:
    # "/" is runc's default. A NUL would cut the environment short, and a byte that is no UTF-8 does not
    # travel.
    return text if text.isprintable() and text else "/"


def _fields(files: Opener, path: str, wanted: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
    """The wanted fields of each line; lines that have fewer are passed over."""
    lines = _read(files, path).split("\n")
    if len(lines) > MAX_LINES:
        raise _unreadable(path, f"it has more than {MAX_LINES} lines")
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) > max(wanted) and fields[0] and not line.startswith("#"):
            yield tuple(fields[index] for index in wanted)


def _read(files: Opener, path: str) -> str:
    try:
        file = files(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""  # an image of one static program has no such files
    except OSError as error:
        raise _unreadable(path, str(error.strerror).lower()) from error
    try:
        # O_RDONLY on a fifo does not wait with O_NONBLOCK; on a device it may act, but images can hold none
        # without CAP_MKNOD, and what is not regular is not read.
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _unreadable(path, "it is no regular file")
        content = bytearray()
        while len(content) <= MAX_BYTES and (piece := os.read(file, MAX_BYTES + 1 - len(content))):
            content += piece
    except OSError as error:
        raise _unreadable(path, str(error.strerror).lower()) from error
    finally:
        os.close(file)
    if len(content) > MAX_BYTES:
        raise _unreadable(path, f"it is larger than {MAX_BYTES} bytes")
    return content.decode(errors="surrogateescape")


def _unreadable(path: str, cause: str) -> BadRequest:
    return BadRequest("read image's", path, cause)
