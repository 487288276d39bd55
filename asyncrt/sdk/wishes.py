"""What the SDK's keywords become: the Options of a container, the ExecOptions of an exec.

>>> wish("host:", ["echo", "hi"], env={"A": "1"}, memory="512m").memory
536870912
>>> wish("host:", "echo hi")
Traceback (most recent call last):
asyncrt.errors.BadRequest: read args: "echo hi" is one string (give a list: ["sh", "-c", "echo hi"])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import msgspec

from asyncrt.errors import BadRequest
from asyncrt.model import quantities
from asyncrt.model.limits import Limits
from asyncrt.model.options import ExecOptions, LogFormat, Options, Volume

Env = Mapping[str, str] | Iterable[str]


class Wish(TypedDict, total=False):
    """What a container may be given by name; see model/options.py for each.

    `memory` takes bytes or "512m"; `env` a mapping or NAME=VALUE strings; `entrypoint` replaces the image's.
    """

    name: str
    env: Env
    workdir: str
    user: str
    volumes: Iterable[Volume]
    memory: int | str
    cpus: float
    cpuset_cpus: str
    pids_limit: int
    hostname: str
    read_only: bool
    entrypoint: Sequence[str]
    cap_add: Iterable[str]
    cap_drop: Iterable[str]
    seccomp: str
    no_new_privileges: bool
    stdin: bool
    tty: bool
    rows: int
    columns: int
    log_format: LogFormat
    log_max_bytes: int
    log_files: int
    limits: Limits
    cgroup_parent: str
    annotations: Env


def wish(image: str | Options, args: Sequence[str] = (), **words: Any) -> Options:
    """The Options of a container; an Options value is taken as it is. BadRequest names the first bad word."""
    if isinstance(image, Options):
        if args or words:
            raise BadRequest("read", "options", "they were given as a value and by name", "give one of the two")
        return image
    try:
        return msgspec.convert({"image": image, "args": _words("args", args), **_normal(words)}, Options)
    except msgspec.ValidationError as error:
        raise BadRequest("read", "options", str(error).lower()) from error


def exec_wish(args: Sequence[str], **words: Any) -> ExecOptions:
    """The ExecOptions of an exec. BadRequest names the first bad word."""
    try:
        return msgspec.convert({"args": _words("args", args), **_normal(words)}, ExecOptions)
    except msgspec.ValidationError as error:
        raise BadRequest("read", "options", str(error).lower()) from error


def _normal(words: dict[str, Any]) -> dict[str, Any]:
    """In the types of Options."""
    normal = dict(words)
    if "env" in words:
        normal["env"] = variables(words["env"])
    if isinstance(words.get("memory"), str):
        normal["memory"] = quantities.memory(words["memory"], "memory")
    if "annotations" in words:
        normal["annotations"] = variables(words["annotations"], "annotations")
    if isinstance(words.get("limits"), Limits):
        normal["limits"] = msgspec.to_builtins(words["limits"])
    for name in ("volumes", "entrypoint", "cap_add", "cap_drop"):
        if name in words:
            normal[name] = msgspec.to_builtins(_words(name, words[name]))
    return normal


def _words(name: str, value: Iterable[Any]) -> tuple[Any, ...]:
    """A tuple; a string in its place would be one of letters."""
    if isinstance(value, str):
        raise BadRequest("read", name, f'"{value}" is one string', f'give a list: ["sh", "-c", "{value}"]')
    return tuple(value)


def variables(env: Env, name: str = "env") -> tuple[str, ...]:
    """NAME=VALUE strings.

    >>> variables({"A": "1"})
    ('A=1',)
    """
    pairs = tuple(f"{key}={value}" for key, value in env.items()) if isinstance(env, Mapping) else _words(name, env)
    for pair in pairs:
        if not isinstance(pair, str) or pair.partition("=")[0] == "" or "=" not in pair or "\0" in pair:
            raise BadRequest("read", name, f'"{pair}" is no variable', "NAME=VALUE, or a mapping")
    return pairs
