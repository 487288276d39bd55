"""Messages to packets and back (msgpack arrays), and the exit record as it lies on disk.

packet = encode(Kill(1, 9, ""))
assert decode(packet) == Kill(1, 9, "")
"""

from __future__ import annotations

from typing import Any

import msgpack

from shimd.errors import Trouble
from shimd.wire.messages import NUMBERS, VERSION, Message, Spawn
from shimd.wire.values import ExitRecord, RootMount

RECORD_VERSION = 1  # of the exit record, which outlives every version of the conversation

_NUMBER_OF = {kind: number for number, kind in NUMBERS.items()}
# Which fields of which message are values of ours themselves: (position, type, is it a list of them).
_NESTED: dict[int, list[tuple[int, Any, bool]]] = {}
for _number, _kind in NUMBERS.items():
    _found: list[tuple[int, Any, bool]] = []
    for _position, _field in enumerate(_kind._fields):
        if _field == "trouble":
            _found.append((_position, Trouble, False))
        elif _field == "record":
            _found.append((_position, ExitRecord, False))
        elif _kind is Spawn and _field == "root":
            _found.append((_position, RootMount, True))
    if _found:
        _NESTED[_number] = _found

# What a field of a message may be, by its annotation: a shim that trusted a number to be one would die of a word.
_CLASSES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "dict[str, Any]": (dict,),
    "Trouble": (Trouble,),
    "Trouble | None": (Trouble, type(None)),
    "ExitRecord": (ExitRecord,),
    "ExitRecord | None": (ExitRecord, type(None)),
}
_FIELD_CLASSES: dict[int, list[tuple[type, ...]]] = {
    _number: [
        _CLASSES.get(getattr(_kind.__annotations__[_field], "__forward_arg__", ""), (list,)) for _field in _kind._fields
    ]
    for _number, _kind in NUMBERS.items()
}


class WireError(ValueError):
    """A packet that is no message of this version."""


def encode(message: Message) -> bytes:
    """One packet. Named tuples inside become arrays."""
    packet: bytes = msgpack.packb((_NUMBER_OF[type(message)], *message))
    return packet


def decode(packet: bytes) -> Message:
    """The message in a packet; WireError if it is none of ours. Fields that a newer version appended are refused."""
    try:
        number, *fields = msgpack.unpackb(packet)
        kind: Any = NUMBERS[number]
        if number in _NESTED:
            for position, nested, several in _NESTED[number]:
                value = fields[position]
                if not isinstance(value, list):
                    continue  # None, or refused below: a word, too, could be unpacked
                fields[position] = [nested(*entry) for entry in value] if several else nested(*value)
        message: Message = kind(*fields)
        for value, classes in zip(message, _FIELD_CLASSES[number], strict=True):
            if not isinstance(value, classes):
                raise TypeError(f"{kind.__name__} with a {type(value).__name__} for a {classes[0].__name__}")
    except (ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
        raise WireError(f"packet of {len(packet)} bytes is no message of version {VERSION}: {error}") from error
    return message


def pack_record(record: ExitRecord) -> bytes:
    """The exit record as it lies on disk: msgpack array with the version in front."""
    packed: bytes = msgpack.packb((RECORD_VERSION, *record))
    return packed


def unpack_record(data: bytes) -> ExitRecord:
    """The inverse of pack_record; WireError if the file is cut or foreign."""
    try:
        version, *fields = msgpack.unpackb(data)
        if version != RECORD_VERSION:
            raise WireError(f"exit record of version {version}")
        return ExitRecord(*fields)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise WireError(f"exit record of {len(data)} bytes is damaged: {error}") from error
