"""Configs drawn from the JSON schema that the runtime-spec publishes, whole or with one place spoiled.

The schema is not kept here: it is Debian's (golang-github-opencontainers-specs-dev), or a folder that OCI_SCHEMA names.
A document that it allows is planned, or refused in one line with the place; so is one that it does not allow.
"""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimd.spec.errors import SpecError
from shimd.spec.validate import load
from tests.shimd.command.runtime import Runtime
from tests.shimd.command.test_malformed import VALUES, attempted, judged, path_of_refusal, small
from tests.shimd.spec.test_decode import places

SCHEMA = Path(os.environ.get("OCI_SCHEMA", "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema"))
pytestmark = pytest.mark.skipif(
    not (SCHEMA / "config-schema.json").exists(),
    reason="not installed: golang-github-opencontainers-specs-dev (or set OCI_SCHEMA)",
)
ROUNDS = int(os.environ.get("OCI_SCHEMA_ROUNDS", "60"))
MODEST = settings(
    deadline=None,
    database=None,
    max_examples=ROUNDS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
# Strings that a config's have to look like to get any further.
WORDS = st.sampled_from(
    [
        "/",
        "/proc",
        "/no/such",
        "rootfs",
        "tmpfs",
        "bind",
        "ro",
        "size=64k",
        "CAP_KILL",
        "RLIMIT_CORE",
        "mount",
        "a=b",
        "",
    ]
)
OTHERS = ("freebsd", "solaris", "windows", "vm", "zos")


@cache
def read(name: str) -> Any:
    return json.loads((SCHEMA / name).read_text())


def resolved(reference: str, home: str) -> tuple[Any, str]:
    """What a reference means, and the file that it stands in."""
    file, _, path = reference.partition("#")
    found = read(file or home)
    for part in path.strip("/").split("/") if path.strip("/") else []:
        found = found[part]
    return found, file or home


def drawn(schema: Any, home: str, depth: int = 0) -> st.SearchStrategy[Any]:
    """A strategy for what a schema allows (draft 4, as much of it as these files use)."""
    if reference := schema.get("$ref"):
        found, file = resolved(reference, home)
        return st.deferred(lambda: drawn(found, file, depth))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for word in ("oneOf", "anyOf", "allOf"):
        if word in schema:
            return st.one_of([drawn(one, home, depth) for one in schema[word]])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        return st.one_of([drawn({**schema, "type": one}, home, depth) for one in kind])
    if kind == "integer":
        return st.integers(schema.get("minimum", -(1 << 63)), schema.get("maximum", (1 << 64) - 1))
    if kind == "array":
        return st.lists(drawn(schema.get("items", {}), home, depth + 1), max_size=3)
    if kind != "object":
        return {"boolean": st.booleans(), "null": st.none(), "number": st.floats()}.get(
            kind, WORDS | st.text(max_size=8)
        )
    members = {name: drawn(one, home, depth + 1) for name, one in schema.get("properties", {}).items()}
    members = {name: one for name, one in members.items() if depth or name not in OTHERS}
    needed = {name: members.pop(name) for name in schema.get("required", ()) if name in members}
    if not members and not needed:
        [*patterns] = schema.get("patternProperties", {}).values()
        return st.dictionaries(WORDS, drawn(patterns[0] if patterns else {}, home, depth + 1), max_size=2)
    return st.fixed_dictionaries(needed, optional=members)


def configs() -> st.SearchStrategy[Any]:
    whole = drawn(read("config-schema.json"), "config-schema.json")
    return whole.map(lambda document: {**document, "ociVersion": "1.2.0"})


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    document = json.loads(json.dumps(draw(st.deferred(configs))))
    _, parent, key = draw(st.sampled_from(list(places(document))))
    parent[key] = draw(VALUES)
    return document


@MODEST
@given(document=st.deferred(configs))
def test_what_it_allows(tmp_path: Path, document: Any) -> None:
    judged(tmp_path / "bundle", document)


@MODEST
@given(document=spoiled())
def test_what_was_spoiled(tmp_path: Path, document: Any) -> None:
    judged(tmp_path / "bundle", document)


# Of these a test makes nothing up: hooks are programs of the machine, a cgroup or a namespace may be somebody's.
KEPT = ("hooks", "cgroupsPath", "namespaces", "root", "ociVersion", *OTHERS)


@st.composite
def with_a_part(draw: st.DrawFn) -> Any:
    """A small config that can be created, with one or two properties as the schema allows them."""
    document = small()
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from([(), ("process",), ("linux",), ("linux", "resources")]))
        schema, home = read("config-schema.json"), "config-schema.json"
        held = document
        for name in path:
            schema = schema["properties"][name]
            if "$ref" in schema:
                schema, home = resolved(schema["$ref"], home)
            held = held.setdefault(name, {})
            if not isinstance(held, dict):
                return document
        names = [name for name in sorted(schema["properties"]) if name not in KEPT]
        name = draw(st.sampled_from(names))
        held[name] = draw(drawn(schema["properties"][name], home, 1))
    return document


@pytest.mark.root
@settings(MODEST, max_examples=max(1, ROUNDS // 3))
@given(document=with_a_part())
def test_create_leaves_nothing_behind(oci: Runtime, document: Any) -> None:
    errors = attempted(oci, document)
    where = path_of_refusal(json.dumps(document))
    assert where is None or where in errors


def properties(schema: Any, home: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every property, `[]` for a list's members."""
    if reference := schema.get("$ref"):
        found, file = resolved(reference, home)
        yield from properties(found, file, path)
    if "items" in schema:
        yield from properties(schema["items"], home, (*path, "[]"))
    for one in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from properties(one, home, path)
    for name, one in schema.get("properties", {}).items():
        if path or name not in OTHERS:
            yield (*path, name)
            yield from properties(one, home, (*path, name))


def test_every_property_is_read() -> None:
    """A wrong value at each place is refused there: none is passed over unread."""
    missed = []
    for path in sorted(set(properties(read("config-schema.json"), "config-schema.json"))):
        value: Any = 0.5  # of no type that the schema has
        for name in reversed(path):
            value = [value] if name == "[]" else {name: value}
        wanted = "$" + "".join("[0]" if name == "[]" else f".{name}" for name in path)
        try:
            load({"ociVersion": "1.2.0", "root": {"path": "r"}, **value})
        except SpecError as error:
            if error.path == wanted:
                continue
        missed.append(wanted)
    assert missed == []
