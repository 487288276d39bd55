"""What the kernel refuses while a layer is unpacked, in our words: whose fault it is decides the kind of error."""

from __future__ import annotations

import errno

from asyncrt.errors import AsyncrtError, BadImage, StorageFailed
from asyncrt.layers.entry import Entry

# What the layer asked for cannot be; everything else is the machine's.
_THE_LAYERS = {
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its path goes through too many symlinks",
    errno.EXDEV: "its path leads out of the tree",
    errno.ENOTDIR: "a part of its path is no directory",
    errno.ENOENT: "a part of its path leads nowhere",
    errno.EFBIG: "the file is larger than the file system takes",
    errno.EMLINK: "it has more hardlinks than the file system takes",
    errno.EINVAL: "the file system refuses the name or value",
}
_HINTS = {
    errno.ENOSPC: "free some space on its file system; what was unpacked is taken back",
    errno.EDQUOT: "raise the quota, or free some space; what was unpacked is taken back",
    errno.EPERM: "owners, devices and capabilities need root",
}


def failure(entry: Entry | None, error: OSError) -> AsyncrtError:
    """What to raise for `error` that came of `entry`; None: of the directories at the end."""
    subject = shown(entry.name) if entry else "the tree"
    number = error.errno or 0
    if number in _THE_LAYERS:
        return BadImage("unpack", subject, _THE_LAYERS[number])
    cause = (error.strerror or str(error)).lower()
    return StorageFailed("unpack", subject, cause, _HINTS.get(number, ""))


def shown(name: bytes) -> str:
    """A name as it may stand in a line for people: bytes that are no UTF-8, and control characters, escaped."""
    text = name.decode(errors="backslashreplace") or "/"
    return text if text.isprintable() else text.encode("unicode_escape").decode()
