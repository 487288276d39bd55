"""New images: commit (a container's changes over its image) and import (a tar as an image of one layer).

What is made is seen once it is whole, and named last:

    ingest "making ..."     the layer on its way; what a crash leaves of it the next supervisor drops
    lease "making ..."      names the blobs before they are there; without a name for them, it says what to remove
    layer, config, manifest as blobs
    the name                and with it the lease goes

so a crash, a full disk or a caller who leaves costs at most the layer's writing (`sweep`).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec
import structlog
import trio

from asyncrt.content.ingest import Ingest
from asyncrt.content.store import Content
from asyncrt.engine import contents
from asyncrt.engine.engine import Engine
from asyncrt.engine.images import Images
from asyncrt.errors import AsyncrtError, BadImage, BadRequest, Conflict, StorageFailed
from asyncrt.images import blobs as store
from asyncrt.images import documents, instructions, tars
from asyncrt.images.documents import Manifest
from asyncrt.layers.deflate import Written
from asyncrt.metadata.writer import Writer
from asyncrt.model import media_types
from asyncrt.model import platform as platforms
from asyncrt.model import reference as references
from asyncrt.model.container import Container
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.digest import Digest
from asyncrt.model.image import Lease
from asyncrt.model.tree_requests import Commit, Import
from shimd.linux import freezer

MAKING = "making "
LEASE_NS = 24 * 3600 * 10**9
_EMPTY_TAR = 1024  # bytes of a tar without an entry
_log = structlog.get_logger("asyncrt.engine.authoring")


class Made(NamedTuple):
    """A new image: its manifest, its config's digest, its name in full ("" for none)."""

    target: Descriptor
    id: str
    name: str


class Draft(NamedTuple):
    """An image before its last layer is known: its config as a document, and the layers below."""

    config: dict[str, Any]
    layers: tuple[Descriptor, ...]
    step: dict[str, Any]


async def commit(engine: Engine, container: Container, wish: Commit) -> Made:
    """An image of a container. Conflict: it stands on no image; BadRequest: a name or change that is none."""
    name = _name(wish.name)
    if container.base is None:
        hint = f"asyncrt export {container.name} | asyncrt import - NAME"
        raise Conflict("commit", container.name, f"it stands on {container.options.image}, which is no image", hint)
    images = engine.images
    async with images.using():
        draft = await _continued(images, container, wish)
        async with _still(engine, container, wish.pause):
            write = partial(contents.write_layer, engine, container)
            return await _make(images, draft, write, name)


async def import_(engine: Engine, fd: int, wish: Import) -> Made:
    """An image of a tar that `fd` gives, plain or compressed. BadImage: it is none, or none that one would unpack."""
    name = _name(wish.name)
    wanted = platforms.parse(wish.platform) if wish.platform else platforms.host()
    config: dict[str, Any] = {}
    instructions.apply(config, wish.changes)
    document = {"architecture": wanted.architecture, "os": wanted.os, "config": config, "history": []}
    document |= {"variant": wanted.variant} if wanted.variant else {}
    document["rootfs"] = {"type": "layers", "diff_ids": []}
    step = {"created_by": "", "comment": wish.message or f"Imported from {wish.source or '-'}"}

    def write(sink: Callable[[bytes], object]) -> Written:
        written = tars.squeezed(fd, sink, trio.from_thread.check_cancelled)
        if not written.tar_size:
            raise BadImage("import", wish.source or "-", "it is empty")
        return written

    async with engine.images.using():
        return await _make(engine.images, Draft(document, (), step), write, name, unpack=True)


def _name(text: str) -> str:
    if not text:
        return ""
    reference = references.parse(text)
    if reference.digest:
        raise BadRequest("name image", text, "a new image's digest is not for its maker to choose", "give a tag alone")
    return str(reference)


@contextlib.asynccontextmanager
async def _still(engine: Engine, container: Container, pause: bool) -> AsyncIterator[None]:
    """While no process of the container runs, if that is wished and it does.

    No record says so: what freezes without one the next supervisor thaws (pause.py).
    """
    if not pause or container.state != "running":
        yield
        return
    version, directory = engine.cgroups.freezer(container.id)
    try:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(freezer.freeze, version, directory)
    except OSError as error:
        now = engine.table.get(container.id)
        if now is None or now.state == "running":
            raise Conflict("commit", container.name, (error.strerror or str(error)).lower(), "--pause=false") from error
    try:
        yield
    finally:
        now = engine.table.get(container.id)
        if now is not None and now.state != "paused":  # somebody else's pause meanwhile stays
            with contextlib.suppress(OSError):  # it ended
                freezer.thaw(version, directory)


async def _continued(images: Images, container: Container, wish: Commit) -> Draft:
    """The image of a container, as far as it is known before its layer: what docker's commit takes over."""
    assert container.base is not None
    subject = container.image
    manifest = documents.read(await store.document(images.blobs, container.base, subject), container.base.media_type)
    if not isinstance(manifest, Manifest):
        raise BadImage("commit", container.name, "its image is an index")
    raw = await store.document(images.blobs, manifest.config, subject)
    document: dict[str, Any] = msgspec.json.decode(raw)
    for theirs in ("container", "container_config", "docker_version", "parent", "id"):
        document.pop(theirs, None)
    options = container.options
    config: dict[str, Any] = dict(document.get("config") or {})
    for key, value in (
        ("Cmd", list(options.args)),
        ("Entrypoint", list(options.entrypoint)),
        ("Env", list(_last_wins(options.env))),
        ("User", options.user),
        ("WorkingDir", options.workdir),
    ):
        if value:
            config[key] = value
        else:
            config.pop(key, None)
    for theirs in ("Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr"):
        config.pop(theirs, None)
    instructions.apply(config, wish.changes)
    document["config"] = config
    if wish.author:
        document["author"] = wish.author
    layers = tuple(_as_oci(layer) for layer in documents.layers(manifest, subject))
    document["history"] = _steps(document, len(layers))
    step = {"created_by": " ".join((*options.entrypoint, *options.args))}
    step |= {"author": wish.author} if wish.author else {}
    step |= {"comment": wish.message} if wish.message else {}
    return Draft(document, layers, step)


def _last_wins(env: tuple[str, ...]) -> list[str]:
    return list({entry.partition("=")[0]: entry for entry in env}.values())


def _steps(document: dict[str, Any], layers: int) -> list[dict[str, Any]]:
    """The history, with a step for each layer: who reads it counts them."""
    steps = list(document.get("history") or ())
    told = sum(1 for step in steps if not step.get("empty_layer"))
    return steps + [{"comment": "a layer that the history said nothing of"}] * (layers - told)


def _as_oci(layer: Descriptor) -> Descriptor:
    """The same blob by OCI's media type: a manifest is of one kind."""
    form = media_types.LAYERS[layer.media_type]
    suffix = "" if form in ("", "plain") else f"+{form}"
    return Descriptor(media_types.OCI_LAYER + suffix, layer.digest, layer.size)


async def _make(
    images: Images, draft: Draft, write: Callable[[Callable[[bytes], object]], Written], name: str, unpack: bool = False
) -> Made:
    """Write the layer, put it and its documents into the store, and name the whole."""
    label = MAKING + secrets.token_hex(8)
    ingest, written = await trio.to_thread.run_sync(_layer, images.content, label, write)
    lease: Lease | None = None
    try:
        layer = Descriptor(f"{media_types.OCI_LAYER}+gzip", str(written.digest), written.size)
        config, manifest = _documents(draft, layer, written)
        described = describe(config, media_types.OCI_CONFIG)
        encoded = documents.encode(msgspec.structs.replace(manifest, config=described))
        target = describe(encoded, media_types.OCI_MANIFEST)
        digests = (layer.digest, described.digest, target.digest)
        fresh = tuple(one for one in digests if images.content.size(Digest.parse(one)) is None)
        lease = Lease(label, time.time_ns() + LEASE_NS, fresh)
        await images.names.lease(lease)

        def publish() -> None:
            if layer in manifest.layers:
                ingest.commit(layer.size, written.digest)
            images.content.put(config, described.parsed)
            images.content.put(encoded, target.parsed)

        with images.content.hold(Digest.parse(one) for one in digests):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(publish)
            if unpack:
                await images.ready(name or target.digest, target, _platform(draft))
            with trio.CancelScope(shield=True):
                await images.take([name] if name else [], target)
                await images.names.end_lease(lease)
                lease = None
        return Made(target, described.digest, name)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_let_go, ingest)
            if lease is not None:
                await _take_back(images, lease)


def _platform(draft: Draft) -> Any:
    return platforms.parse(
        "/".join(filter(None, (draft.config["os"], draft.config["architecture"], draft.config.get("variant"))))
    )


def _documents(draft: Draft, layer: Descriptor, written: Written) -> tuple[bytes, Manifest]:
    """The config's bytes, and the manifest but for its config. A layer with nothing in it is no layer."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    step = {"created": now, **draft.step}
    layers, document = draft.layers, dict(draft.config)
    diff_ids = list(document["rootfs"].get("diff_ids") or ())
    if written.tar_size > _EMPTY_TAR or not layers:
        layers = (*layers, layer)
        diff_ids.append(str(written.diff_id))
    else:
        step["empty_layer"] = True
    document["created"] = now
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    document["history"] = [*(document.get("history") or ()), step]
    config = msgspec.json.encode(document)
    return config, Manifest(2, describe(config, media_types.OCI_CONFIG), layers, media_types.OCI_MANIFEST)


def _layer(
    content: Content, label: str, write: Callable[[Callable[[bytes], object]], Written]
) -> tuple[Ingest, Written]:
    ingest = content.ingest(label)
    try:
        return ingest, write(ingest.write)
    except BaseException:
        ingest.drop()
        raise


def _let_go(ingest: Ingest) -> None:
    with contextlib.suppress(StorageFailed):
        ingest.drop()
    ingest.close()


async def _take_back(images: Images, lease: Lease) -> None:
    """Remove what was made for an image that is not to be."""
    try:
        await trio.to_thread.run_sync(_remove_blobs, images, lease)
        await images.names.end_lease(lease)
    except AsyncrtError as error:
        _log.error("take back an image", error=str(error))


def _remove_blobs(images: Images, lease: Lease) -> None:
    doomed = set(lease.digests) - images.names.reachable()
    if doomed:  # what another holds or has just made stays: the collection sees to that
        images.content.collect(lambda: {str(one) for one in images.content.digests()} - doomed)


async def sweep(images: Images, writer: Writer) -> None:
    """Remove what a crash has left of images that were being made. Before the first request."""

    def drop() -> int:
        count = 0
        for status in images.content.ingests():
            if status.ref.startswith((MAKING, "put ", "load ")) and not status.active:
                with images.content.ingest(status.ref) as ingest:
                    ingest.drop()
                count += 1
        return count

    dropped = await trio.to_thread.run_sync(drop)
    leases = [lease for lease in writer.store.load_leases() if lease.id.startswith(MAKING)]
    for lease in leases:
        await _take_back(images, lease)
    if dropped or leases:
        _log.info("removed what a crash left", ingests=dropped, images=len(leases))
