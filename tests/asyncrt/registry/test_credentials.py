"""docker's config.json, and programs that know passwords: also broken, slow and loud ones."""

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from asyncrt.errors import RegistryFailed
from asyncrt.registry import credentials
from asyncrt.registry.credentials import NOBODY, Credential, Credentials, default_path


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def of_file(place: Path, document: Any) -> Credentials:
    (place / "config.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return Credentials(place / "config.json", {"PATH": f"{place}:/usr/bin:/bin"})


def helper(place: Path, name: str, script: str) -> None:
    program = place / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("x.y", "x.y"),
        ("x.y:5000", "x.y:5000"),
        ("https://x.y", "x.y"),
        ("https://x.y/v1/", "x.y"),
        ("http://x.y/v2/", "x.y"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
    ],
)
async def test_hosts_are_found_as_docker_writes_them(tmp_path: Path, key: str, host: str) -> None:
    known = of_file(tmp_path, {"auths": {key: encoded("us:er", "pass:word")}, "HttpHeaders": {"X": "y"}})
    assert await known.of(host) == Credential("us", "er:pass:word")
    assert await known.of("other.example") == NOBODY


async def test_the_longest_path_goes_before(tmp_path: Path) -> None:
    known = of_file(tmp_path, {"auths": {"x.y": encoded("a", "1"), "x.y/team": encoded("b", "2")}})
    assert (await known.of("x.y", "team/app")).user == "b"
    assert (await known.of("x.y", "teams/app")).user == "a"


async def test_tokens_and_plain_fields(tmp_path: Path) -> None:
    entries = {"a.y": {"identitytoken": "i"}, "b.y": {"registrytoken": "r"}, "c.y": {"username": "u", "password": "p"}}
    known = of_file(tmp_path, {"auths": entries})
    assert await known.of("a.y") == Credential(identity_token="i")
    assert await known.of("b.y") == Credential(registry_token="r")
    assert (await known.of("c.y")).basic == "Basic dTpw"
    assert NOBODY.basic == ""


async def test_no_file_is_nobody_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert await Credentials(tmp_path / "none").of("x.y") == NOBODY
    for broken in ("", "[]", '{"auths": 5}', "{" * 9000):
        with pytest.raises(RegistryFailed, match=f"read credentials {tmp_path}/config.json"):
            await of_file(tmp_path, broken).of("x.y")
    for auth in ("!!", "YWJj", "/w=="):
        with pytest.raises(RegistryFailed, match="auth is no base64 of USER:PASSWORD"):
            await of_file(tmp_path, {"auths": {"x.y": {"auth": auth}}}).of("x.y")


def test_where_the_file_is() -> None:
    assert default_path({"DOCKER_CONFIG": "/a"}) == Path("/a/config.json")
    assert default_path({"HOME": "/home/x"}) == Path("/home/x/.docker/config.json")
    assert default_path({}) == Path("/root/.docker/config.json")


async def test_helpers_are_asked(tmp_path: Path) -> None:
    helper(tmp_path, "own", 'read -r host; echo "{\\"Username\\":\\"$1 $host\\",\\"Secret\\":\\"s\\"}"')
    helper(tmp_path, "all", 'echo \'{"ServerURL":"x","Username":"<token>","Secret":"t"}\'')
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    document = {"credsStore": "all", "credHelpers": {"x.y": "own", "n.y": "none"}, "auths": {"n.y": encoded("f", "p")}}
    known = of_file(tmp_path, document)
    assert await known.of("x.y") == Credential("get x.y", "s")
    assert await known.of("other.y") == Credential(identity_token="t")
    assert (await known.of("n.y")).user == "f"


@pytest.mark.parametrize(
    ("name", "script", "cause"),
    [
        ("missing", None, r"there is no such program \(install it"),
        ("failing", "echo secret; exit 3", "it failed with exit code 3"),
        ("loud", "exec cat /dev/zero", "it prints more than 65536 bytes"),
        ("odd", "echo hello", "its answer is no JSON of a credential"),
        ("slow", "sleep 60", "no answer in 1 s"),
        ("closed", "exec 0<&- 1>&-; sleep 60", "no answer in 1 s"),
        ("orphan", "sleep 60 & exit 0", "no answer in 1 s"),
        ("no-format", "\x7fELF", "."),
        ("../../etc/x", None, "is no name of a helper"),
    ],
)
async def test_helpers_that_fail_are_named_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str | None, cause: str
) -> None:
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 1.0)
    if script is not None:
        helper(tmp_path, name, script)
    begun = time.monotonic()
    with pytest.raises(RegistryFailed, match=cause) as caught:
        await of_file(tmp_path, {"credsStore": name}).of("x.y")
    assert time.monotonic() - begun < 15
    assert "secret" not in str(caught.value)


async def test_a_cancelled_question_leaves_no_process(tmp_path: Path) -> None:
    helper(tmp_path, "slow", f"echo $$ >{tmp_path}/pid; exec sleep 60")
    with trio.move_on_after(0.5):
        await of_file(tmp_path, {"credsStore": "slow"}).of("x.y")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_login_and_logout_change_the_file_and_nothing_else_in_it(tmp_path: Path) -> None:
    known = of_file(tmp_path, {"auths": {"https://x.y/v1/": encoded("old", "p"), "z.y": {}}, "HttpHeaders": {"X": "y"}})
    assert await known.remember("x.y", Credential("new", "q")) == str(tmp_path / "config.json")
    assert await known.of("x.y") == Credential("new", "q")
    await known.remember("docker.io", Credential("hub", "h"))
    document = json.loads((tmp_path / "config.json").read_text())
    assert set(document["auths"]) == {"x.y", "z.y", "https://index.docker.io/v1/"}
    assert document["HttpHeaders"] == {"X": "y"}
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
    assert await known.forget("x.y")
    assert not await known.forget("x.y")
    assert await known.of("x.y") == NOBODY
    fresh = Credentials(tmp_path / "new" / "config.json")
    await fresh.remember("x.y", Credential("a", "b"))
    assert (await fresh.of("x.y")).user == "a"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_login_with_a_helper_gives_it_the_secret(tmp_path: Path) -> None:
    helper(tmp_path, "own", f"cat >{tmp_path}/$1; echo credentials not found in native keychain")
    known = of_file(tmp_path, {"credsStore": "own"})
    assert await known.remember("x.y", Credential("u", "p")) == "docker-credential-own"
    assert json.loads((tmp_path / "store").read_text()) == {"ServerURL": "x.y", "Username": "u", "Secret": "p"}
    assert await known.forget("x.y")
    assert (tmp_path / "erase").read_text() == "x.y"
    assert "p" not in (tmp_path / "config.json").read_text().replace("helper", "")


def test_a_credential_does_not_show_its_secret() -> None:
    assert "hidden" not in repr(Credential("u", "hidden", "hidden", "hidden"))
