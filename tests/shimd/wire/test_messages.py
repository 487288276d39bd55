"""Every message there and back; what is none of them is a WireError and nothing else."""

from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shimd.errors import Trouble
from shimd.wire import codec, messages
from shimd.wire.codec import RECORD_VERSION, WireError, decode, encode, pack_record, unpack_record
from shimd.wire.messages import MAX_PACKET, NUMBERS, VERSION, ExitRecord, Message, RootMount

TROUBLE = Trouble("mount", "proc on /proc", "no such device", "load it", 19, 125)
RECORD = ExitRecord(137, 9, True, 1, 2, 3, 4, 5, 6, 7, "lost", "failed")
TIMELINE = [["zygote", 10**18], ["exec", 10**18 + 1]]
# A value for each annotation that a field has; decode gives lists where tuples went in.
VALUES: dict[str, Any] = {
    "int": 2**40,
    "str": "wörd",
    "bool": True,
    "list[str]": ["a", ""],
    "list[tuple[str, int]]": TIMELINE,
    "list[int]": [1, 2],
    "dict[str, Any]": {"cwd": "/", "args": ["sh"], "n": None},
    "Trouble": TROUBLE,
    "Trouble | None": TROUBLE,
    "ExitRecord": RECORD,
    "ExitRecord | None": RECORD,
    "list[RootMount]": [RootMount("overlay", ["/a", "/b"], "/u", "/w"), RootMount("bind", ["/c"], read_only=True)],
}


def sample(kind: type[Message]) -> Message:
    values = [VALUES[kind.__annotations__[field].__forward_arg__] for field in kind._fields]
    made: Message = kind(*values)
    return made


@pytest.mark.parametrize("kind", NUMBERS.values(), ids=lambda kind: kind.__name__)
def test_there_and_back(kind: type[Message]) -> None:
    message = sample(kind)
    packet = encode(message)
    again = decode(packet)
    assert again == message
    assert type(again) is kind
    assert [type(value) for value in again] == [type(value) for value in message]
    assert len(packet) < MAX_PACKET


def test_a_standing_without_a_record() -> None:
    message = messages.Standing(VERSION, "id", "running", 1, 2, 3, [], [], None)
    assert decode(encode(message)) == message


def test_hooks_that_went_well() -> None:
    assert decode(encode(messages.HooksRan(None))) == messages.HooksRan(None)


def test_the_numbers_are_for_ever() -> None:
    """A shim outlives the version that forked it. A new message gets a new number here; none is ever changed.

    14 is spent: an Attach that could not say whether an EOF closes the container's stdin.
    """
    assert {number: kind.__name__ for number, kind in NUMBERS.items()} == {
        1: "Hello",
        2: "Template",
        3: "TemplateReady",
        4: "TemplateRefused",
        5: "Forget",
        6: "Spawn",
        10: "Started",
        11: "Failed",
        12: "Ended",
        13: "Kill",
        15: "Exec",
        16: "ExecStarted",
        17: "ExecFailed",
        18: "ExecEnded",
        19: "Done",
        20: "Refusal",
        21: "Query",
        22: "Standing",
        23: "Release",
        24: "Attach",
        25: "Attached",
        26: "CloseStdin",
        27: "Resize",
        28: "Update",
        30: "Ready",
        31: "Refused",
        32: "Go",
        33: "Delivered",
        34: "HooksDue",
        70: "KeepTerminal",
        80: "AtHooks",
        81: "HooksRan",
    }


@pytest.mark.parametrize("kind", NUMBERS.values(), ids=lambda kind: kind.__name__)
def test_a_field_of_another_type(kind: type[Message]) -> None:
    number, *fields = msgpack.unpackb(encode(sample(kind)))
    for place, field in enumerate(fields):
        for stranger in (1.5, "word" if not isinstance(field, str) else 5, b"bytes"):
            with pytest.raises(WireError):
                decode(msgpack.packb([number, *fields[:place], stranger, *fields[place + 1 :]]))


def test_every_annotation_is_known() -> None:
    """A list is what is left over when the table of classes does not know an annotation: it must be one."""
    annotations = {kind.__annotations__[field].__forward_arg__ for kind in NUMBERS.values() for field in kind._fields}
    assert not [name for name in annotations - set(codec._CLASSES) if not name.startswith("list[")]


def test_every_message_has_a_number() -> None:
    assert set(get_args(Message)) == set(NUMBERS.values())


def test_the_arrows_name_every_message() -> None:
    drawn = str(messages.__doc__)
    assert not [
        kind.__name__
        for kind in NUMBERS.values()
        if kind.__name__ not in drawn.replace("Spawn+fds", "Spawn")
        and kind.__name__ not in ("Hello", "Forget", "ExecFailed", "Go", "Refusal")
    ]


@given(st.binary(max_size=64))
def test_any_bytes(packet: bytes) -> None:
    try:
        message = decode(packet)
    except WireError:
        return
    assert type(message) in NUMBERS.values()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*NUMBERS, 0, 7, 99, -1]), st.lists(plain, max_size=10))
def test_any_array_with_a_number(number: int, fields: list[Any]) -> None:
    try:
        message = decode(msgpack.packb([number, *fields]))
    except WireError:
        return
    assert type(message) is NUMBERS[number]
    assert len(message) == len(type(message)._fields)


@given(st.sampled_from(list(NUMBERS.values())), st.data())
def test_a_cut_packet(kind: type[Message], data: st.DataObject) -> None:
    packet = encode(sample(kind))
    cut = data.draw(st.integers(0, len(packet) - 1))
    with pytest.raises(WireError):
        decode(packet[:cut])


@pytest.mark.parametrize("kind", NUMBERS.values(), ids=lambda kind: kind.__name__)
def test_a_field_too_many(kind: type[Message]) -> None:
    number, *fields = msgpack.unpackb(encode(sample(kind)))
    with pytest.raises(WireError):
        decode(msgpack.packb([number, *fields, "newer"]))


@pytest.mark.parametrize("packet", [b"", b"\xc0", b"\x01", b"\x90", b"\x91\x90", b"\x80", b"\x91\xc1", b"\xa5hello"])
def test_what_is_no_array_of_ours(packet: bytes) -> None:
    with pytest.raises(WireError, match=f"packet of {len(packet)} bytes is no message of version {VERSION}"):
        decode(packet)


def test_deep_nesting_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        decode(b"\x91" * 100_000 + b"\x01")


def test_the_record_on_disk() -> None:
    assert unpack_record(pack_record(RECORD)) == RECORD
    assert unpack_record(pack_record(ExitRecord(0))) == ExitRecord(0)


def test_a_damaged_record() -> None:
    packed = pack_record(RECORD)
    for cut in range(len(packed)):
        with pytest.raises(WireError):
            unpack_record(packed[:cut])
    for data in (
        b"\xc0",
        msgpack.packb([RECORD_VERSION + 1, *RECORD]),
        msgpack.packb([RECORD_VERSION]),
        msgpack.packb({}),
    ):
        with pytest.raises(WireError):
            unpack_record(data)


@given(st.binary(max_size=40))
def test_any_bytes_as_a_record(data: bytes) -> None:
    try:
        unpack_record(data)
    except WireError:
        return
