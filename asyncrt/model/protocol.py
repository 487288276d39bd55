"""The native API: msgpack frames on a unix stream socket, file descriptors beside them.

    client                                        supervisor
      | -- Call(id, request) [+fds] ----------------> |
      | <- Item(id, value) [+fds] ------------------- |   none or many
      | <- End(id, value)  or  Failure(id, error) --- |   exactly one

A frame is `length` (u32, big-endian, of the body), `fds` (u16: how many ride along), then the body. Requests of one
connection run concurrently; closing it cancels those that wait, and nothing that was done is undone. The fds of a
frame ride on its first byte (unix(7), SCM_RIGHTS).

What each request answers:

    Info, Version       End: a dict
    Create, Run         Item: Progress per step and container; End: the ids
    Start               Item: Progress; End: the ids
    List                Item: a list of Container (chunks); End
    Inspect             End: a list of Container
    Wait                Item: Progress (ended) as they end; End: list of Progress in the order asked
    Kill, Stop, Remove  Item: Outcome per container; End
    Logs                Item with fds stdout, stderr, index, marks (those that exist; `value` is the list of their
                        names); model/log.py reads them
    Attach              fds: [stdin] [stdout] [stderr]; End once subscribed: Attached
    Pause, Unpause      Item: Outcome per container; End
    Update              Item: Outcome per container; End
    StatsOf             Item: a list of Stats per sample; End
    Top                 End: a list of Process
    PressureOf          Item: null once it is watched, then Pressure whenever it was reached; End when it ended
    Pull, Push          Item: BlobProgress; End: a dict with the digest
    Images              End: a list of ImageSummary
    Tag                 End: {"name": in full}
    RemoveImage         Item: Outcome per name (`id` is how many blobs went); End
    Load                fd: the archive; End: the names
    Save                fd: where to; End
    Copy                Item: BlobProgress; End: a dict with the digest and media type of what is there now
    Unpack              End: {"name": in full}
    Login, Logout       End: {"kept": where}, {"gone": whether}
    Diff                End: a list of (A added, C changed or D deleted; path), by path
    Export              fd: where to; End
    Commit, Import      Import: fd, the tar; End: a dict with name, digest, id
    PathStat            End: Stat
    CopyFrom            fd: a directory to copy into, or where a tar is to go; End: the count of entries
    CopyTo              fd: a directory to copy from, or a tar; End: the count of entries
    InspectImages       End: a list of documents
    PruneImages         End: {"names": ..., "blobs": ...} that went
    CloseStdin          End
    Resize              End
    Exec                fds: stdin, stdout, stderr, or none with a terminal; Item: {"exec": id, "pid": n}, and with a
                        terminal its master as fd; End: Exit
    KillExec            End
    LeaveExec           fd: the master of its terminal; End
    WaitExec            End: Exit
    Events              Item: Event; End only with follow=False
    Shutdown            End: {"supervisor_pid": n}; the supervisor is gone when the connection closes

Where the bytes of streams go, and who may close what: docs/walks/attach.md and docs/walks/exec.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from asyncrt.model.answers import Attached as Attached
from asyncrt.model.answers import Outcome as Outcome
from asyncrt.model.answers import Progress as Progress
from asyncrt.model.frames import HEADER
from asyncrt.model.frames import MAX_FDS as MAX_FDS
from asyncrt.model.frames import MAX_FRAME as MAX_FRAME
from asyncrt.model.frames import FrameError as FrameError
from asyncrt.model.frames import FrameReader as FrameReader
from asyncrt.model.image_requests import Images, Load, Pull, Push, RemoveImage, Save, Tag
from asyncrt.model.limits import Limits
from asyncrt.model.moving_requests import Copy, Login, Logout, Unpack
from asyncrt.model.options import ExecOptions, Options
from asyncrt.model.request import Request
from asyncrt.model.tree_requests import TreeRequest

VERSION = 2
NOT_THIS, FROM_NOW, OLDEST = -1, -2, -3  # in place of an offset into a stream


class Version(Request, frozen=True):
    pass


class Info(Request, frozen=True):
    pass


class Create(Request, frozen=True):
    """Create `count` containers; names get -1, -2 ... behind when there are several."""

    options: Options
    count: int = 1


class Run(Request, frozen=True):
    """Create and start. `attach`: the frame brings fds [stdin] stdout stderr (count 1 only); no stderr with a tty.

    `stdin_once` as in Attach. With the log format `none` the fds become the container's own stdio.
    """

    options: Options
    count: int = 1
    attach: bool = False
    stdin_once: bool = False


class Start(Request, frozen=True):
    """`attach`: as in Run, of one container and what it writes from this start on; Progress `ended` comes, too."""

    refs: tuple[str, ...]
    attach: bool = False
    stdin_once: bool = False


class List(Request, frozen=True):
    """Running containers, or all."""

    all: bool = False


class Inspect(Request, frozen=True):
    refs: tuple[str, ...]


class Wait(Request, frozen=True):
    refs: tuple[str, ...]


class Kill(Request, frozen=True):
    """To its first process, or with `all` to every process of it."""

    refs: tuple[str, ...]
    signal: int = 9
    all: bool = False


class Stop(Request, frozen=True):
    """SIGTERM, then SIGKILL after `timeout` seconds."""

    refs: tuple[str, ...]
    timeout: float = 10.0


class Remove(Request, frozen=True):
    """`force` kills what runs; `all` takes every container instead of refs."""

    refs: tuple[str, ...] = ()
    force: bool = False
    all: bool = False


class Logs(Request, frozen=True):
    """Conflict if it keeps none (log format `none`)."""

    ref: str


class Attach(Request, frozen=True):
    """Offsets in bytes from the stream's beginning, or NOT_THIS, FROM_NOW, OLDEST. A stream's EOF is its pipe's.

    Conflict for an offset that a bounded log has dropped: the cause names the oldest there is. A reader that falls
    behind a bounded log is cut off (EOF before the stream's end: fewer bytes than the exit record says) and attaches
    anew. With a terminal stdout is the one stream; stderr ends at once.

    `stdin_once`: the EOF of our stdin pipe closes the container's stdin. For a client that hands over its own stdin;
    who copies into a pipe sends CloseStdin instead, so that its death closes nothing. Conflict if the stdin has been
    closed, was never open, or if another feeds it.
    """

    ref: str
    stdin: bool = False
    stdout: int = 0
    stderr: int = 0
    stdin_once: bool = False


class Pause(Request, frozen=True):
    refs: tuple[str, ...]


class Unpause(Request, frozen=True):
    refs: tuple[str, ...]


class Update(Request, frozen=True):
    """Change limits, now and for the next start; None leaves one as it is, 0 lifts it. As in Options."""

    refs: tuple[str, ...]
    memory: int | None = None
    cpus: float | None = None
    cpuset_cpus: str | None = None
    pids_limit: int | None = None
    limits: Limits = Limits()
    """What is set in it is changed; the rest stays."""


class StatsOf(Request, frozen=True):
    """What containers use, every `interval` seconds, or once; no refs: all that run."""

    refs: tuple[str, ...] = ()
    interval: float = 1.0
    stream: bool = False


class Top(Request, frozen=True):
    """The processes of a container."""

    ref: str


class PressureOf(Request, frozen=True):
    """Tell whenever tasks of it waited for a resource (cpu, io, memory) for so long within `window_us` microseconds.

    One of `some_us` (some tasks waited) and `full_us` (all did at once). Conflict where this machine keeps no account.
    """

    ref: str
    resource: str
    some_us: int = 0
    full_us: int = 0
    window_us: int = 2_000_000


class CloseStdin(Request, frozen=True):
    """Half-close: once what is in the attached pipe has been taken, the container reads EOF.

    A terminal gets its end-of-file character (^D) instead, as long as it edits lines. Conflict if it is closed already
    or was never open.
    """

    ref: str


class Resize(Request, frozen=True):
    """Set the terminal's size, in characters; the last one counts. Conflict if there is no terminal."""

    ref: str
    rows: int
    columns: int
    exec: str = ""


class Exec(Request, frozen=True):
    """Run one more process. Conflict in a container that is paused or does not run; StartFailed with 126 or 127.

    A caller that leaves loses nothing but the answer: the process goes on, WaitExec tells its end. A terminal hangs up
    with the last holder of its master. `id` (up to 64 hex digits) is the caller's own choice, so that WaitExec can be
    asked whatever became of the answer; Conflict if this container knows it already.
    """

    ref: str
    options: ExecOptions
    id: str = ""


class KillExec(Request, frozen=True):
    """Conflict if that exec does not run (any more)."""

    ref: str
    exec: str
    signal: int = 9


class LeaveExec(Request, frozen=True):
    """Leave an exec's terminal to its shim, which drops what it shows. Conflict if there is none (any more)."""

    ref: str
    exec: str


class WaitExec(Request, frozen=True):
    """How an exec ended, also after its caller or the supervisor died. Conflict once nobody remembers it.

    A container's last 256 execs are remembered until it ended.
    """

    ref: str
    exec: str


class Events(Request, frozen=True):
    """Events after sequence number `after` (-1: only new ones, 0: all that are kept).

    Conflict for a number whose followers are trimmed (the cause names the oldest there is) or that was never given.
    """

    after: int = -1
    follow: bool = True


class Shutdown(Request, frozen=True):
    pass


AnyRequest = (
    Version
    | Info
    | Create
    | Run
    | Start
    | List
    | Inspect
    | Wait
    | Kill
    | Stop
    | Remove
    | Logs
    | Attach
    | Pause
    | Unpause
    | Update
    | StatsOf
    | Top
    | PressureOf
    | Pull
    | Push
    | Images
    | Tag
    | RemoveImage
    | Load
    | Save
    | Copy
    | Unpack
    | Login
    | Logout
    | TreeRequest
    | CloseStdin
    | Resize
    | Exec
    | KillExec
    | LeaveExec
    | WaitExec
    | Events
    | Shutdown
)


class Call(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    id: int
    request: AnyRequest


class Item(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    id: int
    value: Any = None


class End(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    id: int
    value: Any = None


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    id: int
    error: dict[str, str | int]


Reply = Item | End | Failure

_encoder = msgspec.msgpack.Encoder()
_calls = msgspec.msgpack.Decoder(Call)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Item | End | Failure)


def frame(message: Call | Item | End | Failure, fds: int = 0) -> bytes:
    """The bytes of one frame that `fds` descriptors ride with."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body), fds) + body


def decode_call(body: bytes) -> Call:
    """msgspec.ValidationError names the path of what is wrong."""
    return _calls.decode(body)


def decode_reply(body: bytes) -> Reply:
    return _replies.decode(body)
