"""What goes wrong between us and a registry, in our words: translated here, once.

Passing    may go by itself: a cut, a busy server. `attempts` tries again; who gets it has waited long enough
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import httpcore2
import msgspec
import trio

from asyncrt.errors import AsyncrtError, NoSuchObject, RegistryFailed, shown


class Passing(RegistryFailed):
    """A failure that a later try may not meet.

    `after`: seconds that the server asks to wait, if it does. `answered`: it was the server that said so.
    """

    after: float | None = None
    answered: bool = False


class _Meaning(NamedTuple):
    kind: type[AsyncrtError]
    cause: str
    hint: str = ""


_STATUSES: dict[int, _Meaning] = {
    401: _Meaning(RegistryFailed, "access denied", "asyncrt login {host}"),
    403: _Meaning(RegistryFailed, "this account may not do that", "asyncrt login {host} with another"),
    404: _Meaning(NoSuchObject, "the registry has none", "look at its name; if it is private: asyncrt login {host}"),
    405: _Meaning(RegistryFailed, "the registry does not do that"),
    408: _Meaning(Passing, "the registry waited too long for us"),
    413: _Meaning(RegistryFailed, "it is too big for the registry", "its operator sets the limit"),
    416: _Meaning(RegistryFailed, "the registry has no such part of it"),
    429: _Meaning(Passing, "too many requests", "asyncrt login {host} mostly allows more"),
    500: _Meaning(Passing, "the registry failed"),
    502: _Meaning(Passing, "the registry's gateway failed"),
    503: _Meaning(Passing, "the registry is not available"),
    504: _Meaning(Passing, "the registry's gateway waited too long"),
}

_CONNECTING: dict[type[Exception], str] = {
    httpcore2.ConnectTimeout: "no connection in time",
    httpcore2.ReadTimeout: "it went silent",
    httpcore2.WriteTimeout: "it takes nothing any more",
    httpcore2.ReadError: "the connection broke",
    httpcore2.WriteError: "the connection broke",
    httpcore2.ConnectError: "no connection",
    trio.TooSlowError: "it is too slow",
}

# What OpenSSL says when the other side does not speak TLS at all.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: tuple[_Error, ...] = ()


def of_status(
    deed: str, subject: str, host: str, status: int, headers: Mapping[str, str], body: bytes, wait: float | None = None
) -> AsyncrtError:
    """What to raise for an answer. `body` is the beginning of what the registry said about it."""
    usual = _Meaning(Passing if status >= 500 else RegistryFailed, f"the registry answered with status {status}")
    kind, cause, hint = _STATUSES.get(status, usual)
    if status == 400 and b"HTTP request to an HTTPS server" in body:
        kind, cause, hint = RegistryFailed, "it speaks https, and was asked in plain http", "take its http:// away"
    elif said := _said(body):
        cause = f"{cause}: {said}"
    if wait is not None:
        cause = f"{cause}; it asks to wait {wait:.0f} s"
    error = kind(deed, subject, cause, hint.format(host=host))
    if isinstance(error, Passing):
        error.after, error.answered = wait, True
    return error


def of_exchange(deed: str, subject: str, host: str, certificates: str, error: Exception) -> RegistryFailed:
    """What to raise for an exchange that broke: of httpcore2, ssl, or trio's clock."""
    if isinstance(error, (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol)):
        # A cut in the middle of an answer is one of these as well: the rest may come.
        return Passing(deed, subject, f"{host} broke off, or does not speak HTTP: {shown(str(error)).lower()}")
    tls = _tls_error(error)
    if isinstance(tls, ssl.SSLCertVerificationError):
        why = shown(tls.verify_message or str(tls)).lower()
        hint = f"put the certificate of its CA into {certificates}/{host}/ca.crt"
        return RegistryFailed(deed, subject, f"the certificate of {host} is not trusted: {why}", hint)
    if tls is not None and any(word in str(tls) for word in _NOT_TLS):
        hint = f"if that is meant: ASYNCRT_INSECURE_REGISTRIES={host} in the supervisor's environment"
        return RegistryFailed(deed, subject, f"{host} answers in plain http, not https", hint)
    if tls is not None and "UNEXPECTED_EOF" in str(tls):
        hint = f"if it speaks plain http: --insecure-registry {host}"
        return Passing(deed, subject, f"{host} broke off the TLS handshake", hint)
    if tls is not None:
        return RegistryFailed(deed, subject, f"{host} and we agree on no TLS: {shown(str(tls)).lower()}")
    cause = next((words for kind, words in _CONNECTING.items() if isinstance(error, kind)), "the exchange failed")
    kernel = _os_error(error)
    return Passing(deed, subject, f"{cause}: {host}" + (f": {_words(kernel)}" if kernel else ""))


def _words(error: OSError) -> str:
    """The kernel's words for it, or (with a number below 0) the resolver's."""
    known = error.errno is not None and error.errno > 0
    return (os.strerror(error.errno or 0) if known else str(error.strerror)).lower()


def unreadable(deed: str, subject: str, what: str) -> RegistryFailed:
    """For an answer that keeps to no protocol."""
    return RegistryFailed(deed, subject, f"its answer makes no sense: {shown(what)}")


def _said(body: bytes) -> str:
    """The first error of the registry's list (distribution-spec v1.1.1, "Error Codes")."""
    try:
        errors = msgspec.json.decode(body, type=_Errors).errors
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
    if not errors:
        return ""
    return shown(" ".join(part for part in (errors[0].code.lower(), errors[0].message) if part))


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        # A group is made of one attempt for each address of a name.
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__
    return found


def _tls_error(error: Exception) -> ssl.SSLError | None:
    return next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)


def _os_error(error: Exception) -> OSError | None:
    return next((one for one in _chain(error)[::-1] if isinstance(one, OSError) and one.strerror), None)
