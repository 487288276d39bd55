"""From a wish to an OCI config: what a container may do, decided here and nowhere else.

The config is a template for all containers of one request: their hostname (where none was asked for),
cgroup, root mounts and environment of their own are added at spawn. Default confinement is Docker's
(engine/defaults.py, engine/system_calls.py).

    config = config_for(options, parse(options.image), root, state)

Blocks: it reads the image's /etc/passwd and looks for the volumes' sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asyncrt.engine import capabilities, defaults, limits, seccomp, users, volumes
from asyncrt.errors import BadRequest
from asyncrt.model.options import LEAST_LOG, ExecOptions, Options
from asyncrt.snapshots.sources import Source, hidden_paths
from shimd.spec.config import OCI_VERSION, Capabilities, Config, ConsoleSize, Linux, Process, Root, User

_HOSTNAME = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z_.-]{0,62}[0-9A-Za-z_])?")  # 64 bytes: sethostname(2)

MOST_CHARACTERS = 65535  # struct winsize
MOST_LOG_FILES = 1000


def config_for(options: Options, source: Source, root: Path, state: Path) -> Config:
    """The template for `options` on `source`; the engine's `root` and `state` are hidden where they show.

    BadRequest or NoSuchObject name the option that cannot be granted. `root.path` is "rootfs"; `hostname`
    is empty if none was asked for (spawn takes the first 12 digits of the id).
    """
    if options.hostname and not _HOSTNAME.fullmatch(options.hostname):
        raise BadRequest("read", "--hostname", f'"{options.hostname}" is no host name', "letters, digits, - and .")
    _refuse_a_bad_log(options)
    return Config(
        OCI_VERSION,
        Root("rootfs", readonly=options.read_only),
        process=_process(options, source),
        hostname=options.hostname,
        mounts=volumes.mounts(options.volumes, options.image_volumes),
        annotations=_annotations(options.annotations),
        linux=Linux(
            namespaces=defaults.NAMESPACES,
            resources=limits.resources(options),
            masked_paths=(*defaults.masked_paths(), *hidden_paths(source, root, state)),
            readonly_paths=defaults.READONLY_PATHS,
            seccomp=seccomp.profile(options.seccomp, capabilities.names(options.cap_add, options.cap_drop)),
        ),
    )


def _process(options: Options, source: Source) -> Process:
    identity = users.resolve((source.path, *source.below), options.user)
    held = capabilities.names(options.cap_add, options.cap_drop)
    return Process(
        cwd=_workdir(options.workdir) or defaults.WORKDIR,
        args=_command((*options.entrypoint, *options.args)),
        env=_environment((defaults.PATH, f"HOME={identity.home}", *_terms(options)), options.env),
        user=_user(identity),
        capabilities=capabilities.sets(held, identity.uid),
        no_new_privileges=options.no_new_privileges,
        terminal=options.tty,
        console_size=_console_size(options),
        oom_score_adj=limits.oom_score_adj(options),
    )


def _annotations(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals or "\0" in pair:
            raise BadRequest("read", "--annotation", f'"{pair}" is no NAME=VALUE')
        found[name] = value
    return found


def exec_process(options: ExecOptions, base: Process, root: int | str, asked_env: Sequence[str] = ()) -> Process:
    """The process of an exec in a container whose own is `base`; what is not asked for is as there.

    `root` is the container's root, an fd or a path (it is hostile: see users). `asked_env` is what the
    container was created with: another user gets another HOME unless one was asked for there. BadRequest as
    in config_for().
    """
    env: tuple[str, ...] = base.env
    user, caps = base.user, base.capabilities or Capabilities()
    if options.user:
        identity = users.resolve(root, options.user)
        user, caps = _user(identity), capabilities.sets(caps.bounding, identity.uid)
        if not any(entry.startswith("HOME=") for entry in asked_env):
            env = _environment(env, (f"HOME={identity.home}",))
    return base._replace(
        cwd=_workdir(options.workdir) or base.cwd,
        args=_command(options.args),
        env=_environment(env, (*_terms(options), *options.env)),
        user=user,
        capabilities=caps,
        terminal=options.tty,
        console_size=_console_size(options),
    )


def _terms(options: Options | ExecOptions) -> tuple[str, ...]:
    """What docker says of a terminal that it knows nothing of."""
    return ("TERM=xterm",) if options.tty else ()


def _console_size(options: Options | ExecOptions) -> ConsoleSize | None:
    """None: as the kernel has it, which is no size at all."""
    if not options.rows and not options.columns:
        return None
    for name, value in (("--rows", options.rows), ("--columns", options.columns)):
        if not 0 <= value <= MOST_CHARACTERS:
            raise BadRequest("read", name, f"{value} is no size", f"0 to {MOST_CHARACTERS}")
    return ConsoleSize(options.rows, options.columns)


def _user(identity: users.Identity) -> User:
    return User(identity.uid, identity.gid, additional_gids=identity.additional_gids)


def _command(args: tuple[str, ...]) -> tuple[str, ...]:
    if not args or not args[0]:
        raise BadRequest("start", "", "no command given: the image names none", "write one behind the image")
    _refuse_nul("command", args)
    return args


def _refuse_a_bad_log(options: Options) -> None:
    if options.tty and options.log_format == "none":
        hint = f"--log-opt max-size={LEAST_LOG} keeps little of it"
        raise BadRequest("read", "--log-driver", "a terminal's output goes through a log", hint)
    if options.log_max_bytes and options.log_max_bytes < LEAST_LOG:
        raise BadRequest(
            "read", "--log-opt max-size", f"{options.log_max_bytes} bytes are too few", f"{LEAST_LOG} or more"
        )
    if not 1 <= options.log_files <= MOST_LOG_FILES:
        raise BadRequest("read", "--log-opt max-file", f"{options.log_files} is no count", f"1 to {MOST_LOG_FILES}")


def _workdir(path: str) -> str:
    if path and not path.startswith("/"):
        raise BadRequest("read", "--workdir", f'"{path}" is no absolute path')
    _refuse_nul("--workdir", (path,))
    return path


def _environment(base: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    """`base` with `more` put over it by name: a name keeps its first place and gets its last value."""
    entries = {entry.partition("=")[0]: entry for entry in base}
    for entry in more:
        name, equals, _ = entry.partition("=")
        if not name or not equals:
            raise BadRequest("read", "--env", f'"{entry}" is no NAME=VALUE')
        _refuse_nul("--env", (entry,))
        entries[name] = entry
    return tuple(entries.values())


def _refuse_nul(subject: str, texts: Iterable[str]) -> None:
    # The kernel ends a string there: what was checked would not be what runs.
    if any("\0" in text for text in texts):
        raise BadRequest("read", subject, "there is a NUL character in it")
