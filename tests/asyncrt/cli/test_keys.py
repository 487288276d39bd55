"""Words of the terminal verbs: detach keys, moments, sizes."""

import doctest

import pytest

from asyncrt.cli import keys, log_driver, moments
from asyncrt.errors import BadRequest
from asyncrt.model import quantities

HOUR = 3600 * 10**9


@pytest.mark.parametrize("module", [keys, log_driver, moments])
def test_the_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "found"),
    [("", b""), ("a", b"a"), ("ctrl-a,ctrl-@,ctrl-[", b"\x01\x00\x1b"), ("ctrl-P,Q", b"\x10Q"), ("ctrl-\\", b"\x1c")],
)
def test_keys(text: str, found: bytes) -> None:
    assert keys.parse(text) == found


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,,b", "ü", "ctrl-ab"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(BadRequest, match="is no key"):
        keys.parse(text)


@pytest.mark.parametrize("cut", range(1, 12))
def test_keys_are_found_however_they_come(cut: int) -> None:
    watch, typed = keys.Watch(b"\x10\x11"), b"ab\x10c\x10\x10\x11never"
    passed, found = b"", False
    for at in range(0, len(typed), cut):
        if not found:
            data, found = watch.feed(typed[at : at + cut])
            passed += data
    assert (passed, found) == (b"ab\x10c\x10", True)


def test_no_keys_pass_everything() -> None:
    assert keys.Watch(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10m", 10 * HOUR - 600 * 10**9),
        ("1h30m", 10 * HOUR - HOUR * 3 // 2),
        ("1.5h", 10 * HOUR - HOUR * 3 // 2),
        ("-1h", 11 * HOUR),
        ("250ms", 10 * HOUR - 250 * 10**6),
        ("1136073600", 1136073600 * 10**9),
        ("1136073600.000000001", 1136073600 * 10**9 + 1),
        ("2006-01-01T00:00:00Z", 1136073600 * 10**9),
        ("2006-01-01T02:00:00.25+02:00", 1136073600 * 10**9 + 250_000_000),
        ("2006-01-01Z", 1136073600 * 10**9),
        ("2005-12-31T22:30-01:30", 1136073600 * 10**9),
    ],
)
def test_moments(text: str, found: int) -> None:
    assert moments.moment(text, "--since", 10 * HOUR) == found


@pytest.mark.parametrize("text", ["", "soon", "10x", "m", "2006-13-01", "2006-01-01T25:00Z", "1h 2m", "--1h"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(BadRequest, match="is no time"):
        moments.moment(text, "--since", 0)


def test_sizes() -> None:
    assert [quantities.size(text) for text in ("512k", "1MiB", "2g", "7")] == [512 << 10, 1 << 20, 2 << 30, 7]
    with pytest.raises(ValueError, match="x"):
        quantities.size("x")
