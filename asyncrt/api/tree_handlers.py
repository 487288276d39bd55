"""The requests about trees of containers and images made of them; handlers.py sends them here."""

from __future__ import annotations

from typing import Any, Protocol

from asyncrt.engine import authoring, contents, copying, describing, forgetting
from asyncrt.engine.authoring import Made
from asyncrt.engine.engine import Engine
from asyncrt.errors import BadRequest
from asyncrt.model.tree_requests import (
    Commit,
    CopyFrom,
    CopyTo,
    Diff,
    Export,
    Import,
    InspectImages,
    PathStat,
    PruneImages,
    TreeRequest,
)


class Send(Protocol):
    async def __call__(self, value: Any) -> None: ...


async def serve(engine: Engine, request: TreeRequest, fds: list[int], item: Send) -> Any:
    """The End value; as handlers.serve."""
    match request:
        case Diff():
            return await contents.diff(engine, engine.table.find(request.ref, "diff"))
        case Export():
            return await contents.export(engine, engine.table.find(request.ref, "export"), _one(fds, "export"))
        case Commit():
            return _told(await authoring.commit(engine, engine.table.find(request.ref, "commit"), request))
        case Import():
            return _told(await authoring.import_(engine, _one(fds, "import"), request))
        case PathStat():
            container = engine.table.find(request.ref, "copy from")
            return await copying.stat_path(engine, container, request.path, request.follow)
        case CopyFrom():
            return await copying.copy_from(
                engine, engine.table.find(request.ref, "copy from"), request, _one(fds, "copy")
            )
        case CopyTo():
            return await copying.copy_to(engine, engine.table.find(request.ref, "copy to"), request, _one(fds, "copy"))
        case InspectImages():
            return [await describing.inspect(engine.images, ref) for ref in request.refs]
        case PruneImages():
            names, gone = await forgetting.prune(engine.images, lambda: forgetting.used(engine.table), request.all)
            return {"names": names, "blobs": gone}


def _told(made: Made) -> dict[str, str]:
    return {"name": made.name, "digest": made.target.digest, "id": made.id}


def _one(fds: list[int], deed: str) -> int:
    if len(fds) != 1:
        raise BadRequest(deed, "tree", f"one fd is needed, {len(fds)} came")
    return fds[0]
