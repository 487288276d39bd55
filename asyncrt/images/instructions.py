"""`--change`: the instructions of a Dockerfile that change an image's config and nothing else.

    apply(config, ["CMD [\\"serve\\"]", "ENV A=1 B=\\"two words\\""])      config is the `config` of the image config

Known: CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD STOPSIGNAL USER VOLUME WORKDIR, as docker commit and docker import take
them. A list is JSON, anything else of CMD and ENTRYPOINT a line for /bin/sh. Variables are not put in: what `$A` means
is the shell's to say. Source: docs.docker.com/reference/dockerfile.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from asyncrt.errors import BadRequest

_PORT = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(/(tcp|udp|sctp))?", re.ASCII)
_SHELL = ["/bin/sh", "-c"]


def apply(config: dict[str, Any], changes: Iterable[str]) -> None:
    """Change `config` in place. BadRequest names the instruction that makes no sense; then it may be half changed."""
    for change in changes:
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            raise _refused(change, "it is none that changes a config", f"known are {' '.join(sorted(_INSTRUCTIONS))}")
        if not rest.strip():
            raise _refused(change, "something is missing behind it")
        if "\0" in rest:
            raise _refused(change.replace("\0", "?"), "there is a NUL character in it")
        instruction(config, rest.strip(), change)


def _command(config: dict[str, Any], rest: str, change: str) -> None:
    config["Cmd"] = _words(rest) or [*_SHELL, rest]


def _entrypoint(config: dict[str, Any], rest: str, change: str) -> None:
    config["Entrypoint"] = _words(rest) or [*_SHELL, rest]
    config.pop("Cmd", None)  # it was for another program


def _words(rest: str) -> list[str] | None:
    """The strings of a JSON list; None for what is none."""
    try:
        return msgspec.json.decode(rest, type=list[str])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


def _pairs(rest: str, change: str) -> list[tuple[str, str]]:
    """NAME=VALUE with shell's quotes, several; or NAME VALUE, one."""
    first = rest.split(None, 1)[0]
    if "=" not in first:
        name, _, value = rest.partition(" ")
        if not value.strip():
            raise _refused(change, f'"{name}" has no value')
        return [(name, value.strip())]
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise _refused(change, str(error).lower()) from None
    pairs = [tuple(word.split("=", 1)) for word in words]
    if not all(len(pair) == 2 and pair[0] for pair in pairs):
        raise _refused(change, "one of its words is no NAME=VALUE")
    return [(pair[0], pair[1]) for pair in pairs]


def _env(config: dict[str, Any], rest: str, change: str) -> None:
    entries = {entry.partition("=")[0]: entry for entry in config.get("Env") or ()}
    entries |= {name: f"{name}={value}" for name, value in _pairs(rest, change)}
    config["Env"] = list(entries.values())


def _label(config: dict[str, Any], rest: str, change: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs(rest, change))}


def _expose(config: dict[str, Any], rest: str, change: str) -> None:
    ports = rest.split()
    for port in ports:
        if not _PORT.fullmatch(port):
            raise _refused(change, f'"{port}" is no port')
    whole: dict[str, Any] = {port if "/" in port else f"{port}/tcp": {} for port in ports}
    config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **whole}


def _volume(config: dict[str, Any], rest: str, change: str) -> None:
    paths = _words(rest) or rest.split()
    for path in paths:
        if not path.startswith("/") or posixpath.normpath(path) == "/":
            raise _refused(change, f'"{path}" is no place of a volume')
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _on_build(config: dict[str, Any], rest: str, change: str) -> None:
    config["OnBuild"] = [*(config.get("OnBuild") or ()), rest]


def _workdir(config: dict[str, Any], rest: str, change: str) -> None:
    config["WorkingDir"] = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", rest))


def _user(config: dict[str, Any], rest: str, change: str) -> None:
    config["User"] = rest


def _stop_signal(config: dict[str, Any], rest: str, change: str) -> None:
    config["StopSignal"] = rest


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str, str], None]] = {
    "CMD": _command,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


def _refused(change: str, cause: str, hint: str = "") -> BadRequest:
    return BadRequest("read", f'--change "{change[:100]}"', cause, hint)
