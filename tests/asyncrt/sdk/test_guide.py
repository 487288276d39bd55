"""The examples of docs/sdk.md and of the README, run as they stand, under asyncio and trio."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tests.asyncrt.sdk.backends import under_both
from tests.engine import Engine
from tests.test_house import TOP

pytestmark = pytest.mark.root

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(path: str) -> list[Any]:
    """Each with the heading that it stands under."""
    text = (TOP / path).read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        heading = text[: match.start()].rpartition("\n#")[2].partition("\n")[0].strip("# ")
        if "async with" in match[1]:
            found.append(pytest.param(match[1], id=f"{Path(path).stem}: {heading}"))
    return found


@pytest.mark.parametrize("source", [*examples("docs/sdk.md"), *examples("README.md")])
@under_both
async def test_example(shared: Engine, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    for name, value in shared.env.items():
        if name.startswith("ASYNCRT_"):
            monkeypatch.setenv(name, value)
    code = compile(source, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, {"__name__": "example"})
    assert inspect.iscoroutine(running), "it awaits something"
    await running
