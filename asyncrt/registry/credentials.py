"""Who we are to a registry, as docker's config.json has it.

    {"auths": {"HOST": {"auth": base64 of USER:PASSWORD}}, "credsStore": "NAME", "credHelpers": {"HOST": "NAME"}}

A helper is a program docker-credential-NAME that is given a verb and, on stdin, a host; a host's helper goes before
`credsStore`, and that before `auths`. Keys of `auths` may have a path (HOST/team): the longest that fits is taken.
A helper has a time and a number of bytes; what it prints to stderr is shown to nobody, since that may be the secret.
Sources: docker's cli reference, "Credential stores" and "Credential helper protocol"; containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from asyncrt.errors import RegistryFailed

HELPER_SECONDS = 20.0
_HELPER_BYTES = 64 << 10
_FILE_BYTES = 4 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # a helper's user name for an identity token
_NONE_STORED = b"credentials not found in native keychain"  # the protocol's words for "I have none"
DOCKER_KEY = "https://index.docker.io/v1/"  # docker's key of its own registry


class Credential(NamedTuple):
    """A user's password, an identity token (given for tokens), or a registry's token as it is."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @property
    def basic(self) -> str:
        """The value of an Authorization header, "" without a user."""
        if not self.user:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credential({self.user!r}, ...)"  # in no log and no traceback


NOBODY = Credential()


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _File(msgspec.Struct, rename="camel"):
    auths: Mapping[str, _Entry] | None = None
    creds_store: str = ""
    cred_helpers: Mapping[str, str] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


class Credentials:
    """The credentials of one config file. It is read at each question: `login` may have changed it."""

    def __init__(self, path: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._path = path or default_path(self._environment)

    async def of(self, host: str, repository: str = "") -> Credential:
        """Those for a host, or for a repository below it; NOBODY if there are none. RegistryFailed otherwise."""
        file = self._read()
        helper = next((name for key, name in (file.cred_helpers or {}).items() if _bare(key) == host), file.creds_store)
        if helper:
            found = await self._ask(helper, host)
            if found != NOBODY:
                return found
        entries = {_bare(key): entry for key, entry in (file.auths or {}).items()}
        for key in _keys(host, repository):
            if entry := entries.get(key):
                return _credential(entry, self._path, key)
        return NOBODY

    async def remember(self, host: str, credential: Credential) -> str:
        """Keep it: with the helper if there is one, else in the file. The answer says where."""
        file = self._read()
        helper = (file.cred_helpers or {}).get(host, file.creds_store)
        if helper:
            secret = {"ServerURL": _helper_key(host), "Username": credential.user, "Secret": credential.password}
            await self._run(helper, "store", host, msgspec.json.encode(secret))
            return f"docker-credential-{helper}"
        self._change(host, {"auth": base64.b64encode(f"{credential.user}:{credential.password}".encode()).decode()})
        return str(self._path)

    async def forget(self, host: str) -> bool:
        """Drop it; whether there was one."""
        file = self._read()
        helper = (file.cred_helpers or {}).get(host, file.creds_store)
        if helper:
            await self._run(helper, "erase", host, _helper_key(host).encode())
        return self._change(host, None) or bool(helper)

    def _read(self) -> _File:
        try:
            return msgspec.json.decode(self._bytes(), type=_File)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise self._broken(str(error).lower()) from None

    def _bytes(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                return file.read(_FILE_BYTES)
        except FileNotFoundError:
            return b"{}"
        except OSError as error:
            raise self._broken(str(error.strerror).lower()) from None

    def _broken(self, cause: str) -> RegistryFailed:
        return RegistryFailed("read credentials", str(self._path), cause)

    def _change(self, host: str, entry: dict[str, str] | None) -> bool:
        """Write the file anew with `host`'s entry, or without; what is not ours in it is kept."""
        whole: dict[str, Any] = msgspec.json.decode(self._bytes())
        auths = whole.setdefault("auths", {})
        gone = [key for key in auths if _bare(key) == host]
        for key in gone:
            del auths[key]
        if entry is None and not gone:
            return False
        if entry is not None:
            auths[_helper_key(host)] = entry
        target = self._path.resolve()  # it may be a link into somebody's collection of dotfiles
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(whole), indent=4))
            beside.replace(target)
        except OSError as error:
            raise RegistryFailed("write credentials", str(self._path), str(error.strerror).lower()) from None
        return True

    async def _ask(self, helper: str, host: str) -> Credential:
        printed = await self._run(helper, "get", host, _helper_key(host).encode())
        if printed is None:
            return NOBODY
        try:
            answer = msgspec.json.decode(printed, type=_Answer)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            raise _helper_failed(helper, host, "its answer is no JSON of a credential") from None
        if answer.username == _TOKEN_USER:
            return Credential(identity_token=answer.secret)
        return Credential(answer.username, answer.secret)

    async def _run(self, helper: str, verb: str, host: str, given: bytes) -> bytes | None:
        """What the helper prints; None if it has no credential for `get`."""
        if not _HELPER_NAME.fullmatch(helper):
            raise self._broken(f"{helper[:80]!r} is no name of a helper")
        process: trio.Process | None = None
        well = False
        try:
            with trio.fail_after(HELPER_SECONDS):
                process = await trio.lowlevel.open_process(
                    [f"docker-credential-{helper}", verb],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=dict(self._environment),
                    start_new_session=True,
                )
                printed = await _converse(process, given)
                await process.wait()
                well = True
        except FileNotFoundError:
            raise _helper_failed(helper, host, "there is no such program", "install it, or mend config.json") from None
        except OSError as error:
            raise _helper_failed(helper, host, str(error.strerror).lower()) from None
        except trio.TooSlowError:
            raise _helper_failed(helper, host, f"no answer in {HELPER_SECONDS:.0f} s") from None
        finally:
            if process is not None:
                await _end(process, well)
        if len(printed) > _HELPER_BYTES:
            raise _helper_failed(helper, host, f"it prints more than {_HELPER_BYTES} bytes")
        if process.returncode == 0:
            return printed
        if verb != "store" and _NONE_STORED in printed.lower():
            return None
        raise _helper_failed(helper, host, f"it failed with exit code {process.returncode}")


class Given(Credentials):
    """The ones that somebody just said, of one host: tried before they are kept."""

    def __init__(self, host: str, login: str) -> None:
        """`login` is USER:PASSWORD."""
        super().__init__()
        self._host = host
        user, _, password = login.partition(":")
        self._credential = Credential(user, password)

    async def of(self, host: str, repository: str = "") -> Credential:
        """As Credentials.of(); nothing is asked for the one host."""
        return self._credential if host == self._host else await super().of(host, repository)


async def _converse(process: trio.Process, given: bytes) -> bytes:
    """What the program prints for `given`, up to one chunk more than is allowed."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdin.send_all(given)
    except trio.BrokenResourceError:
        await trio.lowlevel.checkpoint()  # it did not want to hear: what it prints and its exit code tell
    await process.stdin.aclose()
    printed = bytearray()
    async for chunk in process.stdout:
        printed += chunk
        if len(printed) > _HELPER_BYTES:
            process.kill()
            break
    return bytes(printed)


async def _end(process: trio.Process, well: bool) -> None:
    """No pipe stays behind; of a helper that did not end as it should, no process of its session either.

    One that ended well may have started an agent for the next time.
    """
    with trio.CancelScope(shield=True):
        if not well:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                await pipe.aclose()


def default_path(environment: Mapping[str, str]) -> Path:
    """docker's: $DOCKER_CONFIG/config.json, or ~/.docker/config.json."""
    place = environment.get("DOCKER_CONFIG")
    return Path(place, "config.json") if place else Path(environment.get("HOME") or "/root", ".docker", "config.json")


def _keys(host: str, repository: str) -> Iterator[str]:
    """host/a/b, host/a, host: the most particular first."""
    path = repository
    while path:
        yield f"{host}/{path}"
        path = path.rpartition("/")[0]
    yield host


def _bare(key: str) -> str:
    """A key of `auths` without scheme and docker's old version of the API."""
    if key == DOCKER_KEY:
        return "docker.io"
    bare = key.partition("://")[2] or key
    for end in ("/", "/v1", "/v2"):
        bare = bare.removesuffix(end)
    return "docker.io" if bare == "index.docker.io" else bare


def _helper_key(host: str) -> str:
    return DOCKER_KEY if host == "docker.io" else host


def _credential(entry: _Entry, path: Path, key: str) -> Credential:
    user, password = entry.username, entry.password
    if entry.auth:
        try:
            user, colon, password = base64.b64decode(entry.auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            colon = ""
        if not colon:
            raise RegistryFailed("read credentials", f"{path} of {key}", "auth is no base64 of USER:PASSWORD")
    return Credential(user, password.rstrip("\0"), entry.identitytoken, entry.registrytoken)


def _helper_failed(helper: str, host: str, cause: str, hint: str = "") -> RegistryFailed:
    return RegistryFailed("ask", f"docker-credential-{helper} for {host}", cause, hint)
