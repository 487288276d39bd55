"""One stored layer into one directory: inflated, verified, unpacked, in the calling thread.

    applied = apply(blob, root, style="overlay", diff_id=diff_id)       # fds; in a worker thread

Nothing is undone here: the directory belongs to a snapshot under preparation, which is dropped as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from asyncrt.errors import AsyncrtError, BadImage
from asyncrt.layers.extract import Extractor
from asyncrt.layers.feed import Feed
from asyncrt.layers.inflate import Inflated
from asyncrt.layers.limits import DEFAULT, Limits
from asyncrt.layers.reader import Reader
from asyncrt.layers.whiteouts import Style
from asyncrt.model.digest import Digest


class Applied(NamedTuple):
    """What became of a layer. `size` is that of its tar, `implicit` and `borrowed` are for the snapshot's commit."""

    diff_id: Digest
    size: int
    entries: int
    implicit: tuple[bytes, ...]
    dropped_xattrs: int
    borrowed: tuple[tuple[bytes, bytes], ...] = ()


def _nothing() -> None:
    """No reason to stop."""


def apply(
    blob: int,
    root: int,
    style: Style,
    *,
    digest: Digest | None = None,
    diff_id: Digest | None = None,
    check: Callable[[], None] = _nothing,
    owners: bool | None = None,
    limits: Limits = DEFAULT,
) -> Applied:
    """Unpack the layer in the file `blob` (an fd) into the directory `root` (an fd).

    `digest` is that of the stored bytes, to be given unless they were verified already. `check` is called every few
    entries and may raise to end it (trio.from_thread.check_cancelled). BadImage: a layer that is damaged, hostile, or
    not the one of `digest` or `diff_id`; StorageFailed: a full disk and its kin. The directory is half filled then.
    """
    subject = str(digest or diff_id or "")
    try:
        with Inflated(blob, limits, hash_stored=digest is not None) as inflated:
            feed = Feed(inflated.chunks())
            reader = Reader(feed, limits)
            with Extractor(root, style, check, owners) as extractor:
                tree = extractor.run(reader)
            feed.drain()
            if digest is not None and inflated.digest != digest:
                raise BadImage("check layer", str(digest), f"its bytes have the digest {inflated.digest}")
            if diff_id is not None and inflated.diff_id != diff_id:
                raise BadImage("check layer", str(diff_id), f"its tar has the diffID {inflated.diff_id}")
            return Applied(inflated.diff_id, inflated.size, tree.entries, tree.implicit, tree.dropped, tree.borrowed)
    except AsyncrtError as error:
        if error.subject or not subject:
            raise
        raise type(error)(error.deed, subject, error.cause, error.hint, error.code) from error
