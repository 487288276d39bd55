"""What all requests of the native API are (protocol.py)."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all requests are; the tag is the class name."""
