"""The hooks that come after create, from the record: config.json may have changed since, which must not matter."""

from collections.abc import Mapping
from typing import Any

from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.container import hooks
from shimd.spec.config import Hook
from shimd.spec.decode import decode


def later(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the record keeps of a config's hooks."""
    held = document.get("hooks") or {}
    return {moment: held[moment] for moment in ("poststart", "poststop") if held.get(moment)}


def _of(record: Record, moment: str) -> tuple[Hook, ...]:
    return tuple(decode(Hook, entry) for entry in record.hooks.get(moment, ()))


def run_poststart(record: Record, state: dict[str, Any]) -> None:
    """RuntimeTrouble at the first that fails: the caller stops the container."""
    hooks.run("poststart", _of(record, "poststart"), state)


def run_poststop(record: Record, state: dict[str, Any], journal: Journal) -> None:
    """All of them; a failure is a warning."""
    for trouble in hooks.run_all("poststop", _of(record, "poststop"), state):
        journal.warn(str(trouble))
