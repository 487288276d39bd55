"""A token server whose tokens docker-registry takes: JWTs signed with ES256 by openssl(1), as its specification says.

Source: distribution's "Token Authentication Implementation" (the claims, the x5c header).
"""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.asyncrt.registry.server import Call

SERVICE, ISSUER = "registry of the tests", "token server of the tests"
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _raw_signature(der: bytes) -> bytes:
    """ECDSA-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER } as the 64 bytes of ES256."""
    place, found = 2, b""
    for _ in range(2):
        length = der[place + 1]
        found += der[place + 2 : place + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        place += 2 + length
    return found


class TokenServer:
    """Answers on a `serving` server. Whoever has no password may pull what begins with "public/"."""

    def __init__(self, place: Path, certificate: Path, key: Path, seconds: int = 300) -> None:
        self._key = key
        self._scratch = place
        pem = certificate.read_text().partition("BEGIN CERTIFICATE-----")[2].partition("-----END")[0]
        self._chain = ["".join(pem.split())]
        self.seconds = seconds
        self.given: list[list[str]] = []

    async def __call__(self, call: Call) -> None:
        form = parse_qs(call.seen.body.decode() or urlsplit(call.seen.target).query)
        known = call.seen.headers.get("authorization") == BASIC or form.get("refresh_token") == ["identity"]
        if not known and "authorization" in call.seen.headers:
            return await call.answer(401, {}, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        scopes = [scope for line in form.get("scope", []) for scope in line.split(" ")]
        self.given.append(scopes)
        token = self._token([self._access(scope, known) for scope in scopes])
        name = "access_token" if call.seen.method == "POST" else "token"
        await call.answer(200, {}, json.dumps({name: token, "expires_in": self.seconds}).encode())

    def _access(self, scope: str, known: bool) -> dict[str, Any]:
        kind, name, actions = scope.split(":")
        allowed = set(actions.split(",")) & ({"pull", "push"} if known else {"pull"})
        if not known and not name.startswith("public/"):
            allowed = set()
        return {"type": kind, "name": name, "actions": sorted(allowed)}

    def _token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        claims = {"iss": ISSUER, "sub": "user", "aud": SERVICE, "access": access, "jti": str(time.time_ns())}
        claims |= {"exp": now + self.seconds, "nbf": now - 10, "iat": now}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        der = subprocess.run(command, input=signed.encode(), capture_output=True, check=True).stdout
        return f"{signed}.{_base64(_raw_signature(der))}"
