"""asyncrt attach: our stdio in front of a container that runs already; of one that ended, its log and exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from asyncrt.cli import keys
from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.foreground import Manner, Watch, hold, need_terminal
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Pumps
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest, Conflict
from asyncrt.model.container import Container
from asyncrt.model.protocol import FROM_NOW, NOT_THIS, OLDEST, Attach, Attached, Wait
from asyncrt.sdk.answer import Answer, typed
from asyncrt.sdk.blocking import Client


def _attach(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        (container,) = client.inspect(words.rest)
    ended = container.exit is not None and container.state == "stopped"
    if not ended and container.state in ("creating", "created", "stopped"):
        raise Conflict("attach to", container.name, "it was not started", f"asyncrt start {container.name}", 1)
    if not ended and container.state == "paused":
        raise Conflict("attach to", container.name, "it is paused", f"asyncrt unpause {container.name}", 1)
    stdin = container.options.stdin and not words.on("no-stdin") and not ended
    tty = container.options.tty and not ended
    need_terminal(tty, stdin)
    offset = _offset(words, OLDEST if ended else FROM_NOW)
    proxied = not words.given("sig-proxy") or words.on("sig-proxy")
    detach = keys.parse(words.one("detach-keys", keys.DEFAULT)) if tty else b""
    # With a terminal, signals are keys: docker's attach sends none on either.
    manner = Manner(tty, stdin, detach, proxied and not tty and not ended)
    return hold(places, manner, _beginning(container, manner, offset))


def _beginning(container: Container, manner: Manner, offset: int) -> Callable[[Client, Pumps, Watch], Answer]:
    def begin(client: Client, pumps: Pumps, watch: Watch) -> Answer:
        fds = [pumps.input(0, manner.keys)] if manner.stdin else []
        fds.append(pumps.output("stdout", 1))
        stderr = NOT_THIS
        if not container.options.tty:
            stderr = offset
            fds.append(pumps.output("stderr", 2))
        subscribed = client.call(Attach(container.id, manner.stdin, offset, stderr), fds)
        pumps.close_remote()
        begun = typed(subscribed.result(), Attached)
        watch.begun = {"stdout": max(0, begun.stdout), "stderr": max(0, begun.stderr)}
        # Our death closes nothing: whoever comes next may go on typing. Our end of input is said.
        watch.half_close = manner.stdin and not manner.tty
        watch.is_about(container.id, container.name)
        return client.call(Wait((container.id,)))

    return begin


def _offset(words: Words, otherwise: int) -> int:
    text = words.one("since-offset")
    if not words.given("since-offset"):
        return otherwise
    if not text.isdecimal() or len(text) > 18:
        raise BadRequest("read", "--since-offset", f'"{text}" is no number of bytes', "0: from the beginning")
    return int(text)


VERB = Verb(
    usage="attach [FLAGS] CONTAINER",
    run=_attach,
    flags=(
        Flag("detach-keys", "", "KEYS", f"leave it running, from a terminal ({keys.DEFAULT})"),
        Flag("no-stdin", "", "", "do not feed it our stdin"),
        Flag("since-offset", "", "N", "what it wrote from byte N of each stream on; without, from now on"),
        Flag("sig-proxy", "", "", "send it the signals that we get (true; never with a terminal)"),
    ),
    least=1,
    most=1,
    own=True,
    more="""
The exit code is the container's. Of a container that has ended already this
shows the log. The detach keys leave it running, with exit code 0.
""",
)
