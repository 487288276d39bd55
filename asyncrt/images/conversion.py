"""Image config -> what a container of the image runs with, by the image-spec's conversion table.

    settings = convert(config, subject)

A pure function: the caller lays the user's options over its answer. `user` stays text, since names are found in
the image's own files; `annotations` are for `config.json` and nothing of ours reads them, nor the labels
(GO-2026-5758). Source: OCI image-spec v1.1.1, conversion.md.
"""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Mapping
from typing import NamedTuple

from asyncrt.errors import BadImage, shown
from asyncrt.images.config import Config

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)
_REALTIME = re.compile(r"(?:SIG)?RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?", re.ASCII)
_LAST_SIGNAL = 64
_ANNOTATION = "org.opencontainers.image"


class Port(NamedTuple):
    """A port, or a range of them, that the image's program listens on."""

    first: int
    last: int
    protocol: str


class Settings(NamedTuple):
    """What the image asks for. Empty means: it says nothing."""

    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    working_directory: str
    volumes: tuple[str, ...]
    ports: tuple[Port, ...]
    stop_signal: int
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def args(self) -> tuple[str, ...]:
        """process.args: the entrypoint, then the command."""
        return self.entrypoint + self.command


def convert(config: Config, subject: str) -> Settings:
    """The settings of an image; BadImage names `subject` and the field that makes no sense."""
    execution = config.execution
    labels = dict(execution.labels or {})
    settings = Settings(
        env=execution.env or (),
        entrypoint=execution.entrypoint or (),
        command=execution.cmd or (),
        user=execution.user or "",
        working_directory=_directory(execution.working_dir or ""),
        volumes=tuple(_volume(path, subject) for path in execution.volumes or ()),
        ports=tuple(_port(text, subject) for text in execution.exposed_ports or ()),
        stop_signal=_signal(execution.stop_signal or "", subject),
        labels=labels,
        annotations=_annotations(config) | labels,
    )
    _check_texts(settings, subject)
    return settings


def _annotations(config: Config) -> dict[str, str]:
    """The implicit ones of the table; a label of the same name goes before."""
    execution = config.execution
    found: Mapping[str, str | None] = {
        "os": config.os,
        "architecture": config.architecture,
        "variant": config.variant,
        "os.version": config.os_version,
        "os.features": ",".join(config.os_features or ()),
        "author": config.author,
        "created": config.created,
        "stopSignal": execution.stop_signal,
        "exposedPorts": ",".join(execution.exposed_ports or ()),
    }
    return {f"{_ANNOTATION}.{name}": value for name, value in found.items() if value}


def _directory(path: str) -> str:
    """Absolute, as docker makes of a relative one; without `..`, which would be resolved before the image is there."""
    return posixpath.normpath("/" + path.lstrip("/")) if path else ""


def _volume(path: str, subject: str) -> str:
    clean = _directory(path)
    if clean in ("", "/") or not path.startswith("/"):
        raise _refused(subject, "Volumes", f"{shown(path)!r} is no place of a volume")
    return clean


def _port(text: str, subject: str) -> Port:
    match = _PORT.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not match or not 0 < first <= last < 1 << 16:
        raise _refused(subject, "ExposedPorts", f"{shown(text)!r} is no port")
    return Port(first, last, match[3] or "tcp")


def _signal(text: str, subject: str) -> int:
    """The number of "SIGTERM", "TERM", "15" or "SIGRTMIN+3"; 0 for ""."""
    name = text.upper()
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 4 else 0
    if realtime := _REALTIME.fullmatch(name):
        offset = int(realtime[3] or 0) * (-1 if realtime[2] == "-" else 1)
        number = (signal.SIGRTMIN if realtime[1] == "MIN" else signal.SIGRTMAX) + offset
        number = number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
    elif not number:
        number = int(signal.Signals.__members__.get(f"SIG{name.removeprefix('SIG')}", 0))
    if text and not 0 < number <= _LAST_SIGNAL:
        raise _refused(subject, "StopSignal", f"{shown(text)!r} is no signal")
    return number


def _check_texts(settings: Settings, subject: str) -> None:
    """No NUL: the kernel would end the text there, and what was checked would not be what runs."""
    texts = {
        "Env": settings.env,
        "Entrypoint": settings.entrypoint,
        "Cmd": settings.command,
        "User": (settings.user,),
        "WorkingDir": (settings.working_directory,),
        "Volumes": settings.volumes,
    }
    for field, values in texts.items():
        if any("\0" in value for value in values):
            raise _refused(subject, field, "there is a NUL byte in it")


def _refused(subject: str, field: str, cause: str) -> BadImage:
    return BadImage("read image config", subject, f"{field}: {cause}")
