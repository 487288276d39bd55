"""The flags of run and create, and the Options that they make."""

from __future__ import annotations

import os
import re

from asyncrt.cli import limits, log_driver, security
from asyncrt.cli.env import variables
from asyncrt.cli.flags import Flag, Words
from asyncrt.errors import BadRequest
from asyncrt.model import quantities
from asyncrt.model.options import Options, Volume

FLAGS = (
    Flag("name", "", "NAME", "its name; with --count, -1 to -N are put behind"),
    Flag("quiet", "q", "", "show nothing of an image that is fetched"),
    Flag("rm", "", "", "remove it once it has ended"),
    Flag("interactive", "i", "", "keep its stdin open, and feed it ours"),
    Flag("tty", "t", "", "give it a terminal; with -i, ours is behind it"),
    Flag("count", "", "N", "so many at once"),
    Flag("env", "e", "NAME=VALUE", "set a variable; NAME alone takes ours"),
    Flag("env-file", "", "FILE", "variables, one a line"),
    Flag("workdir", "w", "DIR", "where it starts"),
    Flag("user", "u", "USER[:GROUP]", "names or numbers"),
    Flag("volume", "v", "SRC:DST[:ro]", "bind a path of the machine"),
    Flag("memory", "m", "SIZE", "a limit, as in 512m or 2g"),
    Flag("cpus", "", "N", "a limit in cores, as in 1.5"),
    Flag("cpuset-cpus", "", "LIST", "which cores, as in 0-2,4"),
    Flag("pids-limit", "", "N", "how many processes; -1: no limit"),
    Flag("hostname", "h", "NAME", "its host name"),
    Flag("read-only", "", "", "its root file system"),
    Flag("entrypoint", "", "PROGRAM", "run this, with COMMAND as its arguments"),
    Flag("cap-add", "", "CAP", "give a capability, or ALL"),
    Flag("cap-drop", "", "CAP", "take one away, or ALL"),
    Flag("log-driver", "", "NAME", "native, json-file, cri (beside native), or none"),
    Flag("log-opt", "", "OPT", "max-size=10m, max-file=3"),
    *limits.FLAGS,
    *limits.START_FLAGS,
    Flag("annotation", "", "NAME=VALUE", "told to hooks"),
    Flag("security-opt", "", "OPT", "seccomp=FILE, seccomp=unconfined, no-new-privileges"),
)

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CPUSET = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_HOSTNAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?")
MOST = 10_000  # containers of one request: the supervisor's own limit, said before it is asked


def options(words: Words) -> Options:
    """What was asked for; `words.rest` is IMAGE COMMAND ARG... Raises BadRequest at the first bad value."""
    image, *args = words.rest
    if not image:
        raise BadRequest("read", "IMAGE", "it is empty", "host: or rootfs:/absolute/path")
    entrypoint = words.one("entrypoint")
    return Options(
        image=image,
        args=tuple(args),
        name=_matching(words, "name", _NAME, "two or more of a-z A-Z 0-9 _ . -, the first a letter or digit"),
        env=variables(words.all("env-file"), words.all("env"), os.environ),
        workdir=workdir(words),
        user=user(words),
        volumes=tuple(volume(text) for text in words.all("volume")),
        memory=quantities.memory(words.one("memory")) if words.given("memory") else 0,
        cpus=quantities.cpus(words.one("cpus")) if words.given("cpus") else 0.0,
        cpuset_cpus=cpuset(words),
        pids_limit=pids(words),
        hostname=_hostname(words),
        read_only=words.on("read-only"),
        entrypoint=(entrypoint,) if entrypoint else (),
        cap_add=_filled(words, "cap-add"),
        cap_drop=_filled(words, "cap-drop"),
        **security.options(words.all("security-opt")),
        **log_driver.options(words.one("log-driver"), words.all("log-opt")),
        stdin=words.on("interactive"),
        tty=words.on("tty"),
        auto_remove=words.on("rm"),
        limits=limits.limits(words),
        cgroup_parent=_cgroup_parent(words),
        annotations=_annotations(words),
    )


def count(words: Words) -> int:
    """--count, 1 unless told."""
    text = words.one("count", "1")
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise BadRequest("read", "--count", f'"{text}" is no number from 1 to {MOST}')
    return int(text)


def volume(text: str) -> Volume:
    """SRC:DST[:ro|rw], both absolute."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    shape = "write it as /source:/target or /source:/target:ro"
    if not source or not target or mode not in ("", "ro", "rw"):
        raise BadRequest("read", "--volume", f'"{text}" has another shape', shape)
    for path, what in ((source, "source"), (target, "target")):
        if not path.startswith("/"):
            hint = f"give {os.path.join(os.getcwd(), path)}" if what == "source" else "start it with /"  # noqa: PTH109
            raise BadRequest("read", "--volume", f'its {what} "{path}" is not absolute', hint)
    if os.path.normpath(target) in ("/", "//"):
        raise BadRequest("read", "--volume", f'"{text}" would hide the whole image', "mount it below /")
    return Volume(source, target, mode == "ro")


def workdir(words: Words) -> str:
    path = words.one("workdir")
    if words.given("workdir") and not path.startswith("/"):
        raise BadRequest("read", "--workdir", f'"{path}" is not absolute', "start it with /")
    return path


def user(words: Words) -> str:
    text = words.one("user")
    parts = text.split(":")
    if words.given("user") and (not parts[0] or len(parts) > 2 or not parts[-1]):
        raise BadRequest("read", "--user", f'"{text}" is no user', "write it as NAME, UID, NAME:GROUP or UID:GID")
    return text


def cpuset(words: Words) -> str:
    return _matching(words, "cpuset-cpus", _CPUSET, "write it as 0-2,4")


def pids(words: Words) -> int:
    text = words.one("pids-limit", "0")
    try:
        value = int(text)
    except ValueError:
        value = -2
    if not -1 <= value < 1 << 31:
        raise BadRequest("read", "--pids-limit", f'"{text}" is no number of processes', "-1 means no limit")
    return value


def _cgroup_parent(words: Words) -> str:
    path = words.one("cgroup-parent")
    if words.given("cgroup-parent") and not path.strip("/"):
        raise BadRequest("read", "--cgroup-parent", f'"{path}" names no cgroup', "as in /mine")
    return path


def _annotations(words: Words) -> tuple[str, ...]:
    for pair in words.all("annotation"):
        name, equals, _ = pair.partition("=")
        if not name or not equals:
            raise BadRequest("read", "--annotation", f'"{pair}" has another shape', "write it as NAME=VALUE")
    return tuple(words.all("annotation"))


def _hostname(words: Words) -> str:
    name = _matching(words, "hostname", _HOSTNAME, "letters, digits, - and .")
    if len(name) > 64:  # sethostname(2)
        raise BadRequest("read", "--hostname", f"{len(name)} bytes are too long", "the kernel takes 64")
    return name


def _matching(words: Words, flag: str, pattern: re.Pattern[str], hint: str) -> str:
    text = words.one(flag)
    if words.given(flag) and not pattern.fullmatch(text):
        raise BadRequest("read", f"--{flag}", f'"{text}" does not fit', hint)
    return text


def _filled(words: Words, flag: str) -> tuple[str, ...]:
    texts = words.all(flag)
    if "" in texts:
        raise BadRequest("read", f"--{flag}", "it is empty", "as in NET_ADMIN, or ALL")
    return tuple(texts)
