"""asyncrt run: create and start one container, or N at once."""

from __future__ import annotations

import contextlib
import os
import time

from asyncrt.cli import keys
from asyncrt.cli.connect import connect
from asyncrt.cli.fetching import fetch_missing
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.live import Live
from asyncrt.cli.options import FLAGS, count, options
from asyncrt.cli.places import Places
from asyncrt.cli.tally import Tally
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError, BadRequest, Unavailable, from_dict
from asyncrt.model.options import Options
from asyncrt.model.protocol import Progress, Run
from asyncrt.sdk.answer import typed
from asyncrt.sdk.blocking import Client


def _run(words: Words, places: Places) -> int:
    wish, number = options(words), count(words)
    fetch_missing(places, wish.image, words.on("quiet"))
    if words.on("detach"):
        return _detached(places, wish, number)
    if number > 1:
        if wish.tty:
            raise BadRequest("run", "--tty", "several containers cannot share our terminal", "add -d, or leave out -t")
        if wish.stdin:
            cause = "one stdin cannot feed several containers"
            raise BadRequest("run", "--interactive", cause, "leave out -i, or --count, or add -d")
        from asyncrt.cli.crowd import crowd

        return crowd(places, wish, number)
    from asyncrt.cli.foreground import Manner, foreground, need_terminal

    need_terminal(wish.tty, wish.stdin)
    detach = keys.parse(words.one("detach-keys", keys.DEFAULT)) if wish.tty else b""
    proxied = not words.given("sig-proxy") or words.on("sig-proxy")
    return foreground(places, wish, Manner(keys=detach, signals=proxied))


def _detached(places: Places, wish: Options, number: int) -> int:
    """Prints each id once its container runs; the exit code is that of the first failure, or 0."""
    with contextlib.closing(connect(places)) as client:
        live = Live(f"{number} x {wish.image}", os.environ, quiet=True, still=number == 1)
        try:
            return _print_ids(client, wish, number, live)
        finally:
            live.leave()


def _print_ids(client: Client, wish: Options, number: int, live: Live) -> int:
    tally, failures = Tally(number, time.monotonic()), dict[int, int]()
    answer = client.call(Run(wish, number))
    try:
        while True:
            steps = [typed(value, Progress) for value, _ in answer.ready()]
            now = time.monotonic()
            for step in steps:
                tally.feed(step, now)
                _tell(step, live, failures)
            if not live.due(now):
                live.draw(tally.counts(now), now)
            if answer.done:
                answer.result()
                break
            client.receive(live.every)
    except AsyncrtError as error:
        live.conceal()
        counts = tally.counts(time.monotonic())
        if isinstance(error, Unavailable) and counts.starting and counts.started:
            cause = f"{error.cause} with {counts.starting} of {number} on their way"
            raise Unavailable("run", f"{number} containers", cause, "see: asyncrt ps -a") from error
        raise
    live.finish(tally.counts(time.monotonic()), tally.timelines.values())
    return failures[min(failures)] if failures else 0


def _tell(step: Progress, live: Live, failures: dict[int, int]) -> None:
    if step.step == "started":
        live.above(1, f"{step.id}\n".encode())
    elif step.step == "failed":
        error = from_dict(step.error) if step.error else AsyncrtError("start", step.name, "no reason was given")
        live.say(str(error))
        failures[step.index] = error.code


VERB = Verb(
    usage="run [FLAGS] IMAGE [COMMAND [ARG...]]",
    run=_run,
    flags=(
        Flag("detach", "d", "", "print its id and leave it running"),
        *FLAGS,
        Flag("detach-keys", "", "KEYS", f"leave it running, from its terminal ({keys.DEFAULT})"),
        Flag("sig-proxy", "", "", "send it the signals that we get (true)"),
    ),
    least=1,
    stop=True,
    failure=125,
    own=True,
    more="""
IMAGE is host: (this machine's own root, under a fresh layer of its own)
or rootfs:/PATH (a directory that is a root file system).
The exit code is the container's; 125: asyncrt failed, 126: not executable,
127: not found. With --count N each line of output has its container's name
before it, and the exit code is the first that is not 0.
""",
)
