"""asyncrt exec: run one more process in a running container.

Our stdio is handed over as it is, so nothing is copied, but for terminals: a process that holds one could
push words into our shell's input (TIOCSTI; CVE-2016-2568 and kin). It gets pipes, and we copy.
"""

from __future__ import annotations

import contextlib
import os
import select

from asyncrt.cli.connect import connect
from asyncrt.cli.env import variables
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.options import user, workdir
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Pumps
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest, Unavailable
from asyncrt.model.options import ExecOptions
from asyncrt.model.protocol import Exec
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client, exit_of

LINGER = 1.0  # seconds of silence after the exit in which a pipe that a grandchild holds is still read


def _exec(words: Words, places: Places) -> int:
    if words.on("tty"):
        raise BadRequest("exec", "--tty", "there are no terminals yet", "-i alone gives it our stdin")
    ref, *args = words.rest
    options = ExecOptions(
        tuple(args),
        variables(words.all("env-file"), words.all("env"), os.environ),
        workdir(words),
        user(words),
    )
    with contextlib.closing(connect(places)) as client:
        if words.on("detach"):
            return _detached(client, ref, options)
        with Pumps() as pumps:
            return _attached(client, ref, options, pumps, words.on("interactive"))


def _detached(client: Client, ref: str, options: ExecOptions) -> int:
    """0 once it runs."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        answer = client.execute(ref, options, [null, null, null])
    finally:
        os.close(null)
    for _, fds in answer:
        close_all(fds)
        break
    return 0


def _attached(client: Client, ref: str, options: ExecOptions, pumps: Pumps, interactive: bool) -> int:
    """The process's exit code."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stdin = (pumps.input(0) if os.isatty(0) else 0) if interactive else null
        outputs = [pumps.output(name, fd) if os.isatty(fd) else fd for name, fd in (("stdout", 1), ("stderr", 2))]
        answer = client.call(Exec(ref, options), [stdin, *outputs])
    finally:
        os.close(null)
    pumps.close_remote()
    try:
        ended = exit_of(answer)
    except Unavailable as error:
        cause = f"{error.cause}; it goes on, but its exit code is lost"
        raise Unavailable("exec in", ref, cause, error.hint) from error
    poll = select.poll()
    poll.register(pumps, select.POLLIN)
    while pumps.open and (left := LINGER - pumps.idle()) > 0:
        poll.poll(min(left, LINGER) * 1000 + 1)
        pumps.woken()
    return ended.code or pumps.failure()


VERB = Verb(
    usage="exec [FLAGS] CONTAINER COMMAND [ARG...]",
    run=_exec,
    flags=(
        Flag("detach", "d", "", "leave it running"),
        Flag("interactive", "i", "", "give it our stdin; without, it has none"),
        Flag("env", "e", "NAME=VALUE", "set a variable; NAME alone takes ours"),
        Flag("env-file", "", "FILE", "variables, one a line"),
        Flag("workdir", "w", "DIR", "where it starts"),
        Flag("user", "u", "USER[:GROUP]", "names or numbers"),
        Flag("tty", "t"),
    ),
    least=2,
    stop=True,
    failure=125,
    own=True,
)
