"""HOME of a program whose environment has none, out of the container's own /etc/passwd (passwd(5)).

runc and crun do so, and their callers leave HOME to them. The file is the image's, and an exec's is whatever the
container made of it: it is read as bytes, within bounds, by no library (nss would load the image's code,
CVE-2019-14271), and a line that is not exactly what passwd(5) says is passed over.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from shimd.container.making import Making
from shimd.linux import paths

PASSWD = "etc/passwd"
MOST_BYTES = 1 << 20
MOST_HOME = 4096  # PATH_MAX
FALLBACK = "/"
FIELDS = 7  # name, password, uid, gid, comment, home, shell
UID_FIELD, HOME_FIELD = 2, 5


class FindHome(NamedTuple):
    """init or an exec, inside its root and before it becomes its user: HOME in the environment.

    Stands in a plan only where process.env has no HOME or an empty one. A script may put HOME in place by itself if it
    knows the file to be the one that the container will see: the bundle's own rootfs/etc/passwd, a regular file reached
    without a symlink, with no mount of the config on /etc or on the file. `home_of` is then the whole answer.
    """

    uid: int

    def describe(self) -> tuple[str, str]:
        return "find", f"the home of user {self.uid}"

    def execute(self, making: Making) -> None:
        making.env = [*making.env, f"HOME={self._found(making)}"]

    def _found(self, making: Making) -> str:
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return home_of(self.uid, _read(root))
        except OSError:  # no such file, or none that can be read: as if the user were not in it
            return FALLBACK
        finally:
            os.close(root)


def wanted(environment: tuple[str, ...]) -> bool:
    """Does an environment leave HOME to us? The last entry of a name counts."""
    home = ""
    for entry in environment:
        if entry.startswith("HOME="):
            home = entry[5:]
    return not home


def home_of(uid: int, passwd: bytes) -> str:
    """The home of the first line that names the user; "/" if there is none."""
    digits = str(uid).encode()
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) != FIELDS or fields[UID_FIELD] != digits:
            continue
        home = fields[HOME_FIELD]
        if home.startswith(b"/") and b"\0" not in home and len(home) < MOST_HOME:
            return os.fsdecode(home)
        return FALLBACK
    return FALLBACK


def _read(root: int) -> bytes:
    """What the file begins with; b"" for what is no regular file: a fifo would block, a device may do anything.

    O_NONBLOCK: opening a fifo comes back at once, and so does reading a file of procfs that waits for events.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    fd = paths.open_in_root(root, PASSWD, flags)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        parts: list[bytes] = []
        left = MOST_BYTES
        while left and (part := os.read(fd, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
