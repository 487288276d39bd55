"""The index of names in memory."""

import pytest

from asyncrt.errors import Conflict
from asyncrt.metadata.changes import DropContainer, PutContainer
from asyncrt.metadata.names import Names
from asyncrt.model.container import Container
from asyncrt.model.options import Options


def put(id: str, name: str) -> PutContainer:
    return PutContainer(Container(id, name, Options(image="host:")))


def test_a_name_in_use_is_a_conflict_that_names_its_holder() -> None:
    names = Names([("0123456789abcdef", "web")])
    with pytest.raises(Conflict, match="name container web: the name is in use by 0123456789ab "):
        names.claim([put("b", "web")])
    names.claim([put("0123456789abcdef", "web")])


def test_a_conflict_takes_back_what_its_caller_claimed_before() -> None:
    names = Names([("a", "web")])
    with pytest.raises(Conflict):
        names.claim([put("b", "db"), put("c", "web")])
    names.claim([put("d", "db")])


def test_undo_goes_back_to_the_last_settled_state() -> None:
    names = Names([("a", "web")])
    names.claim([put("b", "db")])
    names.settle()
    names.claim([DropContainer("a"), put("c", "web"), put("b", "db-2"), put("b", "db-3"), DropContainer("b")])
    names.undo()
    for other in ("web", "db"):
        with pytest.raises(Conflict):
            names.claim([put("x", other)])
    names.claim([put("x", "db-2"), put("y", "db-3")])


def test_names_are_swapped_through_a_third() -> None:
    names = Names([("a", "one"), ("b", "two")])
    names.claim([put("a", "tmp"), put("b", "one"), put("a", "two")])
    assert not names.renames("a", "two")
    assert not names.renames("b", "one")
