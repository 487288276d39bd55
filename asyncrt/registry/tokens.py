"""Who we are to one endpoint: the Authorization header that its 401 asked for.

    us -> endpoint      GET /v2/...                      401, Bearer realm, service, scope
    us -> token server  GET realm?service&scope          with the user's password as Basic, or as nobody
                        POST realm, refresh_token        with an identity token (OAuth2)
    us -> endpoint      GET /v2/... Authorization: Bearer TOKEN

Tokens are kept by endpoint and scopes until shortly before they end, and one job at a time asks for each. The
realm is a URL of the registry's choosing: it gets the password of the host that the user named, so it must be
https (unless the host is insecure by the user's word), and an address that a redirect may lead to. Sources:
distribution's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import msgspec
import trio

from asyncrt.errors import RegistryFailed
from asyncrt.registry import failures
from asyncrt.registry.challenges import Challenge, challenges
from asyncrt.registry.credentials import NOBODY, Credential, Credentials
from asyncrt.registry.endpoints import Endpoint
from asyncrt.registry.exchange import Answer, Exchanges, Request

_TOKEN_BYTES = 1 << 20
_USUAL_SECONDS = 60.0  # what a token lasts that does not say (the specification's default)
_LONGEST_SECONDS = 3600.0
_MARGIN = 0.8  # of its life a token is used: clocks differ, requests take time
_MOST_KEPT = 4096

Scopes = frozenset[str]


def scope(path: str, *actions: str) -> str:
    """ "repository:PATH:pull,push"."""
    return f"repository:{path}:{','.join(actions)}"


def merged(scopes: Iterable[str]) -> list[str]:
    """The same scopes, each resource named once with all its actions."""
    found: dict[str, set[str]] = {}
    for one in scopes:
        resource, _, actions = one.rpartition(":")
        found.setdefault(resource, set()).update(actions.split(","))
    return [f"{resource}:{','.join(sorted(actions))}" for resource, actions in sorted(found.items())]


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


class _Kept(NamedTuple):
    header: str
    until: float


class Tokens:
    """The headers of all endpoints."""

    def __init__(self, exchanges: Exchanges, credentials: Credentials) -> None:
        self._exchanges = exchanges
        self._credentials = credentials
        self._kept: dict[tuple[str, Scopes], _Kept] = {}
        self._basic: dict[str, str] = {}
        self._locks: dict[tuple[str, Scopes], trio.Lock] = {}

    def known(self, endpoint: Endpoint, scopes: Scopes) -> str:
        """The header that did last time, "" if there is none that still holds."""
        kept = self._kept.get((endpoint.url, scopes))
        if kept and kept.until > trio.current_time():
            return kept.header
        return self._basic.get(endpoint.url, "")

    def forget(self) -> None:
        """Somebody has logged in or out: what did last time may not be who we are now."""
        self._kept.clear()
        self._basic.clear()

    async def obtain(self, endpoint: Endpoint, answer: Answer, path: str, scopes: Scopes, refused: str) -> str:
        """A header for an endpoint that answered 401 to `refused`; "" if it asks for nothing that we can give."""
        asked = {challenge.scheme: challenge for challenge in reversed(challenges(answer.challenges))}
        key = (endpoint.url, scopes)
        async with self._locks.setdefault(key, trio.Lock()):
            if (known := self.known(endpoint, scopes)) and known != refused:
                return known  # another job has just got it
            if "bearer" in asked:
                return await self._bearer(endpoint, answer, asked["bearer"], path, scopes)
            if "basic" in asked:
                header = (await self._credentials.of(endpoint.host, path)).basic
                if header != refused:
                    self._basic[endpoint.url] = header
                    return header
        self._basic.pop(endpoint.url, None)
        return ""

    async def _bearer(self, endpoint: Endpoint, answer: Answer, challenge: Challenge, path: str, scopes: Scopes) -> str:
        credential = await self._credentials.of(endpoint.host, path)
        if credential.registry_token:
            return f"Bearer {credential.registry_token}"
        # The registry knows best which scopes the request needs; ours may cover more (a mount's source).
        wanted = merged([*scopes, *challenge.parameters.get("scope", "").split()])
        service = challenge.parameters.get("service", "")
        realm = challenge.parameters.get("realm", "")
        if not realm:
            raise failures.unreadable("authenticate at", endpoint.host, "a Bearer challenge without a realm")
        token = await self._fetch(endpoint, answer, realm, service, wanted, credential)
        header = f"Bearer {token.token or token.access_token}"
        seconds = _USUAL_SECONDS if token.expires_in is None else token.expires_in
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
            self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
        until = trio.current_time() + _MARGIN * min(max(seconds, 0.0), _LONGEST_SECONDS)
        self._kept[endpoint.url, scopes] = _Kept(header, until)
        return header

    async def _fetch(
        self, endpoint: Endpoint, answer: Answer, realm: str, service: str, wanted: list[str], credential: Credential
    ) -> _Token:
        request = Request("GET", realm, "authenticate at", endpoint.host, endpoint.host, endpoint.insecure)
        if credential.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": "asyncrt",
                "refresh_token": credential.identity_token,
                "scope": " ".join(wanted),
            }
            body = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = request._replace(method="POST", body=body, headers=headers)
        else:
            query = [("service", service)] * bool(service) + [("scope", one) for one in wanted]
            headers = {"Authorization": credential.basic} if credential != NOBODY and credential.basic else {}
            request = request._replace(url=_with_query(realm, query), headers=headers)
        async with self._exchanges.send(request._replace(source=answer.reach)) as given:
            if given.status != 200:
                raise await given.error()
            data = await given.read(_TOKEN_BYTES)
        try:
            token = msgspec.json.decode(data, type=_Token)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise failures.unreadable("authenticate at", endpoint.host, str(error)) from None
        text = token.token or token.access_token
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise failures.unreadable("authenticate at", endpoint.host, "no token in it")
        return token


def _with_query(url: str, query: Iterable[tuple[str, str]]) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise RegistryFailed("authenticate at", url[:100], "its realm is no URL") from None
    added = urlencode(list(query), quote_via=quote, safe=":,/")
    return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, added) if part), fragment=""))
