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
        | -- CloseStdin, Resize, Update --------> |
        | -- KeepTerminal+fd -------------------> |
        | <- Done, Attached / Refusal (by seq) -- |
        | <- ExecStarted+fd, ExecEnded ---------- |
        | <- Ended ------------------------------ |   once, after the record is on disk
        | -- Release ---------------------------> |   only when the container is removed

What no script does, the reference executor does:

    shim             midwife           init
      | ---- fork ----> |                |
      |                 | -- clone3 ---> |
      |                 | <- Ready ----- |  or Refused; EOF after Ready: it runs the program
      |                 | <- EOF ------- |
      | <- Delivered -- |   or Refused; the midwife ends

Where the runtime has hooks to run (docs/walks/hooks.md), before that:

    supervisor           midwife           init
      |                     | <- HooksDue --- |   it stands still
      | <- AtHooks+fd ----- |                 |   on the container's line
      | -- HooksRan ------> |                 |   to that fd; its end without a word: the supervisor died
      |                     | -- Go --------> |

A re-adoption (the supervisor died; the shim listens on its path socket):

    supervisor                                  shim
        | -- connect, Query --------------------> |
        | <- ExecEnded -------------------------- |   of those that are remembered
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

from shimd.errors import Trouble
from shimd.wire.values import ExitRecord as ExitRecord
from shimd.wire.values import RootMount as RootMount

VERSION = 2
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
    """supervisor: subscribe fds to the streams from byte offsets (-1: not this stream, -2: from now, -3: the oldest).

    The rights hold, in this order and only where asked for: stdin (a pipe to read from), stdout, stderr (pipes to
    write to). `once`: an EOF on the stdin pipe closes the container's stdin. Sent ahead of a Spawn whose plan keeps no
    log, the rights become the container's own stdio.
    """

    seq: int
    stdin: bool
    stdout: int
    stderr: int
    once: bool


class Attached(NamedTuple):
    """shim: Attach `seq` is done; where the streams begin (-1: not asked for)."""

    seq: int
    stdout: int
    stderr: int


class CloseStdin(NamedTuple):
    """supervisor: once the attached pipe is empty, close the container's stdin; a terminal gets its ^D."""

    seq: int


class Resize(NamedTuple):
    """supervisor: give the terminal of init (exec ""), or of the exec, this size."""

    seq: int
    exec: str
    rows: int
    columns: int


class Update(NamedTuple):
    """supervisor: change limits of the running container: the spec's resources object, with what is to change."""

    seq: int
    resources: dict[str, Any]


class KeepTerminal(NamedTuple):
    """supervisor: the right is the master of an exec's terminal, whose client leaves: hold it, drop what it shows."""

    seq: int
    exec: str


class Exec(NamedTuple):
    """supervisor: run one more process in the container; the rights are its stdin, stdout and stderr.

    `process` is the spec's process object, as config.json has it. With a terminal there are no rights.
    """

    seq: int
    exec: str
    process: dict[str, Any]


class ExecStarted(NamedTuple):
    """shim: it runs; the master of its terminal comes along, if it has one."""

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
    """midwife: init `pid` runs the user's program; its pidfd comes along, then the terminal's master, if it has one.

    `timeline` as in Started.
    """

    pid: int
    timeline: list[tuple[str, int]]


# midwife <-> supervisor, where the container has hooks (docs/walks/hooks.md)

# midwife (or shim) <-> init, on the sync socket


class AtHooks(NamedTuple):
    """midwife, on the line to the supervisor: init `pid` waits for the runtime's hooks; the answer goes to the fd."""

    pid: int


class HooksRan(NamedTuple):
    """supervisor, to the fd of AtHooks: the runtime's hooks have run, or one failed."""

    trouble: Trouble | None


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
    | Attached
    | CloseStdin
    | Resize
    | KeepTerminal
    | Update
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
    | AtHooks
    | HooksRan
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
    15: Exec,
    16: ExecStarted,
    17: ExecFailed,
    18: ExecEnded,
    19: Done,
    20: Refusal,
    21: Query,
    22: Standing,
    23: Release,
    24: Attach,  # 14 was one without `once`
    25: Attached,
    26: CloseStdin,
    27: Resize,
    28: Update,
    30: Ready,
    31: Refused,
    32: Go,
    33: Delivered,
    34: HooksDue,
    70: KeepTerminal,
    80: AtHooks,
    81: HooksRan,
}
