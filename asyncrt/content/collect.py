"""What may go: everything that no root reaches. Roots and edges are values that the metadata room gives.

live = reachable(roots=[manifest, ...], children={manifest: (config, layer, ...)})
content.collect(lambda: live)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from asyncrt.content.store import Content
from asyncrt.errors import Conflict

INGEST_DAYS = 7  # that an ingest nobody goes on with is kept


def reachable(roots: Iterable[str], children: Mapping[str, Sequence[str]]) -> set[str]:
    """All digests that a root leads to, the roots included; a ring does no harm."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting.extend(children.get(digest, ()))
    return found


def drop_stale_ingests(content: Content, kept: Iterable[str] = (), older_ns: int = INGEST_DAYS * 86400 * 10**9) -> int:
    """Remove the ingests that nobody has written to for so long, but for those of the refs `kept`; how many."""
    count, now, spared = 0, time.time_ns(), set(kept)
    for status in content.ingests():
        if status.active or status.ref in spared or now - status.updated_ns < older_ns:
            continue
        try:
            with content.ingest(status.ref) as ingest:
                ingest.drop()
            count += 1
        except Conflict:
            continue  # somebody goes on with it after all
    return count
