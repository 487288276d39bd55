"""The words of the SDK: keywords to options, the examples in the docstrings, and what an import costs."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import asyncrt
import asyncrt.sdk
from asyncrt.sdk.wishes import exec_wish, variables, wish
from tests.test_house import HEAVY, TOP


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(asyncrt.sdk.__path__)])
def test_the_examples_in_docstrings(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(f"asyncrt.sdk.{name}"))
    assert failed == 0


def test_every_public_name_is_there_and_in_the_stub() -> None:
    stub = (TOP / "asyncrt" / "__init__.pyi").read_text()
    for name, home in asyncrt._HOME.items():
        assert getattr(asyncrt, name) is getattr(importlib.import_module(home), name)
        assert f"from {home} import {name} as {name}\n" in stub
        assert name in dir(asyncrt)
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        asyncrt.conect  # noqa: B018


def test_a_client_imports_nothing_of_the_engine() -> None:
    code = "import sys, asyncrt; asyncrt.connect; print(*{m.partition('.')[0] for m in sys.modules}, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not (HEAVY - {"anyio", "msgspec"}) & loaded, "which event loop is for the program to say"
    assert not [name for name in loaded if name.startswith(("shimd", "asyncrt.engine", "asyncrt.api", "asyncrt.cli"))]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"args": "echo hi"}, "one string"),
        ({"env": ["A"]}, '"A" is no variable'),
        ({"env": "A=1"}, "one string"),
        ({"env": {"": "1"}}, "no variable"),
        ({"memory": "much"}, "no size"),
        ({"cpus": "two"}, "cpus"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_named(words: dict[str, object], error: str) -> None:
    with pytest.raises(asyncrt.BadRequest, match=error):
        wish("host:", **words)  # type: ignore[arg-type]


def test_keywords_become_options() -> None:
    volume = asyncrt.Volume("/a", "/b", True)
    made = wish("host:", ["x"], env={"A": "1"}, memory="64m", cpus=1.5, volumes=[volume], cap_add=["NET_ADMIN"])
    assert made == asyncrt.Options(
        image="host:", args=("x",), env=("A=1",), memory=64 << 20, cpus=1.5, volumes=(volume,), cap_add=("NET_ADMIN",)
    )
    assert wish(made) is made
    assert exec_wish(["x"], env=["A=1"], workdir="/").env == ("A=1",)
    assert variables({"A": "a=b"}) == ("A=a=b",)
    with pytest.raises(asyncrt.BadRequest, match="one of the two"):
        wish(made, ["y"])
