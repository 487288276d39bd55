"""Platforms: GOARCH's words, and who runs what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import BadRequest
from asyncrt.model.descriptor import Platform
from asyncrt.model.platform import choose, host, ladder, normal, parse, written


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/V1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/v7", "linux/arm"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i686", "linux/386"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms_are_written_in_goarch_s_words(text: str, canonical: str) -> None:
    assert written(parse(text)) == canonical


def test_one_word_is_an_architecture_of_this_system() -> None:
    assert parse("s390x") == Platform("s390x", host().os)


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux/amd64/v1/x", "linux/am d64", "a" * 65, "linux/../x\n"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="is no platform"):
        parse(text)


@pytest.mark.parametrize(
    ("wanted", "steps"),
    [
        ("linux/arm/v7", "arm arm/v6 arm/v5"),
        ("linux/arm/v6", "arm/v6 arm/v5"),
        ("linux/arm64", "arm64 arm/v8 arm arm/v6 arm/v5"),
        ("linux/arm64/v9", "arm64/v9 arm64 arm/v8 arm arm/v6 arm/v5"),
        ("linux/amd64", "amd64 386"),
        ("linux/amd64/v3", "amd64/v3 amd64/v2 amd64 386"),
        ("linux/riscv64", "riscv64"),
        ("linux/ppc64le/power9", "ppc64le/power9"),
    ],
)
def test_a_machine_runs_what_is_older(wanted: str, steps: str) -> None:
    assert " ".join(written(step).removeprefix("linux/") for step in ladder(parse(wanted))) == steps


def offers(*texts: str) -> list[tuple[Platform, str]]:
    return [(parse(text), text) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], ["linux/arm/v6"]),
        ("linux/arm/v7", ["linux/arm/v6", "linux/arm"], ["linux/arm"]),
        ("linux/arm/v6", ["linux/arm/v7"], []),
        ("linux/arm64", ["linux/amd64", "linux/arm64/v8"], ["linux/arm64/v8"]),
        ("linux/amd64/v2", ["linux/amd64/v3", "linux/amd64"], ["linux/amd64"]),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2"], ["linux/amd64/v2"]),
        ("linux/amd64", ["windows/amd64", "linux/386"], ["linux/386"]),
        ("linux/amd64", ["linux/amd64", "linux/386", "linux/x86_64"], ["linux/amd64", "linux/x86_64"]),
    ],
)
def test_the_best_that_runs_is_chosen(wanted: str, offered: list[str], chosen: list[str]) -> None:
    assert choose(parse(wanted), offers(*offered)) == chosen


def test_what_an_image_asks_of_the_system_must_be_there() -> None:
    plain = Platform("amd64", "windows")
    fussy = Platform("amd64", "windows", os_version="10.0.17763.1", os_features=("win32k",))
    assert choose(plain, [(fussy, 1)]) == []
    have = Platform("amd64", "windows", os_version="10.0.17763", os_features=("win32k", "more"))
    assert choose(have, [(fussy, 1)]) == [1]
    assert choose(Platform("amd64", "windows", os_version="10.0.1776", os_features=("win32k",)), [(fussy, 1)]) == []
    assert choose(have, [(plain, 1)]) == [1]


WORD = st.text(alphabet="amdrv0123456789/_.-x86lin", max_size=12)


@given(WORD, WORD, WORD)
def test_any_words_of_an_index_are_taken_as_words(architecture: str, system: str, variant: str) -> None:
    platform = Platform(architecture, system, variant=variant)
    assert normal(normal(platform)) == normal(platform)
    assert choose(platform, [(platform, 1)]) == [1]
    assert len(list(ladder(platform))) < 80
