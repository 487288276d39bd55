"""asyncrt login: try credentials at a registry and keep them."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest

_MOST = 64 << 10  # bytes of a password


def _login(words: Words, places: Places) -> int:
    host = words.rest[0] if words.rest else "docker.io"
    user, password = words.one("username"), words.one("password")
    if words.on("password-stdin"):
        if not user:
            raise BadRequest("log in to", host, "--password-stdin needs --username")
        if words.given("password"):
            raise BadRequest("log in to", host, "--password and --password-stdin are both given")
        password = _read()
        if not password:
            raise BadRequest("log in to", host, "there is no password on stdin")
    elif words.given("password"):
        say("--password is seen by everybody who lists processes; --password-stdin is not")
    elif not os.isatty(0):
        raise BadRequest("log in to", host, "stdin is no terminal", "give --username and --password-stdin")
    if not user:
        print("Username: ", end="", file=sys.stderr, flush=True)
        user = sys.stdin.readline().strip()
    if not password:
        password = getpass.getpass("Password: ")
    with contextlib.closing(connect(places)) as client:
        kept = client.login(host, user, password)
    print(f"Login Succeeded, kept in {kept}")
    return 0


def _read() -> str:
    """The password, without the newline that echo puts behind it."""
    data = sys.stdin.buffer.read(_MOST + 1)
    if len(data) > _MOST:
        raise BadRequest("read", "the password", f"it has more than {_MOST} bytes")
    return data.decode().rstrip("\r\n")


VERB = Verb(
    usage="login [-u USER] [--password-stdin] [REGISTRY]",
    run=_login,
    flags=(
        Flag("username", "u", "USER", "asked for unless told"),
        Flag("password", "p", "PASSWORD", "asked for unless told; others see it"),
        Flag("password-stdin", "", "", "from stdin"),
    ),
    most=1,
    more="Kept as docker keeps it, where the supervisor reads it: its DOCKER_CONFIG, or ~/.docker/config.json.",
)
