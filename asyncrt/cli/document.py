"""A container's record as a document: JSON with OCI's words of state."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from asyncrt.cli.say import plain, span
from asyncrt.errors import BadRequest
from asyncrt.model.container import Container, Exit


def show(document: Any) -> None:
    """On stdout, indented, in Unicode."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def wants_json(text: str) -> bool:
    """--format: json, or the table that is shown without it."""
    if text not in ("json", "table"):
        raise BadRequest("read", "--format", f'"{plain(text)}" is not known', "json or table")
    return text == "json"


def stamp(ns: int) -> str | None:
    """RFC 3339 in UTC with nanoseconds; None for 0, which means never."""
    if not ns:
        return None
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000:09d}Z"


def since(text: str, now_ns: int) -> str:
    """How long ago an image's document says that something was; "-" where it says nothing that is a time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "-"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return f"{span(now_ns / 1e9 - aware.timestamp())} ago"


def listed(container: Container, now_ns: int) -> dict[str, Any]:
    """What `ps --format json` tells."""
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image or container.options.image,
        "args": [*container.options.entrypoint, *container.options.args],
        "state": container.state,
        "status": status(container, now_ns),
        "pid": container.pid,
        "created_ns": container.created_ns,
        "created": stamp(container.created_ns),
        "started_ns": container.started_ns,
        "started": stamp(container.started_ns),
        "exit_code": container.exit.code if container.exit else None,
    }


def inspected(container: Container) -> dict[str, Any]:
    """What `inspect` tells. `timeline`: each phase with its end (ns of CLOCK_MONOTONIC) and length."""
    timeline, before = [], container.timeline[0][1] if container.timeline else 0
    for phase, ns in container.timeline:
        timeline.append({"phase": phase, "ns": ns, "duration_ns": ns - before})
        before = ns
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image or container.options.image,
        "args": [*container.options.entrypoint, *container.options.args],
        "index": container.index,
        "state": container.state,
        "pid": container.pid,
        "shim_pid": container.shim_pid,
        "created_ns": container.created_ns,
        "created": stamp(container.created_ns),
        "started_ns": container.started_ns,
        "started": stamp(container.started_ns),
        "options": _options(container),
        "timeline": timeline,
        "exit": _exit(container.exit),
        "error": container.error,
    }


def status(container: Container, now_ns: int) -> str:
    """Docker's words for people."""
    ended = container.exit
    if ended is not None:
        return f"Exited ({ended.code}) {span((now_ns - ended.ended_ns) / 1e9)} ago"
    if container.error:
        return "Start failed"
    if container.state == "stopped":
        return "Exited"
    if container.state in ("creating", "created"):
        return container.state.capitalize()
    up = f"Up {span((now_ns - container.started_ns) / 1e9)}" if container.started_ns else "Up"
    return f"{up} (Paused)" if container.state == "paused" else up


def _options(container: Container) -> dict[str, Any]:
    """With the defaults written out, so that a reader need not know them."""
    return {name: msgspec.to_builtins(getattr(container.options, name)) for name in container.options.__struct_fields__}


def _exit(record: Exit | None) -> dict[str, Any] | None:
    if record is None:
        return None
    times = {"started": stamp(record.started_ns), "ended": stamp(record.ended_ns)}
    return {**msgspec.to_builtins(record), "oom_killed": record.oom_killed, **times}
