"""`asyncrt-oci`: the global flags, the verb, and how a failure is told."""

from __future__ import annotations

import gc
import os
import sys

from shimd.command import flags
from shimd.command.context import Context
from shimd.command.flags import Misuse, text
from shimd.command.journal import Journal
from shimd.command.shelf import default_root
from shimd.command.verbs import GLOBAL, LACKING, VERBS, usage
from shimd.errors import RuntimeTrouble, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FAILED = 1
EXEC_FAILED = 255  # runc's code for an exec that did not come about; docker and podman tell it from a program's own 1
INTERRUPTED = 130
FORMATS = ("text", "json")


def main(words: list[str]) -> int:
    """The whole command; its exit code."""
    journal = Journal()
    try:
        values, rest = flags.split(words, GLOBAL, to_first=True)
        if values["version"]:
            return _print(_version())
        if values["help"] or not rest or rest[0] == "help":
            return _print(usage(rest[1] if rest[1:] and rest[1] in (*VERBS, *LACKING) else ""))
        journal = _journal(values)
        return _perform(rest[0], rest[1:], text(values, "root") or default_root(), journal)
    except Misuse as error:
        journal.error(str(error))
        return FAILED


def _journal(values: flags.Values) -> Journal:
    form = text(values, "log-format")
    if form not in FORMATS:
        raise Misuse(f"--log-format is text or json, not {form!r}")
    if values["systemd-cgroup"]:
        raise Misuse("--systemd-cgroup: the systemd cgroup driver does not exist here; use cgroupfs")
    path = text(values, "log")
    if path in ("", "/dev/stderr"):
        return Journal("", form, bool(values["debug"]))
    path = os.path.abspath(path)  # now: some verbs go into the bundle
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise Misuse(f"open log {path}: {cause}") from None  # as runc: before anything is done of which nobody reads
    return Journal(path, form, bool(values["debug"]))


def _perform(name: str, words: list[str], root: str, journal: Journal) -> int:
    verb = VERBS.get(name)
    if name in LACKING:
        if words and words[0].lstrip("-") in ("h", "help"):
            return _print(usage(name))
        raise Misuse(f"{name}: {LACKING[name]}")
    if verb is None:
        raise Misuse(f"No help topic for {name!r}: it is no command; asyncrt-oci --help lists them")
    values, arguments = flags.split(words, verb.flags, to_first=verb.to_first)
    if values["help"]:
        return _print(usage(name))
    if len(arguments) < verb.least or (verb.most is not None and len(arguments) > verb.most):
        raise Misuse(f'"{name}" takes {verb.arguments or "no argument"}, and got {len(arguments)} arguments')
    try:
        # By name and only this one: what the other verbs import would cost this one its time.
        verb_module = __import__(f"shimd.command.{name}", fromlist=["main"])
        code: int = verb_module.main(Context(os.path.abspath(root), journal, values, arguments))
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except RuntimeTrouble as error:
        journal.error(f"{name} failed: {error}" if name in ("create", "run", "exec") else str(error))
    except OSError as error:
        # None is expected to get here: the verbs name deed and subject. Still no traceback for a full disk.
        cause = (error.strerror or str(error)).lower()
        journal.error(str(Trouble(name, str(error.filename or ""), cause)))
    return EXEC_FAILED if name == "exec" else FAILED


def _version() -> str:
    from shimd.command.version import told

    return told()


def _print(words: str) -> int:
    os.write(1, words.encode())
    return 0


def command(words: list[str]) -> NoReturn:
    """main as a process: no garbage is worth collecting in it, and nothing is buffered that its end would lose."""
    gc.disable()
    os._exit(main(words))


if __name__ == "__main__":
    command(sys.argv[1:])
