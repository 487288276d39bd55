"""login and logout: where credentials are kept, who uses them, and what is refused."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import asyncrt
from asyncrt.errors import RegistryFailed
from tests.asyncrt.engine.test_images import NAME, archive, layer
from tests.asyncrt.registry.peer import PROGRAM, Registry
from tests.engine import Engine

pytestmark = pytest.mark.root


@pytest.fixture
def here(engine: Engine, tmp_path: Path) -> Engine:
    """An engine with the image NAME."""
    engine.cli("load", "-i", archive(tmp_path / "hello.tar", [layer({"file": b"text"})], {}), check=True)
    return engine


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Registry]:
    """A registry for who is "user" with the password "secret:word"."""
    if PROGRAM is None or shutil.which("htpasswd") is None:
        pytest.skip("needs docker-registry and htpasswd (Debian's apache2-utils)")
    (tmp_path / "locked").mkdir()
    users = tmp_path / "locked/users"
    subprocess.run(["htpasswd", "-Bbc", users, "user", "secret:word"], check=True, capture_output=True)
    auth = {"htpasswd": {"realm": "tests", "path": str(users)}}
    one = Registry(tmp_path / "locked", {"auth": auth})
    one.start()
    yield one
    one.kill()


def test_login(here: Engine, tmp_path: Path, locked: Registry) -> None:
    home = tmp_path / "home"
    here.cli("daemon", "stop", check=True)  # the supervisor is who reads and keeps credentials
    here.env["DOCKER_CONFIG"] = str(home)
    there = f"docker://{locked.host}/app:v1"
    refused = here.cli("copy", f"asyncrt:{NAME}", there)
    assert (refused.returncode, f"asyncrt login {locked.host}" in refused.stderr) == (1, True), refused.stderr
    wrong = here.cli("login", "-u", "user", "--password-stdin", locked.host, input="wrong\n")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert not (home / "config.json").exists()
    good = here.cli("login", "-u", "user", "--password-stdin", locked.host, input="secret:word\n", check=True)
    assert good.stdout == f"Login Succeeded, kept in {home / 'config.json'}\n"
    assert (home / "config.json").stat().st_mode & 0o777 == 0o600
    here.cli("copy", f"asyncrt:{NAME}", there, check=True)
    env = {**os.environ, "DOCKER_CONFIG": str(home)}
    if shutil.which("skopeo"):
        words = ["inspect", "--authfile", home / "config.json", "--tls-verify=false", there]
        subprocess.run(["skopeo", *words], env=env, check=True, capture_output=True)
    assert here.cli("logout", locked.host, check=True).stdout == f"Removed credentials of {locked.host}\n"
    assert here.cli("logout", locked.host, check=True).stdout == f"Not logged in to {locked.host}\n"
    assert json.loads((home / "config.json").read_text())["auths"] == {}
    assert here.cli("pull", f"{locked.host}/app:v1").returncode == 1
    here.cli("copy", "--src-creds", "user:secret:word", there, f"dir:{tmp_path / 'dir'}", check=True)
    seen = here.cli("login", "-u", "user", "-p", "secret:word", locked.host, check=True)
    assert "--password-stdin is not" in seen.stderr


def test_from_a_program(here: Engine, tmp_path: Path, locked: Registry) -> None:
    home, saved = tmp_path / "home", tmp_path / "saved.tar"
    here.cli("daemon", "stop", check=True)
    here.env["DOCKER_CONFIG"] = str(home)
    here.cli("images", check=True)

    async def program() -> None:
        async with asyncrt.connect(str(here.socket), start=False) as rt:
            with pytest.raises(RegistryFailed):
                await rt.login(locked.host, "user", "wrong")
            assert await rt.login(locked.host, "user", "secret:word") == str(home / "config.json")
            await rt.copy(f"asyncrt:{NAME}", f"docker://{locked.host}/app:v1")
            assert (await rt.logout(locked.host), await rt.logout(locked.host)) == (True, False)
            with saved.open("wb") as out:
                await rt.save(NAME, fd=out.fileno())
            await rt.remove_images(NAME)
            with saved.open("rb") as archive_file:
                assert await rt.load(archive_file.fileno()) == [NAME]

    anyio.run(program)


def test_login_with_a_helper(here: Engine, tmp_path: Path, locked: Registry) -> None:
    """docker's protocol of credential helpers: the file has no password then."""
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    (home / "config.json").write_text('{"credsStore": "tests"}')
    helper = tmp_path / "bin/docker-credential-tests"
    helper.parent.mkdir()
    verbs = f"store) cat > {kept} ;; get) cat > /dev/null; cat {kept} ;; erase) cat > /dev/null; rm {kept} ;;"
    helper.write_text(f'#!/bin/sh\ncase "$1" in {verbs} esac\n')
    helper.chmod(0o755)
    here.cli("daemon", "stop", check=True)
    here.env |= {"DOCKER_CONFIG": str(home), "PATH": f"{helper.parent}:{os.environ['PATH']}"}
    words = ["login", "-u", "user", "--password-stdin", locked.host]
    assert "docker-credential-tests" in here.cli(*words, input="secret:word", check=True).stdout
    assert json.loads(kept.read_text())["Secret"] == "secret:word"
    assert "secret" not in (home / "config.json").read_text()
    here.cli("copy", f"asyncrt:{NAME}", f"docker://{locked.host}/app:v1", check=True)
    here.cli("logout", locked.host, check=True)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "input", "said"),
    [
        (["--password-stdin", "x.y"], "p", "--password-stdin needs --username"),
        (["-u", "u", "-p", "p", "--password-stdin", "x.y"], "p", "are both given"),
        (["-u", "u", "x.y"], None, "stdin is no terminal"),
        (["-u", "u", "--password-stdin", "x.y"], "", "there is no password on stdin"),
        (["-u", "a:b", "--password-stdin", "x.y"], "p", "no : in the user's name"),
        (["-u", "u", "--password-stdin", "no/host"], "p", "it is no registry"),
        (["-u", "u", "--password-stdin", "127.0.0.1:1"], "p", "no connection"),
    ],
)
def test_logins_that_cannot_be(shared: Engine, words: list[str], input: str | None, said: str) -> None:
    refused = shared.cli("login", *words, input=input)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert said in refused.stderr
    assert len([line for line in refused.stderr.splitlines() if "--password is seen" not in line]) == 1
