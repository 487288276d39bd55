"""The command line: global flags, the verb, its flags; an error becomes one line and an exit code.

asyncrt [--root DIR] [--state DIR] [--socket PATH] VERB [FLAGS] [WORDS]
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from asyncrt.cli.flags import UNKNOWN_FLAG, Words, nearest, read
from asyncrt.cli.places import Places, places
from asyncrt.cli.say import hush, plain, say
from asyncrt.cli.usage import GLOBAL, of_verb, overview
from asyncrt.cli.verb import SUBVERBS, VERBS, Verb, load
from asyncrt.errors import AsyncrtError, BadRequest

INTERRUPTED = 130  # 128 + SIGINT
NOBODY_READS = 141  # 128 + SIGPIPE

Daemon = Callable[[str, str, str, int | None], int]


def main(argv: Sequence[str] | None = None, daemon: Daemon | None = None) -> int:
    """The exit code of a command line. `daemon` runs the supervisor in this process (asyncrt/__main__.py)."""
    _hold_standard_fds()
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is shown escaped rather than ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv), daemon)
        sys.stdout.flush()
        return code
    except AsyncrtError as error:
        say(str(error))
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        hush()
        return NOBODY_READS
    except OSError as error:
        # Foreign errors are translated where they enter; what is left comes from writing to stdout.
        hush()
        say(f"write stdout: {(error.strerror or str(error)).lower()}")
        return 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()


def _dispatch(argv: list[str], daemon: Daemon | None) -> int:
    words = read("read", argv, GLOBAL, stop=True)
    if words.on("help") or not (words.rest or words.flags):
        print(overview())
        return 0
    if words.on("version"):
        from asyncrt import __version__

        print(f"asyncrt {__version__}")
        return 0
    if not words.rest:
        raise BadRequest("read", "the command line", "the verb is missing", "see: asyncrt --help", 1)
    name, rest = words.rest[0], words.rest[1:]
    if name == "help":
        return _help(rest)
    if name not in VERBS:
        guess = nearest(name, VERBS)
        hint = f"did you mean {guess}?" if guess else "see: asyncrt --help"
        raise BadRequest("read", f'verb "{plain(name)}"', "no such verb", hint, 1)
    where = places({flag: values[-1] for flag, values in words.flags.items()}, os.environ)
    return _run(name, load(name), rest, where, daemon)


def run_verb(name: str, argv: list[str], where: Places) -> int:
    """A verb of two words, sent here by the one of its first."""
    return _run(name, load(name), argv, where, None)


def _run(name: str, verb: Verb, argv: list[str], where: Places, daemon: Daemon | None) -> int:
    if _asks_help(verb, argv):
        print(of_verb(name, verb))
        return 0
    try:
        words = read(name, argv, verb.flags, verb.stop)
    except AsyncrtError as error:
        raise _with_code(error, UNKNOWN_FLAG) from error.__cause__
    try:
        _count(name, verb, words)
        if name == "daemon" and daemon is not None and not words.rest:
            ready = words.one("ready-fd")
            return daemon(*where, int(ready) if ready.isdecimal() else None)
        return verb.run(words, where)
    except AsyncrtError as error:
        if verb.own:
            raise
        raise _with_code(error, verb.failure) from error.__cause__


def _asks_help(verb: Verb, argv: list[str]) -> bool:
    """--help, or -h where that is no other flag, among the verb's own words."""
    taken = any(flag.short == "h" for flag in verb.flags)
    wanting = {f"--{f.long}" for f in verb.flags if f.value} | {f"-{f.short}" for f in verb.flags if f.value}
    skip = False
    for word in argv:
        if skip:
            skip = False
        elif word == "--help" or (word == "-h" and not taken):
            return True
        elif word == "--" or (verb.stop and not word.startswith("-")):
            return False
        else:
            skip = word in wanting
    return False


def _count(name: str, verb: Verb, words: Words) -> None:
    have = len(words.rest)
    if have < verb.least:
        raise BadRequest(name, "", "too few words", f"usage: asyncrt {verb.usage}", verb.failure)
    if 0 <= verb.most < have:
        extra = plain(words.rest[verb.most])
        raise BadRequest(name, f'"{extra}"', "one word too many", f"usage: asyncrt {verb.usage}", verb.failure)


def _with_code(error: AsyncrtError, code: int) -> AsyncrtError:
    error.code = code
    return error


def _help(words: list[str]) -> int:
    known = [word for word in words if word in VERBS]
    pair = " ".join(words[:2])
    if len(words) > 1 and words[1] in SUBVERBS.get(words[0], {}):
        known = [pair]
    print(of_verb(known[0], load(known[0])) if known else overview())
    return 0


def _hold_standard_fds() -> None:
    """A closed stdin, stdout or stderr would be the next pipe's number, and get the container's bytes."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if fd == 0 else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = _dumb(1)
    if sys.stderr is None:
        sys.stderr = _dumb(2)


def _dumb(fd: int) -> TextIO:
    return open(fd, "w", closefd=False)


if __name__ == "__main__":
    sys.exit(main())
