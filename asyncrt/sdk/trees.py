"""What a container's tree is asked for: diff, commit, export, copies in and out."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrt.model.tree_requests import Commit, CopyFrom, CopyTo, Diff, Export, PathStat, Stat
from asyncrt.sdk import copying
from asyncrt.sdk.answer import typed
from asyncrt.sdk.connection import Reach
from asyncrt.sdk.deadlines import within


class Trees:
    """The part of a Container that is about its tree; local paths mean what docker's cp makes of them."""

    id: str
    name: str
    _reach: Reach

    async def diff(self, *, timeout: float | None = None) -> _Lines:
        """(A added, C changed or D deleted; the path), by path, against its image."""
        with within(timeout, "diff", self.name):
            return typed(await self._reach.ask(Diff(self.id)), _Lines)
        raise AssertionError("unreachable")

    async def commit(
        self,
        name: str = "",
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
        timeout: float | None = None,
    ) -> str:
        """An image of it; the image's id.

        Conflict for one that stands on host: or rootfs:, BadRequest for a name or change that is none.
        """
        with within(timeout, "commit", self.name):
            wish = Commit(self.id, name, author, message, tuple(changes), pause)
            return typed(await self._reach.ask(wish), dict[str, str])["id"]
        raise AssertionError("unreachable")

    async def export(self, fd: int, *, timeout: float | None = None) -> None:
        """Its tree as a tar, without mounts, into an fd: a file, or a pipe that somebody reads."""
        with within(timeout, "export", self.name):
            answer, _ = await self._reach.call(Export(self.id), [fd])
            await answer.result()

    async def stat(self, path: str, *, follow: bool = False, timeout: float | None = None) -> Stat:
        """What a path in it is. NoSuchObject."""
        with within(timeout, "look at", f"{self.name}:{path}"):
            return typed(await self._reach.ask(PathStat(self.id, path, follow)), Stat)
        raise AssertionError("unreachable")

    async def copy_from(
        self, path: str, target: str | int, *, follow: bool = False, owners: bool = False, timeout: float | None = None
    ) -> int:
        """Copy out of it to a local path, or to an fd as a tar; the count of entries.

        `follow` a symlink at the end of `path`; `owners` keeps their numbers. NoSuchObject, BadRequest.
        """
        with within(timeout, "copy from", f"{self.name}:{path}"):
            contents = copying.is_contents(path)
            if isinstance(target, int):
                answer, _ = await self._reach.call(CopyFrom(self.id, path, "", contents, follow), [target])
                return int(await answer.result())
            found = await self.stat(path, follow=follow)
            with copying.destination(target, found, contents) as end:
                wish = CopyFrom(self.id, path, end.name, end.contents, follow, owners)
                answer, _ = await self._reach.call(wish, [end.fd])
                return int(await answer.result())
        raise AssertionError("unreachable")

    async def copy_to(
        self, source: str | int, path: str, *, follow: bool = False, owners: bool = False, timeout: float | None = None
    ) -> int:
        """Copy a local path into it, or unpack the tar that an fd gives into its directory `path`; as copy_from()."""
        with within(timeout, "copy to", f"{self.name}:{path}"):
            if isinstance(source, int):
                answer, _ = await self._reach.call(CopyTo(self.id, path), [source])
                return int(await answer.result())
            with copying.source(source, follow) as end:
                wish = CopyTo(self.id, path, end.name, end.called, end.contents, owners)
                answer, _ = await self._reach.call(wish, [end.fd])
                return int(await answer.result())
        raise AssertionError("unreachable")


_Lines = list[tuple[str, str]]
