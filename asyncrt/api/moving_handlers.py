"""The requests that move images between places, and what goes with them."""

from __future__ import annotations

import re
from typing import Any

from asyncrt.api.image_handlers import Send, telling
from asyncrt.engine import forgetting
from asyncrt.engine.engine import Engine
from asyncrt.errors import BadRequest, shown
from asyncrt.model import reference as references
from asyncrt.model.moving_requests import Copy, Login, Logout, Unpack

Requests = Copy | Unpack | Login | Logout
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?")


async def serve(engine: Engine, request: Requests, item: Send) -> Any:
    """The End value; as handlers.serve."""
    match request:
        case Copy():
            from asyncrt.engine.transports import copy

            target = await telling(item, lambda send: copy(engine.images, request, send))
            await forgetting.collect(engine.images, lambda: forgetting.used(engine.table))
            return {"digest": target.digest, "media_type": target.media_type}
        case Unpack():
            from asyncrt.engine.bundling import unpack

            return {"name": await unpack(engine.images, request)}
        case Login():
            kept = await _login(request)
            await engine.images.forget_logins()
            return {"kept": kept}
        case Logout():
            from asyncrt.registry.credentials import Credentials

            gone = await Credentials().forget(_host(request.host))
            await engine.images.forget_logins()
            return {"gone": gone}


async def _login(request: Login) -> str:
    """Kept only if the registry takes them. Where."""
    from asyncrt.engine.images import hosts
    from asyncrt.registry.client import open_client
    from asyncrt.registry.credentials import Credential, Credentials, Given
    from asyncrt.registry.endpoints import Settings

    if not request.user or not request.password or ":" in request.user:
        raise BadRequest("log in to", shown(request.host), "a user and a password are needed; no : in the user's name")
    host = _host(request.host)
    async with open_client(Settings(hosts()), Given(host, f"{request.user}:{request.password}")) as client:
        await client.check(host)
    return await Credentials().remember(host, Credential(request.user, request.password))


def _host(text: str) -> str:
    """A registry as people write it; docker's own under its many names is docker.io."""
    bare = text.removeprefix("https://").removeprefix("http://").rstrip("/").removesuffix("/v1").lower()
    if not bare:
        return references.DEFAULT_HOST
    if not _REGISTRY.fullmatch(bare):
        raise BadRequest("log in to", shown(text), "it is no registry", "write HOST or HOST:PORT")
    return references.DEFAULT_HOST if bare in ("index.docker.io", "registry-1.docker.io") else bare
