"""What a machine can run, and which of an image's platforms that is. (The Platform itself: model/descriptor.py.)

    platform = os "/" architecture [ "/" variant ]      linux/amd64, linux/arm64, linux/arm/v7

A machine runs more than its own name says: an arm/v7 runs v6 and v5, an amd64/v3 runs v2 and v1, an arm64 most often
runs 32-bit arm. `ladder` says in which order they are taken, `choose` climbs it. Sources: OCI image-spec v1.1.1,
image-index.md (platform, os.version, os.features, the table of variants); GOARCH's names
(https://go.dev/doc/install/source#environment).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from asyncrt.errors import BadRequest
from asyncrt.model.descriptor import Platform

_WORD = re.compile(r"[a-z0-9_.-]{1,64}")

# What kernels and people say -> architecture and variant, in GOARCH's words.
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv5tel": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "mips64el": ("mips64le", ""),
    "mipsel": ("mipsle", ""),
    "loongarch64": ("loong64", ""),
}
_SYSTEMS = {"macos": "darwin"}
# The variant that an image means when it names none.
_USUAL_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
# The oldest variant that exists: from one's own down to it, each runs.
_OLDEST_VARIANTS = {"arm": 5, "amd64": 1, "arm64": 8}
# What else the processor runs, as a platform of its own, after all of its own variants.
_ELDERS = {"amd64": ("386", ""), "arm64": ("arm", "v8")}

_T = TypeVar("_T")


def parse(text: str, subject: str = "--platform") -> Platform:
    """ "linux/arm/v7", "linux/amd64", "arm64" (this system's); BadRequest otherwise."""
    words = text.lower().split("/")
    if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise BadRequest("read", subject, f"{text[:80]!r} is no platform", "write it as linux/amd64 or linux/arm/v7")
    if len(words) == 1:
        words.insert(0, host().os)
    return normal(Platform(words[1], words[0], variant="".join(words[2:])))


def written(platform: Platform) -> str:
    """As people write it: linux/arm/v7."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def host() -> Platform:
    """The platform of this machine. Linux says no variant of amd64: v1 is what all of them run."""
    kernel = os.uname()
    return normal(Platform(kernel.machine, kernel.sysname.lower()))


def normal(platform: Platform) -> Platform:
    """The same in GOARCH's words, without the variant that goes without saying."""
    system, machine = platform.os.lower(), platform.architecture.lower()
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    variant = platform.variant.lower() or variant
    if variant.isdigit():
        variant = f"v{variant}"
    if variant == _USUAL_VARIANTS.get(architecture):
        variant = ""
    return replace(platform, os=_SYSTEMS.get(system, system), architecture=architecture, variant=variant)


def ladder(wanted: Platform) -> Iterator[Platform]:
    """What a machine of that platform runs, best first."""
    wanted = normal(wanted)
    yield from _variants(wanted)
    if elder := _ELDERS.get(wanted.architecture):
        yield from _variants(replace(wanted, architecture=elder[0], variant=elder[1]))


def _variants(wanted: Platform) -> Iterator[Platform]:
    yield wanted
    oldest = _OLDEST_VARIANTS.get(wanted.architecture)
    own = (wanted.variant or _USUAL_VARIANTS.get(wanted.architecture, ""))[1:]
    if oldest is None or not own.isdigit():
        return
    for number in range(min(int(own), 64) - 1, oldest - 1, -1):
        yield normal(replace(wanted, variant=f"v{number}"))


def choose(wanted: Platform, offered: Iterable[tuple[Platform, _T]]) -> list[_T]:
    """Those of the offers that suit `wanted` best, in their order; empty if none suits.

    An offer that names os.version or os.features asks them of the machine: it suits only who has them.
    """
    candidates = [(normal(platform), offer) for platform, offer in offered]
    for step in ladder(wanted):
        best = [offer for platform, offer in candidates if _suits(step, platform)]
        if best:
            return best
    return []


def _suits(step: Platform, offer: Platform) -> bool:
    return (
        written(step) == written(offer)
        and _version_suits(step, offer)
        and set(offer.os_features) <= set(step.os_features)
    )


def _version_suits(step: Platform, offer: Platform) -> bool:
    if not step.os_version or not offer.os_version:
        return True
    return offer.os_version == step.os_version or offer.os_version.startswith(step.os_version + ".")
