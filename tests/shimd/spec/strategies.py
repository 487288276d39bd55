"""Hypothesis strategies drawn from the annotations, as the decoder is: any value that it could have made."""

from collections.abc import Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)

# What json.loads and msgpack can give, wrong shapes and all.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of an annotation of this room."""
    if kind is str:
        return TEXT
    if kind is bool:
        return st.booleans()
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        low, high, _ = arguments[1]
        return st.integers(low, high)
    if origin is Union or origin is UnionType:
        return st.none() | values(next(member for member in arguments if member is not NoneType))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=2).map(MappingProxyType)
    hints = get_type_hints(kind, include_extras=True)
    fields = {
        field: st.just(kind._field_defaults[field]) | values(hint) if field in kind._field_defaults else values(hint)
        for field, hint in hints.items()
    }
    return st.builds(kind, **fields)
