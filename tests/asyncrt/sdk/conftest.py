"""How a test of the SDK comes to an engine."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import asyncrt
from tests.engine import Engine
from tests.patience import until

Connect = Callable[[], AbstractAsyncContextManager[asyncrt.Runtime]]


def to(engine: Engine, **options: Any) -> Connect:
    """connect() with the places of an engine."""
    return lambda: asyncrt.connect(str(engine.socket), root=str(engine.root), state=str(engine.state), **options)


@pytest.fixture
def connect(shared: Engine) -> Connect:
    """The way to the module's engine."""
    return to(shared)


async def killed(rt: asyncrt.Runtime) -> int:
    """The supervisor, as kill -9 leaves it; its pid."""
    pid = int((await rt.info())["supervisor_pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")
    return pid
