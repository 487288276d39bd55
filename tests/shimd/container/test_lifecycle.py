"""The table, and the picture that is drawn from it."""

import subprocess
import sys
from pathlib import Path

import pytest

from shimd.container import lifecycle
from shimd.container.lifecycle import CREATED, CREATING, PAUSED, RUNNING, STOPPED, TABLE, after
from shimd.errors import RuntimeTrouble

TOP = Path(__file__).resolve().parents[3]


def test_states_are_the_specs() -> None:
    assert list(TABLE) == [CREATING, CREATED, RUNNING, PAUSED, STOPPED]


def test_every_deed_leads_to_a_state_of_the_table() -> None:
    assert {follows for deeds in TABLE.values() for follows in deeds.values()} <= set(TABLE)


def test_every_state_can_be_reached_and_ends() -> None:
    for state in TABLE:
        seen = {state}
        for _ in TABLE:
            seen |= {follows for one in seen for follows in TABLE[one].values()}
        assert STOPPED in seen
    assert set(TABLE) - {CREATING} == {follows for deeds in TABLE.values() for follows in deeds.values()}


def test_nothing_leaves_stopped() -> None:
    assert set(TABLE[STOPPED].values()) == {STOPPED}


@pytest.mark.parametrize(
    ("state", "deed", "follows"),
    [(CREATED, "start", RUNNING), (RUNNING, "pause", PAUSED), (PAUSED, "resume", RUNNING), (RUNNING, "exec", RUNNING)],
)
def test_after(state: str, deed: str, follows: str) -> None:
    assert after(state, deed, "box") == follows


@pytest.mark.parametrize(
    ("state", "deed", "words"),
    [
        (STOPPED, "kill", "kill box: it is stopped (possible while it is creating, created, running, paused)"),
        (CREATED, "exec", "exec box: it is created (possible while it is running)"),
        (RUNNING, "start", "start box: it is running (possible while it is created)"),
        (RUNNING, "delete", "delete box: it is running (possible while it is created, stopped)"),
    ],
)
def test_what_is_not_in_the_table_is_refused(state: str, deed: str, words: str) -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        after(state, deed, "box")
    assert str(caught.value) == words


def test_the_picture_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shimd.container.lifecycle"], cwd=TOP, capture_output=True, text=True, check=True
    )
    hint = "draw it again: python -m shimd.container.lifecycle > docs/lifecycle.md"
    assert (TOP / "docs/lifecycle.md").read_text(encoding="utf-8") == done.stdout, hint
    assert lifecycle.diagram() in done.stdout
