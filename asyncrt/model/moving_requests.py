"""The requests that move images between places, and what goes with them; what they answer says protocol.py."""

from __future__ import annotations

from asyncrt.model.request import Request


class Copy(Request, frozen=True):
    """From one place to another, in the syntax of model/location.py with absolute paths.

    `all`: every platform of an index, else the one of `platform` (this machine's if empty). `format`: "oci" or "v2s2"
    has the documents rewritten; "" keeps them wherever the destination can. `plain` and `dest_plain`: the registry may
    be asked without TLS, or with a certificate that nobody knows. `login` and `dest_login` are USER:PASSWORD.
    """

    source: str
    destination: str
    all: bool = False
    platform: str = ""
    format: str = ""
    plain: bool = False
    dest_plain: bool = False
    login: str = ""
    dest_login: str = ""


class Unpack(Request, frozen=True):
    """An image into the new directory `path`: a bundle (rootfs and config.json), or one of the two.

    `what` is "bundle", "rootfs" (the files, in `path` itself) or "config" (config.json alone, for a rootfs beside it).
    """

    image: str
    path: str
    platform: str = ""
    what: str = "bundle"


class Login(Request, frozen=True):
    """Try these at a registry and keep them where pulls look for them."""

    host: str
    user: str
    password: str


class Logout(Request, frozen=True):
    """Forget what is kept for a registry."""

    host: str
