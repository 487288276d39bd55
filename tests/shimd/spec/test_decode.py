"""The decoder: every property by its name, every wrong type by its path, and what it reads leniently."""

import json
import time
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from shimd.spec.config import Config, Process, Resources, User
from shimd.spec.decode import decode, encode, key_step, property_name
from shimd.spec.errors import SpecError
from shimd.spec.validate import load
from tests.shimd.spec.documents import full, usual

MINIMAL: dict[str, Any] = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}


def places(node: Any, path: str = "$") -> Iterator[tuple[str, Any, Any]]:
    """Every place below a document: its path, its parent, its key."""
    if isinstance(node, dict):
        steps = [(key, f".{key}" if key.isidentifier() else f'["{key}"]') for key in node]
    elif isinstance(node, list):
        steps = [(key, f"[{key}]") for key in range(len(node))]
    else:
        return
    for key, step in steps:
        yield path + step, node, key
        yield from places(node[key], path + step)


def types_below(kind: Any) -> Iterator[Any]:
    """Every NamedTuple that a type mentions, itself included."""
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from types_below(hint)
    for argument in get_args(kind):
        yield from types_below(argument)


def values_below(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        if hasattr(value, "_fields"):
            yield value
        for item in value:
            yield from values_below(item)
    elif hasattr(value, "values"):
        for item in value.values():
            yield from values_below(item)


def refusal(document: Any, kind: Any = Config) -> SpecError:
    with pytest.raises(SpecError) as caught:
        decode(kind, document)
    return caught.value


def test_the_full_document_mentions_every_field_of_every_type() -> None:
    unset = {(kind.__name__, field) for kind in types_below(Config) for field in kind._fields}
    for value in values_below(decode(Config, full())):
        for field, item in zip(value._fields, value, strict=True):
            if field not in value._field_defaults or item != value._field_defaults[field]:
                unset.discard((type(value).__name__, field))
    # Fields that have no other valid value beside the rest of the document.
    assert unset == {("Scheduler", "priority"), ("Namespace", "path"), ("Personality", "flags")}


def test_encode_gives_the_full_document_back_under_the_names_of_the_spec() -> None:
    document = full()
    del document["process"]["scheduler"]["priority"]
    del document["linux"]["namespaces"][-1]["path"]
    del document["linux"]["personality"]["flags"]
    assert encode(decode(Config, document)) == document
    assert json.loads(json.dumps(encode(decode(Config, full())))) == document


def test_the_full_and_the_usual_document_are_valid() -> None:
    for document in (full(), usual()):
        config = load(document)
        assert load(encode(config)) == config


@pytest.mark.parametrize("wrong", [{}, [], "text", True, 7, 7.0, b"bytes"], ids=lambda wrong: type(wrong).__name__)
def test_a_wrong_type_anywhere_is_refused_under_its_path(wrong: Any) -> None:
    document = full()
    tried = 0
    for path, parent, key in list(places(document)):
        right = parent[key]
        if type(wrong) is type(right):
            continue
        parent[key] = wrong
        error = refusal(document)
        parent[key] = right
        assert error.path == path
        assert error.problem.startswith("expected a")
        assert ", got " in error.problem
        tried += 1
    assert tried > 200


def test_a_boolean_is_no_integer_and_a_float_is_none_either() -> None:
    assert str(refusal({"uid": True, "gid": 0}, User)) == "$.uid: expected an integer, got a boolean"
    assert str(refusal({"uid": 1.0, "gid": 0}, User)) == "$.uid: expected an integer, got a fractional number"
    assert str(refusal({"uid": "0", "gid": 0}, User)) == "$.uid: expected an integer, got a string"


@pytest.mark.parametrize(
    ("document", "path", "problem"),
    [
        ({"uid": -1, "gid": 0}, "$.uid", "expected an integer from 0 to 4294967294, got -1"),
        ({"uid": 2**32 - 1, "gid": 0}, "$.uid", "expected an integer from 0 to 4294967294, got 4294967295"),
        ({"uid": 0, "gid": 0, "additionalGids": [0, 2**32]}, "$.additionalGids[1]", "got 4294967296"),
        ({"uid": 10**5000, "gid": 0}, "$.uid", "got one of more than 30 digits"),
        ({"gid": 0}, "$.uid", "is required"),
        ({"uid": 0}, "$.gid", "is required"),
        ({"uid": None, "gid": 0}, "$.uid", "expected an integer, got null"),
        ({"uid": 0, "gid": 0, "username": "a\0b"}, "$.username", "holds a NUL byte"),
        ({"uid": 0, "gid": 0, "username": "\ud800"}, "$.username", "holds half of a surrogate pair"),
    ],
)
def test_what_a_user_may_not_be(document: Any, path: str, problem: str) -> None:
    error = refusal(document, User)
    assert error.path == path
    assert problem in error.problem


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"memory": {"limit": 2**63}}, "$.memory.limit"),
        ({"memory": {"limit": -(2**63) - 1}}, "$.memory.limit"),
        ({"memory": {"swappiness": -1}}, "$.memory.swappiness"),
        ({"blockIO": {"weight": 65536}}, "$.blockIO.weight"),
        ({"cpu": {"shares": 2**64}}, "$.cpu.shares"),
    ],
)
def test_numbers_beyond_their_type(document: Any, path: str) -> None:
    assert refusal(document, Resources).path == path


def test_numbers_at_the_edge_of_their_type() -> None:
    resources = decode(Resources, {"memory": {"limit": 2**63 - 1, "swap": -(2**63)}, "cpu": {"shares": 2**64 - 1}})
    assert resources.memory.limit == 2**63 - 1
    assert resources.memory.swap == -(2**63)
    assert resources.cpu.shares == 2**64 - 1
    assert decode(User, {"uid": 2**32 - 2, "gid": 0}).uid == 2**32 - 2


def test_required_properties() -> None:
    assert str(refusal({"root": {"path": "r"}})) == "$.ociVersion: is required"
    assert str(refusal({"ociVersion": "1.3.0"})) == "$.root: is required"
    assert str(refusal({**MINIMAL, "process": {"args": ["sh"]}})) == "$.process.cwd: is required"
    assert str(refusal({**MINIMAL, "mounts": [{"destination": "/a"}, {}]})) == "$.mounts[1].destination: is required"


def test_null_is_absent_where_the_property_is_optional() -> None:
    document = {**MINIMAL, "mounts": None, "linux": {"namespaces": None, "seccomp": None}, "process": None}
    assert decode(Config, document) == decode(Config, MINIMAL)
    assert refusal({**MINIMAL, "mounts": [None]}).path == "$.mounts[0]"
    assert refusal({**MINIMAL, "annotations": {"key": None}}).path == "$.annotations.key"


def test_unknown_properties_are_ignored_whatever_they_hold() -> None:
    unknown: dict[Any, Any] = {"windows": {"layerFolders": 3}, "": 1, 5: "from msgpack", b"x": {}}
    document = MINIMAL | unknown
    assert decode(Config, document) == decode(Config, MINIMAL)


def test_msgpack_tuples_are_arrays() -> None:
    assert decode(Process, {"cwd": "/", "args": ("a", "b")}).args == ("a", "b")


def test_bytes_that_are_no_utf8_pass_in_their_python_form() -> None:
    name = b"/\xff".decode("utf-8", "surrogateescape")
    assert decode(Process, {"cwd": name}).cwd == name


def test_a_value_cannot_be_changed() -> None:
    config = decode(Config, {**MINIMAL, "annotations": {"a": "b"}})
    with pytest.raises(TypeError):
        config.annotations["a"] = "c"  # type: ignore[index]
    with pytest.raises(AttributeError):
        config.hostname = "other"  # type: ignore[misc]


def test_absent_and_empty_stay_apart_where_they_differ() -> None:
    assert decode(Process, {"cwd": "/"}).capabilities is None
    emptied = decode(Process, {"cwd": "/", "capabilities": {}})
    assert emptied.capabilities is not None
    assert encode(emptied)["capabilities"] == {}


def test_the_path_can_start_anywhere() -> None:
    with pytest.raises(SpecError, match=r"^request\.spec\.root: is required"):
        decode(Config, {"ociVersion": "1.3.0"}, path="request.spec")


def test_names_of_properties() -> None:
    assert property_name("class_") == "class"
    assert property_name("no_new_privileges") == "noNewPrivileges"
    assert property_name("l3_cache_schema") == "l3CacheSchema"


def test_keys_in_paths_are_short_and_printable() -> None:
    assert key_step("eth0") == ".eth0"
    assert key_step("a b") == '["a b"]'
    assert key_step("\x1b[31m") == '["\\x1b[31m"]'
    assert len(key_step("x" * 10_000)) < 90
    assert refusal({**MINIMAL, "annotations": {7: "x"}}).path == "$.annotations[7]"


def test_errors_have_parts_and_a_line() -> None:
    error = SpecError("$.a", "is wrong", "write it right")
    assert (error.path, error.problem, error.hint) == ("$.a", "is wrong", "write it right")
    assert str(error) == "$.a: is wrong (write it right)"
    assert isinstance(error, ValueError)


def test_the_usual_document_is_decoded_fast() -> None:
    document = usual()
    decode(Config, document)
    best = 1.0
    for _ in range(20):
        begin = time.perf_counter()
        decode(Config, document)
        best = min(best, time.perf_counter() - begin)
    # About 0.05 ms where this was written; the promise is 0.5 ms.
    assert best < 0.0005
