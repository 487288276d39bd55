"""asyncrt events: what happens, as it happens."""

from __future__ import annotations

import contextlib
import json

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.document import stamp, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest, Unavailable
from asyncrt.model.events import Event


def _events(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    follow = not words.on("no-follow")
    after = _after(words, follow)
    with contextlib.closing(connect(places)) as client:
        try:
            for event in client.events(after, follow):
                print(_json(event) if as_json else _line(event), flush=True)
                after = event.seq
        except Unavailable as error:
            error_hint = f"go on with --since-seq {after}" if after >= 0 else error.hint
            raise Unavailable("follow", "events", error.cause, error_hint) from error
    return 0


def _after(words: Words, follow: bool) -> int:
    """New ones alone, or with --no-follow the whole history: only new ones would be none."""
    if not words.given("since-seq"):
        return -1 if follow else 0
    text = words.one("since-seq")
    if not text.isdecimal():
        raise BadRequest("read", "--since-seq", f'"{plain(text)}" is no sequence number', "0: from the first")
    return int(text)


def _json(event: Event) -> str:
    return json.dumps({**msgspec.to_builtins(event), "time": stamp(event.time_ns)}, ensure_ascii=False)


def _line(event: Event) -> str:
    attributes = ", ".join(f"{name}={value}" for name, value in event.attributes.items())
    name = event.name or event.id[:12]
    text = f"{stamp(event.time_ns)}  {event.seq:>6}  {event.action:<12}  {event.id[:12]}  {name}"
    return plain(f"{text}  ({attributes})" if attributes else text)


VERB = Verb(
    usage="events [--since-seq N] [--no-follow] [--format json]",
    run=_events,
    flags=(
        Flag("since-seq", "", "N", "those after sequence number N first"),
        Flag("no-follow", "", "", "end with the newest"),
        Flag("format", "", "json|table", "an object a line, or words"),
    ),
    most=0,
)
