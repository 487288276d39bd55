"""`unpack`: an image as a bundle of the runtime-spec, which runc, crun and asyncrt-oci run; or one half of it.

    PATH/rootfs         all layers, one over the other, as the image has them
    PATH/config.json    the image's config by the image-spec's conversion, in the default confinement of this engine

The layers are read from the content store, not from the engine's snapshots: a directory of somebody's own has plain
files, without overlayfs's marks. Source: image-spec v1.1.1, conversion.md.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from asyncrt.engine import policy
from asyncrt.engine.images import Found, Images, laid_over, layers_of
from asyncrt.errors import BadRequest, StorageFailed
from asyncrt.layers.apply import apply
from asyncrt.model import platform
from asyncrt.model.moving_requests import Unpack
from asyncrt.model.options import Options
from asyncrt.snapshots.sources import Source
from shimd.spec.config import Mount
from shimd.spec.decode import encode

# What runtimes of five years ago take as well: crun 1.8 refuses a newer version, runc 1.1 any flag of seccomp(2).
_VERSION = "1.0.2"
_WHAT = ("bundle", "rootfs", "config")


async def unpack(images: Images, wish: Unpack) -> str:
    """Do it; the image's name in full. BadRequest: `path` is not empty. As pull() for an image that is not here."""
    if wish.what not in _WHAT:
        raise BadRequest("unpack", wish.what, f"known are {', '.join(_WHAT)}")
    wanted = platform.parse(wish.platform) if wish.platform else platform.host()
    async with images.using():
        found = await images.stored(wish.image, wanted)
        await trio.to_thread.run_sync(partial(_fill, images, found, wish))
    return found.name


def _fill(images: Images, found: Found, wish: Unpack) -> None:
    """In a thread."""
    path = Path(wish.path)
    rootfs = path if wish.what == "rootfs" else path / "rootfs"
    with _new(path, wish.what):
        if wish.what == "bundle":
            rootfs.mkdir(0o755)
        if wish.what != "config":
            _unpack(images, found, rootfs)
        if wish.what != "rootfs":
            data = msgspec.json.format(msgspec.json.encode(_config(found, rootfs)), indent=4)
            config = os.open(path / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(config, "wb") as file:
                file.write(data)


@contextlib.contextmanager
def _new(path: Path, what: str) -> Iterator[None]:
    """The directory, made or empty (of "config", with a rootfs and no more); on failure what was made is taken back."""
    there = set(os.listdir(path)) if path.is_dir() else None
    if what == "config" and there != {"rootfs"}:
        raise BadRequest("write bundle", str(path), "it has no rootfs, or more than that", "asyncrt unpack makes both")
    if what != "config" and there:
        raise BadRequest("unpack", str(path), "it is not empty", "name a new directory")
    try:
        try:
            if there is None:
                path.mkdir()
                path.chmod(0o755)  # the supervisor's umask is 077
            yield
        except OSError as error:
            raise StorageFailed("unpack", str(path), (error.strerror or str(error)).lower()) from error
    except BaseException:
        _take_back(path, there)
        raise


def _take_back(path: Path, there: set[str] | None) -> None:
    """What is in the directory and was not; the directory itself, if it was not there."""
    if there is None:
        shutil.rmtree(path, ignore_errors=True)
        return
    for name in set(os.listdir(path)) - there:
        inner = path / name
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, ignore_errors=True)
        else:
            inner.unlink(missing_ok=True)


def _unpack(images: Images, found: Found, rootfs: Path) -> None:
    tree = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for layer in layers_of(found.image):
            check = trio.from_thread.check_cancelled
            blob = images.content.open(layer.descriptor.parsed, check)
            try:
                apply(blob, tree, "remove", diff_id=layer.diff_id, check=check)
            finally:
                os.close(blob)
    finally:
        os.close(tree)


def _config(found: Found, rootfs: Path) -> dict[str, Any]:
    """The image's config as a runtime's; names of users are looked up in the files beside it."""
    # Volumes of the engine are not the bundle's: the image's places for them get a tmpfs below, as umoci does.
    options = msgspec.structs.replace(laid_over(Options(image=""), found), image_volumes=())
    if not (*options.entrypoint, *options.args):
        options = msgspec.structs.replace(options, args=("sh",))  # as umoci and oci-image-tool have it
    config = policy.config_for(options, Source("rootfs", str(rootfs)), rootfs.parent, rootfs.parent)
    mounts = tuple(Mount(place, "tmpfs", "tmpfs", ("nosuid", "nodev", "mode=755")) for place in found.settings.volumes)
    seccomp = config.linux.seccomp
    assert seccomp is not None
    return encode(
        config._replace(
            oci_version=_VERSION,
            linux=config.linux._replace(seccomp=seccomp._replace(flags=())),
            hostname="asyncrt",
            mounts=(*config.mounts, *mounts),
            annotations=dict(found.settings.annotations),
        )
    )
