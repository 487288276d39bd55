"""Where a registry answers, and how it is trusted.

    https            always, unless
    insecure         the user said so of this host: https without verifying, then plain http
    mirrors          asked first when something is pulled, never when something is pushed
    HOST/ca.crt, client.cert, client.key    below the directory of certificates, as docker has them in certs.d

A mirror is a URL, with a path if it serves several registries. It is told which one is meant by `ns=`
(distribution-spec v1.1.1, "Registry Proxying"), and it gets the credentials of its own host, never those of the
registry that it mirrors.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from asyncrt.errors import BadRequest

# Docker's own registry is named by one host and answers at another.
_ANSWERS_AT = {"docker.io": "registry-1.docker.io"}


class Trust(NamedTuple):
    """How a TLS peer is believed. One pool of connections each."""

    ca_file: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True


class HostSettings(NamedTuple):
    """What the user said of one host."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False


class Settings(NamedTuple):
    """What the user said of registries. `certificates` is a directory like docker's certs.d."""

    hosts: Mapping[str, HostSettings] = {}
    certificates: str = "/etc/asyncrt/certs.d"


class Endpoint(NamedTuple):
    """One place to ask. `host` is whose credentials are used; `namespace` the registry that a mirror is asked for."""

    url: str
    host: str
    insecure: bool = False
    namespace: str = ""


def endpoints(host: str, settings: Settings, writing: bool = False) -> list[Endpoint]:
    """Where to ask for `host`, in this order. BadRequest for a mirror that is no URL."""
    found: list[Endpoint] = []
    mirrors = () if writing else settings.hosts.get(host, HostSettings()).mirrors
    for mirror in mirrors:
        scheme, mirror_host, path = _mirror(mirror)
        found += _of_host(mirror_host, path, settings, scheme == "http", host)
    return found + _of_host(host, "", settings, False, "")


def _of_host(host: str, path: str, settings: Settings, plain: bool, namespace: str) -> list[Endpoint]:
    where = _ANSWERS_AT.get(host, host) + path
    insecure = settings.hosts.get(host, HostSettings()).insecure
    if plain and not insecure:
        raise BadRequest(
            "use mirror", f"http://{where}", "it is plain http", f"allow it: ASYNCRT_INSECURE_REGISTRIES={host}"
        )
    if plain:
        return [Endpoint(f"http://{where}", host, True, namespace)]
    if insecure:
        return [Endpoint(f"{scheme}://{where}", host, True, namespace) for scheme in ("https", "http")]
    return [Endpoint(f"https://{where}", host, False, namespace)]


def _mirror(url: str) -> tuple[str, str, str]:
    """Scheme, host with port, and path of a mirror's URL."""
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        raise _no_mirror(url) from None
    if not good or parts.query or parts.fragment:
        raise _no_mirror(url)
    return parts.scheme, parts.netloc.lower(), parts.path.rstrip("/")


def _no_mirror(url: str) -> BadRequest:
    return BadRequest("use mirror", url, "it is no URL of a registry", "write https://HOST[:PORT][/PATH]")


def trust_of(netloc: str, settings: Settings) -> Trust:
    """How the TLS peer at a URL's host is believed: what the user said of that host, not of who sent us there."""
    host = next((name for name, answers in _ANSWERS_AT.items() if answers == netloc), netloc)
    place = Path(settings.certificates, host)
    ca, certificate, key = (
        str(path) if (path := place / name).is_file() else "" for name in ("ca.crt", "client.cert", "client.key")
    )
    return Trust(ca, certificate, key, not settings.hosts.get(host, HostSettings()).insecure)


def tls_context(trust: Trust) -> ssl.SSLContext:
    """The TLS settings of a pool; BadRequest names the file that cannot be read."""
    context = ssl.create_default_context()
    try:
        if trust.ca_file:
            context.load_verify_locations(trust.ca_file)
        if trust.certificate:
            context.load_cert_chain(trust.certificate, trust.key or None)
    except OSError as error:  # an SSLError is one
        names = " ".join(name for name in trust[:3] if name)
        raise BadRequest("read certificates", names, str(error).lower()) from None
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
