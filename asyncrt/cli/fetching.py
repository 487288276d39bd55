"""Pictures of blobs that come and go: bars on a terminal, a line per change elsewhere."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from asyncrt.cli.document import wants_json
from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain, say
from asyncrt.errors import AsyncrtError
from asyncrt.model.image import BlobProgress
from asyncrt.sdk.answer import Answer, each

LOCAL = ("host:", "rootfs:")
_WIDTH = 30  # columns of a bar
_EVERY = 0.1  # seconds between two pictures
_ENDS = ("there", "mounted", "done", "failed")
_WORDS = {"there": "already here", "mounted": "mounted", "done": "done", "failed": "failed"}


def move(words: Words, asked: Iterable[tuple[str, Answer]], said: Callable[[str, Any], str]) -> int:
    """Show several pulls, pushes or copies, one after the other; `said` is the last line of each that went well.

    One that fails is told, and the others go on; the exit code.
    """
    as_json, quiet = wants_json(words.one("format", "table")), words.on("quiet")
    code = 0
    for ref, answer in asked:
        try:
            show(each(answer, BlobProgress), quiet, as_json, ref)
            if not as_json:
                print(said(ref, answer.result()), flush=True)
        except AsyncrtError as error:
            say(str(error))
            code = 1
    return code


def show(steps: Iterable[BlobProgress], quiet: bool = False, as_json: bool = False, subject: str = "") -> None:
    """Until the last step; raises what they raise."""
    if as_json:
        for step in steps:
            print(json.dumps({"image": subject, **msgspec.to_builtins(step)}), flush=True)
    elif quiet:
        for _ in steps:
            pass
    elif sys.stderr.isatty():
        _bars(steps)
    else:
        _lines(steps)


def fetch_missing(places: Places, image: str, quiet: bool) -> None:
    """Have an image before containers are made of it, so that one sees it come. Nothing to do for most."""
    if image.startswith(LOCAL):
        return
    from asyncrt.cli.connect import connect

    with contextlib.closing(connect(places)) as client:
        show(client.pull(image, missing=True), quiet)


def _lines(steps: Iterable[BlobProgress]) -> None:
    seen: dict[str, str] = {}
    for step in steps:
        if step.state != seen.get(step.digest) and step.state in (*_ENDS, "retrying"):
            say(f"{_short(step.digest)}: {_said(step)}")
        seen[step.digest] = step.state


def _said(step: BlobProgress) -> str:
    word = _WORDS.get(step.state, step.state)
    return f"{word} ({plain(step.note)})" if step.note else word


def _bars(steps: Iterable[BlobProgress]) -> None:
    """One line a blob, drawn over the last picture."""
    known: dict[str, BlobProgress] = {}
    drawn, last = 0, 0.0
    try:
        for step in steps:
            known[step.digest] = step
            now = time.monotonic()
            if now - last >= _EVERY:
                drawn, last = _draw(known, drawn), now
    finally:
        _draw(known, drawn)


def _draw(known: dict[str, BlobProgress], drawn: int) -> int:
    columns, rows = shutil.get_terminal_size()
    lines = [line[: columns - 1] for line in picture(list(known.values()), rows - 1)]
    up = f"\x1b[{drawn}A" if drawn else ""
    sys.stderr.write(up + "".join(f"\r\x1b[2K{line}\n" for line in lines))
    sys.stderr.flush()
    return len(lines)


def picture(steps: Sequence[BlobProgress], most: int) -> list[str]:
    """A line a blob, `most` lines: where there are more, those under way, below a count of the others."""
    if len(steps) <= most:
        return [_bar(step) for step in steps]
    under_way = [step for step in steps if step.state not in _ENDS]
    # What moves before what waits; the count has a line of its own.
    shown = sorted(under_way, key=lambda step: not step.done)[: max(most - 1, 0)]
    return [f"{len(steps) - len(under_way)} of {len(steps)} done", *map(_bar, shown)]


def _bar(step: BlobProgress) -> str:
    from asyncrt.cli.stats import size

    if step.state in _ENDS:
        return f"{_short(step.digest)}  {_said(step)}"
    filled = _WIDTH * step.done // step.total if step.total else 0
    bar = "=" * filled + " " * (_WIDTH - filled)
    return f"{_short(step.digest)}  [{bar}] {size(step.done)} / {size(step.total)}  {step.state}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]
