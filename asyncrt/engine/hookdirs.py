"""Hooks from directories, in podman's format: oci-hooks(5), versions 1.0.0 and 0.1.0.

    injected(["/etc/asyncrt/hooks.d"], Occasion(annotations, "/sbin/init", has_bind_mounts=True))  ->  spec Hooks

Blocks. Read anew for each request: a file that comes or goes counts for the next start.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asyncrt.errors import BadRequest
from shimd.spec.config import Hook, Hooks

STAGES = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
LARGEST = 1 << 20  # bytes of one file


class Occasion(NamedTuple):
    """What conditions are about."""

    annotations: Mapping[str, str]
    command: str
    has_bind_mounts: bool


class _Found(NamedTuple):
    hook: Hook
    stages: tuple[str, ...]
    conditions: tuple[bool, ...]
    any: bool
    """Does one condition suffice? (0.1.0)"""


def injected(directories: Sequence[str], occasion: Occasion) -> Hooks:
    """What applies, in the order of the file names. BadRequest names the file that is not as it should be."""
    files: dict[str, Path] = {}
    for directory in directories:
        files.update(_files(Path(directory)))
    chosen: dict[str, list[Hook]] = {field: [] for field in STAGES.values()}
    for name in sorted(files, key=lambda name: (name.lower(), name)):
        found = _read(files[name], occasion)
        if any(found.conditions) if found.any else all(found.conditions):
            for stage in found.stages:
                chosen[STAGES[stage]].append(found.hook)
    return Hooks(**{field: tuple(hooks) for field, hooks in chosen.items()})


def _files(directory: Path) -> dict[str, Path]:
    try:
        _refuse_strangers(directory)
        return {path.name: path for path in directory.iterdir() if path.name.endswith(".json")}
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise BadRequest("read", f"hooks directory {directory}", cause, "see ASYNCRT_HOOKS_DIR") from error


def _refuse_strangers(path: Path) -> None:
    """What is written there runs as root."""
    found = path.stat()
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        hint = f"chown root {path}; chmod go-w {path}"
        raise BadRequest("read", f"hooks from {path}", "others than root may write to it", hint)


def _read(path: Path, occasion: Occasion) -> _Found:
    try:
        _refuse_strangers(path)
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it is larger than {LARGEST} bytes")
        document = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("it is no object")
        version = document.get("version", "0.1.0")
        if version not in ("1.0.0", "0.1.0"):
            raise ValueError(f'version "{version}" is not known')
        found = _of_1(document, occasion) if version == "1.0.0" else _of_0(document, occasion)
        if not found.stages:
            raise ValueError("stages: none is given")
        if unknown := [stage for stage in found.stages if stage not in STAGES]:
            raise ValueError(f'stages: there is no "{unknown[0]}"')
        if not found.hook.path.startswith("/"):
            raise ValueError(f'hook.path: "{found.hook.path}" is not absolute')
        return found
    except OSError as error:
        raise BadRequest("read", f"hook {path}", (error.strerror or str(error)).lower()) from error
    except (ValueError, re.error) as error:
        raise BadRequest("read", f"hook {path}", str(error), "see oci-hooks(5)") from error


def _of_1(document: Mapping[str, Any], occasion: Occasion) -> _Found:
    _only(document, "", {"version", "hook", "when", "stages"})
    hook, when = (_a(document, word, dict) for word in ("hook", "when"))
    _only(hook, "hook.", {"path", "args", "env", "timeout"})
    _only(when, "when.", {"always", "annotations", "commands", "hasBindMounts"})
    if not when:
        raise ValueError("when: no condition is given")
    timeout = hook.get("timeout")
    if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 1):
        raise ValueError("hook.timeout: it is no number of seconds")
    env = _strings(hook, "env") if "env" in hook else None
    conditions = []
    if "always" in when:
        conditions.append(_a(when, "always", bool))
    if "hasBindMounts" in when:
        conditions.append(_a(when, "hasBindMounts", bool) and occasion.has_bind_mounts)
    for key, value in _a(when, "annotations", dict, {}).items():
        pairs = occasion.annotations.items()
        conditions.append(any(re.search(key, name) and re.search(str(value), held) for name, held in pairs))
    if "commands" in when:
        conditions.append(_matches(_strings(when, "commands"), [occasion.command]))
    made = Hook(_a(hook, "path", str), _strings(hook, "args"), env, timeout)
    return _Found(made, _strings(document, "stages"), tuple(map(bool, conditions)), False)


def _of_0(document: Mapping[str, Any], occasion: Occasion) -> _Found:
    synonyms = {"stage": "stages", "cmd": "cmds", "annotation": "annotations"}
    known = {"version", "hook", "arguments", "stages", "cmds", "annotations", "hasbindmounts"}
    _only(document, "", known | synonyms.keys())
    for short, long in synonyms.items():
        if short in document and long in document:
            raise ValueError(f"{short} and {long}: they are one")
    plain = {synonyms.get(key, key): value for key, value in document.items()}
    path = _a(plain, "hook", str)
    conditions = (
        _matches(_strings(plain, "cmds"), [occasion.command]),
        _matches(_strings(plain, "annotations"), occasion.annotations.values()),
        _a(plain, "hasbindmounts", bool, False) and occasion.has_bind_mounts,
    )
    return _Found(Hook(path, (path, *_strings(plain, "arguments"))), _strings(plain, "stages"), conditions, True)


def _only(document: Mapping[str, Any], place: str, known: set[str]) -> None:
    if unknown := sorted(document.keys() - known):
        raise ValueError(f"{place}{unknown[0]}: there is no such property")


_REQUIRED = object()


def _a(document: Mapping[str, Any], key: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = document.get(key, default)
    if value is _REQUIRED:
        raise ValueError(f"{key}: it is missing")
    if not isinstance(value, kind):
        raise ValueError(f"{key}: it is no {kind.__name__}")
    return value


def _strings(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = document.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{key}: it is no list of strings")
    return tuple(values)


def _matches(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    held = list(texts)
    return any(re.search(pattern, text) for pattern in patterns for text in held)
