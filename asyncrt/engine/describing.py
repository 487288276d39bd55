"""Images as documents: what `image inspect` and `history` show, in docker's shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from asyncrt.engine.images import Found, Images
from asyncrt.engine.naming import is_bare
from asyncrt.images import blobs as store
from asyncrt.model import reference as references
from asyncrt.model.reference import Reference


async def inspect(images: Images, text: str) -> dict[str, Any]:
    """The document of one image. NoSuchObject. Sizes are those of the layers as they are stored."""
    found = await images.find(text)
    names = [references.parse(one.name) for one in images.names.of(found.image.target.digest) if not is_bare(one.name)]
    raw = await store.document(images.blobs, found.image.manifest.config, text)
    config: dict[str, Any] = msgspec.json.decode(raw)
    target, own = found.image.target, found.image.config
    latest = max(one.updated_ns for one in images.names.of(target.digest))
    return {
        "Id": found.image.manifest.config.digest,
        "RepoTags": [one.familiar() for one in names if one.tag],
        "RepoDigests": sorted({f"{_repository(one)}@{target.digest}" for one in names}),
        "Parent": "",
        "Comment": (config.get("history") or [{}])[-1].get("comment") or "",
        "Created": own.created or "",
        "Author": own.author or "",
        "Config": config.get("config") or {},
        "Architecture": own.architecture,
        "Variant": own.variant or "",
        "Os": own.os,
        "Size": sum(layer.size for layer in found.image.layers),
        "RootFS": {"Type": "layers", "Layers": list(own.diff_ids)},
        "Metadata": {"LastTagTime": datetime.fromtimestamp(latest // 10**9, UTC).isoformat()},
        "Descriptor": {"mediaType": target.media_type, "digest": target.digest, "size": target.size},
        "History": _history(found),
    }


def _repository(reference: Reference) -> str:
    """The name without tag and digest."""
    bare = reference._replace(digest="")
    return bare.familiar().removesuffix(f":{bare.tag}")


def _history(found: Found) -> list[dict[str, Any]]:
    """The steps, the newest first, each with the bytes of its layer; layers that no step tells of have one, too."""
    layers = list(found.image.layers)
    steps = []
    for step in found.image.config.history or ():
        layer = layers.pop(0) if layers and not step.empty_layer else None
        steps.append(
            {
                "Created": step.created or "",
                "CreatedBy": step.created_by or "",
                "Comment": step.comment or "",
                "Author": step.author or "",
                "Size": layer.size if layer is not None else 0,
            }
        )
    for layer in layers:
        steps.append({"Created": "", "CreatedBy": "", "Comment": "", "Author": "", "Size": layer.size})
    return steps[::-1]
