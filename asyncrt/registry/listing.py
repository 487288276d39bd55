"""What a repository says that it has: its tags, and what refers to a manifest.

Both come in pages, whose `Link` names the next; of that only the query is taken, so that no page leads elsewhere.
Referrers of a registry without that API stand in an index under a tag made of the digest (distribution-spec
v1.1.1, "Referrers Tag Schema").
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from asyncrt.errors import NoSuchObject
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.media_types import OCI_INDEX
from asyncrt.registry import failures
from asyncrt.registry.client import Repository
from asyncrt.registry.exchange import Answer

_PAGE_BYTES = 4 << 20
_PAGE_TAGS = 1000
_MOST_PAGES = 1000
_NEXT = re.compile(r"<([^<>]{1,4096})>\s*;(?:[^,]*;)?\s*rel=\"?next\"?", re.IGNORECASE)

_T = TypeVar("_T")


class _Tags(msgspec.Struct):
    tags: tuple[str, ...] | None = None


class _Index(msgspec.Struct):
    manifests: tuple[Descriptor, ...] | None = None


async def tags(repository: Repository) -> list[str]:
    """All tags, in the registry's order. NoSuchObject without such a repository."""
    found: dict[str, None] = {}

    async def add(answer: Answer) -> int:
        before = len(found)
        found.update(dict.fromkeys((await _decoded(answer, _Tags, "list tags", repository)).tags or ()))
        return len(found) - before

    await _pages(repository, "list tags", f"tags/list?n={_PAGE_TAGS}", add)
    return list(found)


async def referrers(repository: Repository, digest: str, artifact_type: str = "") -> list[Descriptor]:
    """What names the manifest `digest` as its subject; of `artifact_type` alone, if that is given."""
    found: dict[str, Descriptor] = {}

    async def add(answer: Answer) -> int:
        before = len(found)
        entries = (await _decoded(answer, _Index, "list referrers", repository)).manifests or ()
        found.update((entry.digest, entry) for entry in entries)
        return len(found) - before

    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    try:
        await _pages(repository, "list referrers", f"referrers/{digest}{query}", add)
    except NoSuchObject:
        await _fallback(repository, digest, add)
    # A registry that filters says so; filtering again what it has filtered changes nothing.
    return [one for one in found.values() if not artifact_type or one.artifact_type == artifact_type]


def fallback_tag(digest: str) -> str:
    """The tag below which the referrers of a manifest stand where the API is not there."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def _fallback(repository: Repository, digest: str, add: Callable[[Answer], Awaitable[int]]) -> None:
    headers = {"Accept": OCI_INDEX}
    subject = f"{repository.name}:{fallback_tag(digest)}"
    try:
        await repository.read("list referrers", subject, "GET", f"manifests/{fallback_tag(digest)}", headers, add)
    except NoSuchObject:
        return


async def _pages(repository: Repository, deed: str, where: str, add: Callable[[Answer], Awaitable[int]]) -> None:
    """Give each page to `add`, which says how much was new: a page that brings nothing is the last."""

    async def take(answer: Answer) -> str:
        new = await add(answer)
        match = _NEXT.search(answer.headers.get("link", ""))
        return urlsplit(match[1]).query if match and new else ""

    place = where.partition("?")[0]
    for _ in range(_MOST_PAGES):
        query = await repository.read(deed, repository.name, "GET", where, {}, take)
        if not query:
            return
        where = f"{place}?{query}"
    raise failures.unreadable(deed, repository.name, f"it has more than {_MOST_PAGES} pages")


async def _decoded(answer: Answer, kind: type[_T], deed: str, repository: Repository) -> _T:
    data = await answer.read(_PAGE_BYTES)
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise failures.unreadable(deed, repository.name, str(error)) from None
