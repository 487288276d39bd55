"""What a caller asks for when a container is created: the CLI's flags and the SDK's keywords in one value."""

from __future__ import annotations

from typing import Literal

import msgspec

from asyncrt.model.limits import Limits

# native: raw streams with an index, what attach and logs are answered from. json-file, cri: a file in docker's or the
# CRI's format beside it. none: no log; the container gets the client's own stdio, or the null device.
LogFormat = Literal["native", "json-file", "cri", "none"]
LEAST_LOG = 64 * 1024  # bytes; what a pipe holds, so that a bound is never below one arrival


class Volume(msgspec.Struct, frozen=True):
    """A bind mount: `source` is an absolute path of the machine, `target` one of the container."""

    source: str
    target: str
    read_only: bool = False


class Options(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The wish. memory in bytes, cpus in cores, 0 or -1 meaning no limit; `entrypoint` replaces the image's.

    `image` is `host:`, `rootfs:/absolute/path`, or a name as docker reads it (`busybox`, `HOST/PATH:TAG@DIGEST`).
    `env` holds NAME=VALUE. `user` is UID, NAME, UID:GID or NAME:GROUP, resolved in the image's files. `seccomp` is a
    profile's JSON text, or `unconfined`; empty is the engine's own. `stdin` keeps a pipe to the container's stdin.
    `auto_remove` removes the container once it ended. `stop_signal` is what `stop` sends (0: SIGTERM).

    `tty` gives it a terminal of `rows` and `columns` characters (0: as the kernel has it); stdout is its one stream.
    `log_max_bytes` bounds a file of the log (0: no bound; else LEAST_LOG or more) and `log_files` how many there are:
    json-file and cri rotate, the native log keeps the newest log_max_bytes * log_files, index included.

    `cgroup_parent` is a cgroup's path below the hierarchies' mount points, made if it is not there, and left.
    `annotations` hold NAME=VALUE: they are told to hooks, and decide which run (docs/walks/hooks.md).
    `image_volumes` are the places of volumes that the image asks for: each container has a directory of its own there.
    """

    image: str
    args: tuple[str, ...] = ()
    name: str = ""
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    volumes: tuple[Volume, ...] = ()
    memory: int = 0
    cpus: float = 0.0
    cpuset_cpus: str = ""
    pids_limit: int = 0
    hostname: str = ""
    read_only: bool = False
    entrypoint: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    no_new_privileges: bool = False
    stdin: bool = False
    auto_remove: bool = False
    tty: bool = False
    rows: int = 0
    columns: int = 0
    log_format: LogFormat = "native"
    log_max_bytes: int = 0
    log_files: int = 1
    stop_signal: int = 0
    limits: Limits = Limits()
    cgroup_parent: str = ""
    annotations: tuple[str, ...] = ()
    image_volumes: tuple[str, ...] = ()


class ExecOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One more process in a running container; empty fields take the container's own.

    `tty`, `rows` and `columns` as in Options, and never the container's own: an exec has its own terminal or none.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    rows: int = 0
    columns: int = 0
