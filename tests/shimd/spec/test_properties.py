"""What holds for every document: the way there and back, and no exception but SpecError."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimd.spec.config import Config, Hooks, Linux, Mount, Process, Resources, Root, Seccomp
from shimd.spec.decode import decode, encode
from shimd.spec.errors import Finding, SpecError
from shimd.spec.state import ContainerProcessState, State
from shimd.spec.validate import load, load_process, load_resources
from tests.shimd.spec.documents import full
from tests.shimd.spec.strategies import JSON, values
from tests.shimd.spec.test_decode import places

modest = settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

KINDS = [Config, Hooks, Linux, Mount, Process, Resources, Seccomp, State, ContainerProcessState]
PLACES = len(list(places(full())))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@modest
@given(data=st.data())
def test_there_and_back(kind: Any, data: st.DataObject) -> None:
    value = data.draw(values(kind))
    assert decode(kind, encode(value)) == value


@settings(modest, max_examples=150)
@given(JSON)
def test_random_json_is_refused_with_spec_errors(document: Any) -> None:
    for reader in (load, load_process):
        with pytest.raises(SpecError):
            reader(document)
    loaded_or_refused(load_resources, document)


@settings(modest, max_examples=300)
@given(place=st.integers(0, PLACES - 1), wrong=JSON)
def test_one_wrong_value_raises_nothing_but_spec_errors(place: int, wrong: Any) -> None:
    document = full()
    _, parent, key = list(places(document))[place]
    parent[key] = wrong
    loaded_or_refused(load, document)


@modest
@given(values(Config))
def test_any_typed_config_is_loaded_or_refused(config: Config) -> None:
    loaded_or_refused(load, encode(config))


@settings(modest, max_examples=100)
@given(config=st.builds(Config, st.just("1.2.0"), st.just(Root("r")), mounts=values(tuple[Mount, ...])))
def test_loading_what_was_loaded_changes_nothing(config: Config) -> None:
    tidied = loaded_or_refused(load, encode(config))
    if tidied is not None:
        notices: list[Finding] = []
        assert load(encode(tidied), notices.append) == tidied
        assert notices == []


def loaded_or_refused(reader: Callable[[Any], Any], document: Any) -> Any:
    """What the reader makes of a document, None where it raised the one error that it may."""
    try:
        return reader(document)
    except SpecError:
        return None
