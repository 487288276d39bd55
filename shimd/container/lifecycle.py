"""The lifecycle of a container (runtime-spec, "Runtime and Lifecycle"): one table.

`TABLE[state][deed]` is the state that follows; a deed that is not there is refused. docs/lifecycle.md is drawn from
this table (`python -m shimd.container.lifecycle`), and a test fails when it is stale.
"""

from shimd.errors import RuntimeTrouble, Trouble

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"

TABLE: dict[str, dict[str, str]] = {
    CREATING: {"set up": CREATED, "fail": STOPPED, "kill": STOPPED, "end": STOPPED},
    CREATED: {"start": RUNNING, "fail": STOPPED, "kill": CREATED, "end": STOPPED, "delete": STOPPED},
    RUNNING: {"kill": RUNNING, "exec": RUNNING, "pause": PAUSED, "update": RUNNING, "end": STOPPED, "attach": RUNNING},
    PAUSED: {"kill": PAUSED, "resume": RUNNING, "update": PAUSED, "end": STOPPED, "attach": PAUSED},
    STOPPED: {"delete": STOPPED, "attach": STOPPED},
}


def after(state: str, deed: str, subject: str) -> str:
    """The state after a deed; RuntimeTrouble if the table does not allow it."""
    follows = TABLE[state].get(deed)
    if follows is None:
        allowed = ", ".join(name for name, deeds in TABLE.items() if deed in deeds)
        raise RuntimeTrouble(Trouble(deed, subject, f"it is {state}", f"possible while it is {allowed}"))
    return follows


def diagram() -> str:
    """The table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {CREATING}"]
    for state, deeds in TABLE.items():
        lines += [f"    {state} --> {follows}: {deed}" for deed, follows in deeds.items()]
    return "\n".join([*lines, f"    {STOPPED} --> [*]"]) + "\n"


PAGE = """\
# The lifecycle of a container

Drawn from the table in `shimd/container/lifecycle.py`; after a change there, draw it again:

    python -m shimd.container.lifecycle > docs/lifecycle.md

A deed without an arrow is refused, and the refusal names the states in which it is possible.

```mermaid
{diagram}```
"""


if __name__ == "__main__":
    print(PAGE.format(diagram=diagram()), end="")
