"""The places of a command line: global flags before the environment, which sdk/places.py knows."""

from __future__ import annotations

from collections.abc import Mapping

from asyncrt.errors import BadRequest
from asyncrt.sdk.places import Places, choose

__all__ = ["Places", "places"]


def places(flags: Mapping[str, str], environment: Mapping[str, str]) -> Places:
    """Flags (root, state, socket) go before ASYNCRT_ROOT, ASYNCRT_STATE and ASYNCRT_SOCKET; empty is not set.

    Raises BadRequest for an empty flag or a NUL byte.
    """
    for name, value in flags.items():
        if not value or "\0" in value:
            raise BadRequest("read", f"--{name}", "it is no path", "give a directory, or leave it out")
    return choose(flags, environment)
