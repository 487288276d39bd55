"""The messages, one packet each: a msgpack array of a type number and the fields in order.

A start:

    supervisor            zygote                shim                             init
        | -- Template+memfd -> |                  |                                |
        | <- TemplateReady --- |  (or TemplateRefused)                             |
        | -- a ticket -------> |                  |                                |
        |                      | ---- fork -----> |                                |
        | -- Spawn+fds -------------------------> |                                |
        | <- Spawn+fds (no such plan: forked before it was compiled)               |
        |                                         | -- clone3, by script --------> |
        |                                         | <- EOF ----------------------- | it runs the program
        | <-------------- Started or Failed ----- |
        | -- Kill, Attach+fds, Exec+fds --------> |
        | <- Done / Refusal (by seq) ------------ |
        | <- ExecStarted, ExecEnded ------------- |
        | <- Ended ------------------------------ |   once, after the record is on disk
        | -- Release ---------------------------> |   only when the container is removed

What no script does, the reference executor does:

    shim             midwife           init
      | ---- fork ----> |                |
      |                 | -- clone3 ---> |
      |                 | <- Ready ----- |  or Refused; EOF after Ready: it runs the program
      |                 | <- EOF ------- |
      | <- Delivered -- |   or Refused; the midwife ends

A re-adoption (the supervisor died; the shim listens on its path socket):

    supervisor                                  shim
        | -- connect, Query --------------------> |
        | <- Standing (version, state, record) -- |   and from here as above; a set-up under way is waited for

A create without a shim (asyncrt-oci; what follows goes through fifos, shimd/container/waiting.py):

    command                                     init
        | -- clone3 ----------------------------> |
        | <- HooksDue --------------------------- |   only if the runtime has hooks to run
        | -- Go --------------------------------> |
        | <- Ready (or Refused) ----------------- |   and it waits for `start`

A Spawn's rights, in this order: the shim's end of its socketpair, then one detached
mount tree per name in `trees`. A message from an unknown version is refused as a whole (VERSION stands in Hello
and Standing, the first words of either conversation).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from shimd.errors import Trouble
from shimd.wire.values import ExitRecord as ExitRecord
from shimd.wire.values import RootMount as RootMount

VERSION = 1
MAX_PACKET = 192 * 1024  # below the default SO_SNDBUF of 208 KiB; what may be larger travels as a memfd


# supervisor <-> zygote


class Hello(NamedTuple):
    """zygote: I am ready for Templates and Spawns."""

    version: int
    pid: int


class Template(NamedTuple):
    """supervisor: compile the config.json (msgpack, in the memfd that comes along) and keep the plan as `key`."""

    key: str


class TemplateReady(NamedTuple):
    """zygote: the plan of `key` is compiled."""

    key: str


class TemplateRefused(NamedTuple):
    """zygote: the config of `key` is refused."""

    key: str
    trouble: Trouble


class Forget(NamedTuple):
    """supervisor: no container of `key` will be asked for again."""

    key: str


class Spawn(NamedTuple):
    """supervisor: start container `id` by the plan `template`, with what is its own.

    hostname "" keeps the template's; `env` is added to the template's. `cgroup` is the path below each hierarchy's
    mount point. `directory` takes log and exit record. `trees` names the mount sources that come along as fds.
    """

    id: str
    template: str
    hostname: str
    env: list[str]
    root: list[RootMount]
    cgroup: str
    directory: str
    trees: list[str]
    sent_ns: int


# supervisor <-> shim


class Started(NamedTuple):
    """shim: the user's program runs. `timeline` is a list of (phase, CLOCK_MONOTONIC ns at its end)."""

    pid: int
    shim_pid: int
    started_ns: int
    timeline: list[tuple[str, int]]


class Failed(NamedTuple):
    """shim: it could not be started; what was done is undone, what could not be undone is in `left`."""

    trouble: Trouble
    left: list[str]


class Ended(NamedTuple):
    """shim: the container ended; the record is on disk, the cgroups are gone, or `left` names them."""

    record: ExitRecord
    left: list[str]


class Kill(NamedTuple):
    """supervisor: send `signal` to init (exec ""), or to the exec."""

    seq: int
    signal: int
    exec: str


class Release(NamedTuple):
    """supervisor: the container is removed; hold nothing back (an unwritten record, a slow reader) and go."""


class Attach(NamedTuple):
    """supervisor: subscribe fds to the streams from byte offsets (-1: not this stream, -2: from now).

    The rights hold, in this order and only where asked for: stdin (a pipe to read from), stdout, stderr (pipes to
    write to). An EOF on the stdin pipe closes the container's stdin.
    """

    seq: int
    stdin: bool
    stdout: int
    stderr: int


class Exec(NamedTuple):
    """supervisor: run one more process in the container; the rights are its stdin, stdout and stderr.

    `process` is the spec's process object, as config.json has it.
    """

    seq: int
    exec: str
    process: dict[str, Any]


class ExecStarted(NamedTuple):
    exec: str
    pid: int


class ExecFailed(NamedTuple):
    exec: str
    trouble: Trouble


class ExecEnded(NamedTuple):
    exec: str
    record: ExitRecord


class Done(NamedTuple):
    """shim: request `seq` is done."""

    seq: int


class Refusal(NamedTuple):
    """shim: request `seq` was refused."""

    seq: int
    trouble: Trouble


class Query(NamedTuple):
    """supervisor, on the path socket: who are you?"""

    version: int


class Standing(NamedTuple):
    """shim: what I hold. `state` is of the lifecycle table; record is None while the container lives.

    `timeline`, `started_ns` as in Started (empty and 0 before); `execs` are the ids that live.
    """

    version: int
    id: str
    state: str
    pid: int
    shim_pid: int
    started_ns: int
    timeline: list[tuple[str, int]]
    execs: list[str]
    record: ExitRecord | None


# midwife -> shim


class Delivered(NamedTuple):
    """midwife: init `pid` runs the user's program; its pidfd comes along. `timeline` as in Started."""

    pid: int
    timeline: list[tuple[str, int]]


# midwife (or shim) <-> init, on the sync socket


class Ready(NamedTuple):
    """init: all is set up; the next thing is exec. `timeline` as in Started."""

    timeline: list[tuple[str, int]]


class Refused(NamedTuple):
    """init: a step failed; init exits after this."""

    trouble: Trouble


class Go(NamedTuple):
    """shim: your uid and gid maps are written (user namespaces), or: the runtime's hooks went well."""


class HooksDue(NamedTuple):
    """init: mounts are made and the root is the old one still: the runtime's hooks are due, Go when they are done."""


Message = (
    Hello
    | Template
    | TemplateReady
    | TemplateRefused
    | Forget
    | Spawn
    | Started
    | Failed
    | Ended
    | Kill
    | Release
    | Attach
    | Exec
    | ExecStarted
    | ExecFailed
    | ExecEnded
    | Done
    | Refusal
    | Query
    | Standing
    | Delivered
    | Ready
    | Refused
    | Go
    | HooksDue
)

# Numbers are for ever: a shim outlives the supervisor's version. A new message gets the next one.
NUMBERS: dict[int, type[Message]] = {
    1: Hello,
    2: Template,
    3: TemplateReady,
    4: TemplateRefused,
    5: Forget,
    6: Spawn,
    10: Started,
    11: Failed,
    12: Ended,
    13: Kill,
    14: Attach,
    15: Exec,
    16: ExecStarted,
    17: ExecFailed,
    18: ExecEnded,
    19: Done,
    20: Refusal,
    21: Query,
    22: Standing,
    23: Release,
    30: Ready,
    31: Refused,
    32: Go,
    33: Delivered,
    34: HooksDue,
}
_NUMBER_OF = {kind: number for number, kind in NUMBERS.items()}
# Which fields of which message are values of ours themselves: (position, type, is it a list of them).
_NESTED: dict[int, list[tuple[int, Any, bool]]] = {}
for _number, _kind in NUMBERS.items():
    _found: list[tuple[int, Any, bool]] = []
    for _position, _field in enumerate(_kind._fields):
        if _field == "trouble":
            _found.append((_position, Trouble, False))
        elif _field == "record":
            _found.append((_position, ExitRecord, False))
        elif _kind is Spawn and _field == "root":
            _found.append((_position, RootMount, True))
    if _found:
        _NESTED[_number] = _found

# What a field of a message may be, by its annotation: a shim that trusted a number to be one would die of a word.
_CLASSES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "dict[str, Any]": (dict,),
    "Trouble": (Trouble,),
    "ExitRecord": (ExitRecord,),
    "ExitRecord | None": (ExitRecord, type(None)),
}
_FIELD_CLASSES: dict[int, list[tuple[type, ...]]] = {
    _number: [
        _CLASSES.get(getattr(_kind.__annotations__[_field], "__forward_arg__", ""), (list,)) for _field in _kind._fields
    ]
    for _number, _kind in NUMBERS.items()
}


class WireError(ValueError):
    """A packet that is no message of this version."""


def encode(message: Message) -> bytes:
    """One packet. Named tuples inside become arrays."""
    packet: bytes = msgpack.packb((_NUMBER_OF[type(message)], *message))
    return packet


def decode(packet: bytes) -> Message:
    """The message in a packet; WireError if it is none of ours. Fields that a newer version appended are refused."""
    try:
        number, *fields = msgpack.unpackb(packet)
        kind: Any = NUMBERS[number]
        if number in _NESTED:
            for position, nested, several in _NESTED[number]:
                value = fields[position]
                if not isinstance(value, list):
                    continue  # None, or refused below: a word, too, could be unpacked
                fields[position] = [nested(*entry) for entry in value] if several else nested(*value)
        message: Message = kind(*fields)
        for value, classes in zip(message, _FIELD_CLASSES[number], strict=True):
            if not isinstance(value, classes):
                raise TypeError(f"{kind.__name__} with a {type(value).__name__} for a {classes[0].__name__}")
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise WireError(f"packet of {len(packet)} bytes is no message of version {VERSION}: {error}") from error
    return message


def pack_record(record: ExitRecord) -> bytes:
    """The exit record as it lies on disk: msgpack array with the version in front."""
    packed: bytes = msgpack.packb((VERSION, *record))
    return packed


def unpack_record(data: bytes) -> ExitRecord:
    """The inverse of pack_record; WireError if the file is cut or foreign."""
    try:
        version, *fields = msgpack.unpackb(data)
        if version != VERSION:
            raise WireError(f"exit record of version {version}")
        return ExitRecord(*fields)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"exit record of {len(data)} bytes is damaged: {error}") from error
