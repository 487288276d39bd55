"""The image config: what an image was made for, what its containers run, and the diffIDs of its layers.

Both OCI's and docker's, which differ in media type alone. Docker writes `null` for what is empty, and more fields
than OCI names; those are skipped. Source: OCI image-spec v1.1.1, config.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from asyncrt.errors import BadImage
from asyncrt.images.decoding import decode
from asyncrt.images.documents import Manifest
from asyncrt.model.descriptor import Platform
from asyncrt.model.digest import is_digest
from asyncrt.model.media_types import CONFIGS


class Execution(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """The `config` of the config: the defaults of its containers."""

    user: str | None = None
    exposed_ports: Mapping[str, Any] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: Mapping[str, Any] | None = None
    working_dir: str | None = None
    labels: Mapping[str, str] | None = None
    stop_signal: str | None = None


class RootFs(msgspec.Struct, frozen=True):
    """The stack of layers by their uncompressed content."""

    type: str
    diff_ids: tuple[str, ...] | None = None


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `image history`."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str
    os: str
    rootfs: RootFs
    variant: str | None = None
    os_version: str | None = msgspec.field(default=None, name="os.version")
    os_features: tuple[str, ...] | None = msgspec.field(default=None, name="os.features")
    created: str | None = None
    author: str | None = None
    config: Execution | None = None
    history: tuple[Step, ...] | None = None

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return self.rootfs.diff_ids or ()

    @property
    def execution(self) -> Execution:
        return self.config or Execution()

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, self.os_version or "", self.os_features or (), self.variant or "")


def read(data: bytes, subject: str) -> Config:
    """The config that `data` is; BadImage names `subject`."""
    config = decode(data, Config, "image config", subject)
    if config.rootfs.type != "layers":
        raise BadImage("read image config", subject, f"its rootfs is of type {config.rootfs.type[:40]!r}, not layers")
    for diff_id in config.diff_ids:
        if not is_digest(diff_id):
            raise BadImage("read image config", subject, f"{diff_id[:100]!r} is no diffID")
    return config


def fits(manifest: Manifest, config: Config, subject: str) -> None:
    """BadImage unless config and manifest speak of the same number of layers."""
    if len(manifest.layers) != len(config.diff_ids):
        counts = f"{len(manifest.layers)} layers and {len(config.diff_ids)} diffIDs"
        raise BadImage("read image", subject, f"its manifest and its config do not fit: {counts}")


def runnable(manifest: Manifest, subject: str) -> None:
    """BadImage for an artifact: something that a registry keeps and nobody runs."""
    if manifest.artifact_type or manifest.config.media_type not in CONFIGS:
        raise BadImage("read image", subject, f"it is an artifact ({manifest.kind[:100]!r}), nothing to run")
