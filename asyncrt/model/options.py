"""What a caller asks for when a container is created: the CLI's flags and the SDK's keywords in one value."""

from __future__ import annotations

import msgspec


class Volume(msgspec.Struct, frozen=True):
    """A bind mount: `source` is an absolute path of the machine, `target` one of the container."""

    source: str
    target: str
    read_only: bool = False


class Options(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The wish. memory in bytes, cpus in cores, 0 or -1 meaning no limit; `entrypoint` replaces the image's.

    `image` is `host:` or `rootfs:/absolute/path`. `env` holds NAME=VALUE. `user` is UID, NAME, UID:GID or
    NAME:GROUP, resolved in the image's files. `seccomp` is a profile's JSON text, or `unconfined`; empty
    is the engine's own. `stdin` keeps a pipe to the container's stdin. `auto_remove` removes
    the container once it ended.
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


class ExecOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One more process in a running container; empty fields take the container's own."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
