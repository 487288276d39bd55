"""docs/spec-conformance.md says the truth: every property is in it, and every test that it names exists."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from shimd.spec.config import Config
from shimd.spec.decode import property_name

TESTS = Path(__file__).resolve().parent
TABLE = TESTS.parent / "docs/spec-conformance.md"


def properties(kind: Any, path: str = "") -> Iterator[str]:
    """The paths of a document: ``linux.devices[].path``, ``linux.timeOffsets{}.secs``."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return
    if origin is Union or origin is UnionType:
        for member in arguments:
            if member is not NoneType:
                yield from properties(member, path)
    elif origin is tuple:
        yield from properties(arguments[0], f"{path}[]")
    elif origin is Mapping:
        yield from properties(arguments[1], path + "{}")
    elif hasattr(kind, "_fields"):
        for field, hint in get_type_hints(kind, include_extras=True).items():
            here = f"{path}.{property_name(field)}".lstrip(".")
            yield here
            yield from properties(hint, here)


def rows() -> list[list[str]]:
    """The cells of each row: clause, state, proof."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] not in ("clause or property", "---")]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def place(name: str) -> Path:
    """The file that a proof names."""
    return TESTS / name if "/" in name else TESTS / "conformance" / f"{name}.py"


def test_every_property_is_in_the_table() -> None:
    written = {word for row in rows() for word in words(row[0])}
    assert set(properties(Config)) - written == set()


def test_every_row_has_a_state_and_a_proof() -> None:
    for clause, state, proof in rows():
        assert state.split()[0].rstrip(":;") in ("done", "refused", "ignored"), clause
        assert words(proof), f"nothing proves: {clause}"


def test_every_proof_exists() -> None:
    missing = []
    for _, _, proof in rows():
        for word in words(proof):
            file, _, function = word.partition("::")
            if not place(file).exists() or (function and function not in functions(place(file))):
                missing.append(word)
    assert not missing


def test_every_test_of_the_suite_is_in_the_table() -> None:
    named = {word for row in rows() for word in words(row[2])}
    tests = {
        f"{path.stem}::{function}" for path in (TESTS / "conformance").glob("test_*.py") for function in functions(path)
    }
    assert tests - named == set()
