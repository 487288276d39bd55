"""Documents to typed values and back, driven by the annotations of the NamedTuples alone.

A converter is compiled once a type to closures and kept; it walks the document's keys, not the type's fields,
so that the price follows what was written. The path of an error costs nothing until there is an error: each
level adds its step while the exception passes.

Readings of JSON: an unknown property is ignored, as the spec demands. Where the spec says nothing: ``null``
for an optional property means absent (Go's encoders write it for empty slices), and ``1.0`` is no integer.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from shimd.spec.errors import SpecError
from shimd.spec.scalars import Range

T = TypeVar("T")
Converter = Callable[[object], Any]

# What camelCase of the field's words does not give.
IRREGULAR = {
    "arg_index": "index",  # `index` and `count` are methods of every tuple
    "block_io": "blockIO",
    "class_id": "classID",
    "clos_id": "closID",
    "container_id": "containerID",
    "disable_oom_killer": "disableOOMKiller",
    "enable_cmt": "enableCMT",
    "enable_mbm": "enableMBM",
    "exec_cpu_affinity": "execCPUAffinity",
    "host_id": "hostID",
    "kernel_tcp": "kernelTCP",
    "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice",
}

_KINDS = {
    dict: "an object",
    list: "an array",
    tuple: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a fractional number",
    NoneType: "null",
}

_REQUIRED = object()
_converters: dict[object, Converter] = {}


def decode(type: type[T], value: object, path: str = "$") -> T:
    """The document ``value`` as a ``type``. Raises SpecError at the first misfit, its path below ``path``."""
    try:
        return cast(T, _converter(type)(value))
    except _Misfit as misfit:
        raise SpecError(path + "".join(reversed(misfit.steps)), misfit.problem, misfit.hint) from None


def encode(value: tuple[Any, ...]) -> dict[str, Any]:
    """The JSON-able document of a NamedTuple; properties that equal their default are left out.

    ``decode(type(value), encode(value)) == value`` for every value that the decoder could have made.
    """
    kind = cast(Any, type(value))
    defaults = kind._field_defaults
    document = {}
    for field, item in zip(kind._fields, value, strict=True):
        if field not in defaults or item != defaults[field]:
            document[property_name(field)] = _encode_item(item)
    return document


def property_name(field: str) -> str:
    """The spec's name of a field: ``no_new_privileges`` is ``noNewPrivileges``, ``class_`` is ``class``."""
    irregular = IRREGULAR.get(field)
    if irregular is not None:
        return irregular
    first, *others = field.rstrip("_").split("_")
    return first + "".join(word.capitalize() for word in others)


def key_step(key: str) -> str:
    """How a key of a map is written in a path: ``.name``, or ``["net.ipv4.ip_forward"]``."""
    if len(key) > 80:
        key = key[:77] + "..."
    if key.isascii() and key.isidentifier():
        return "." + key
    # ascii() keeps control characters, and the terminal's escapes, out of error messages.
    return '["' + ascii(key)[1:-1] + '"]'


class _Misfit(Exception):
    """On its way from a leaf to ``decode``; each level that it leaves appends its step."""

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem = problem
        self.hint = hint
        self.steps: list[str] = []


def _refuse(expected: str, value: object) -> NoReturn:
    raise _Misfit(f"expected {expected}, got {_KINDS.get(type(value), type(value).__name__)}")


def _encode_item(item: object) -> object:
    if isinstance(item, tuple):
        return encode(item) if hasattr(item, "_fields") else [_encode_item(member) for member in item]
    if isinstance(item, Mapping):
        return {key: _encode_item(member) for key, member in item.items()}
    return item


def _converter(kind: Any) -> Converter:
    known = _converters.get(kind)
    if known is None:
        known = _converters[kind] = _compile(kind)
    return known


def _compile(kind: Any) -> Converter:
    if kind is str:
        return _text
    if kind is bool:
        return _boolean
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _integer(arguments[1])
    if origin is Union or origin is UnionType:
        # An optional property: its null never gets here, so the converter is the one of the other half.
        return _converter(next(member for member in arguments if member is not NoneType))
    if origin is tuple:
        return _array(_converter(arguments[0]))
    if origin is Mapping:
        return _map(_converter(arguments[1]))
    return _object(kind)


def _text(value: object) -> str:
    if type(value) is not str:
        _refuse("a string", value)
    if "\0" in value:
        raise _Misfit("holds a NUL byte", "no path, argument or name of the kernel can")
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")  # as os.fsencode will
        except UnicodeEncodeError:
            raise _Misfit("holds half of a surrogate pair", "it has no form in bytes") from None
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        _refuse("a boolean", value)
    return value


def _integer(range: Range) -> Converter:
    low, high, reason = range

    def integer(value: object) -> int:
        if type(value) is not int:  # isinstance would let booleans in
            _refuse("an integer", value)
        if not low <= value <= high:
            raise _Misfit(f"expected an integer from {low} to {high}, got {_digits(value)}", reason)
        return value

    return integer


def _digits(value: int) -> str:
    # str() of an int of more than 4300 digits raises; nobody wants to read 30.
    return str(value) if -(10**30) < value < 10**30 else "one of more than 30 digits"


def _array(convert: Converter) -> Converter:
    def array(value: object) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            _refuse("an array", value)
        index = 0
        items = []
        try:
            for index, item in enumerate(value):  # noqa: B007 - read by the handler
                items.append(convert(item))
        except _Misfit as misfit:
            misfit.steps.append(f"[{index}]")
            raise
        return tuple(items)

    return array


def _map(convert: Converter) -> Converter:
    def map(value: object) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            _refuse("an object", value)
        entries = {}
        for key, item in value.items():
            try:
                entries[_text(key)] = convert(item)
            except _Misfit as misfit:
                misfit.steps.append(key_step(key) if isinstance(key, str) else f"[{key!r:.80}]")
                raise
        return MappingProxyType(entries)

    return map


def _object(kind: Any) -> Converter:
    hints = get_type_hints(kind, include_extras=True)
    names = [property_name(field) for field in kind._fields]
    defaults = [kind._field_defaults.get(field, _REQUIRED) for field in kind._fields]
    required = [place for place, default in enumerate(defaults) if default is _REQUIRED]
    slots = {
        name: (place, _converter(hints[field]))
        for place, (name, field) in enumerate(zip(names, kind._fields, strict=True))
    }
    make = kind._make

    def object_(value: object) -> Any:
        if not isinstance(value, dict):
            _refuse("an object", value)
        fields = defaults.copy()
        for name, item in value.items():
            slot = slots.get(name)
            if slot is None:
                continue
            place, convert = slot
            if item is None and fields[place] is not _REQUIRED:
                continue
            try:
                fields[place] = convert(item)
            except _Misfit as misfit:
                misfit.steps.append("." + name)
                raise
        for place in required:
            if fields[place] is _REQUIRED:
                missing = _Misfit("is required")
                missing.steps.append("." + names[place])
                raise missing
        return make(fields)

    return object_
