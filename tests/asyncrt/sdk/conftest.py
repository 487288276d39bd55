"""How a test of the SDK comes to an engine."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import asyncrt
from tests.engine import Engine

Connect = Callable[[], AbstractAsyncContextManager[asyncrt.Runtime]]


def to(engine: Engine, **options: Any) -> Connect:
    """connect() with the places of an engine."""
    return lambda: asyncrt.connect(str(engine.socket), root=str(engine.root), state=str(engine.state), **options)


@pytest.fixture
def connect(shared: Engine) -> Connect:
    """The way to the module's engine."""
    return to(shared)
