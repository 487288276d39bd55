"""Malformed bundles and what goes wrong half way: an error with a place in it, never a traceback, nothing left."""

import contextlib
import copy
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimd.command.main import main
from tests.shimd.command.runtime import Runtime, cgroups_of
from tests.shimd.configs import config
from tests.shimd.spec import documents
from tests.shimd.spec.strategies import JSON

C = f"asyncrt-oci-{os.getpid()}-bad"


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, by the keys that lead there."""
    yield path
    if isinstance(document, dict | list):
        members: Any = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in members:
            yield from places(value, (*path, key))


PLACES = list(places(documents.usual()))


def changed(place: tuple[Any, ...], value: Any) -> Any:
    document: Any = copy.deepcopy(documents.usual())  # parts of it are shared
    if not place:
        return value
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return document


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=JSON)
def test_a_config_with_anything_anywhere_is_planned_or_refused(tmp_path: Path, place: Any, value: Any) -> None:
    (tmp_path / "rootfs").mkdir(exist_ok=True)
    try:
        text = json.dumps(changed(place, value))
    except TypeError:  # bytes have no JSON form
        return
    (tmp_path / "config.json").write_text(text)
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    here = os.getcwd()
    null = os.open(os.devnull, os.O_WRONLY)
    saved = os.dup(1), os.dup(2)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            code = main(["--log", str(log), "--log-format", "json", "plan", "--bundle", str(tmp_path)])
    finally:
        os.chdir(here)
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for fd in (null, *saved):
            os.close(fd)
    assert code in (0, 1)
    if code:
        last = json.loads(log.read_text().splitlines()[-1])
        assert last["level"] == "error"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a value is missing"),
        ("{", "double quotes"),
        ("[]", "$: expected an object"),
        ("[" * 100_000, "nested too deep"),
        ('{"ociVersion": "1.0.0"}', "$.root"),
        ('{"ociVersion": "3.0.0", "root": {"path": "/"}}', "$.ociVersion"),
        ('{"ociVersion": "1.0.0", "root": {"path": "/"}, "process": {"cwd": "/", "args": [1]}}', "$.process.args[0]"),
        ('{"ociVersion": "1.0.0", "root": {"path": "/no/such"}, "process": {"cwd": "/", "args": ["a"]}}', "/no/such"),
        ('{"ociVersion": "1.0.0", "root": {"path": "/"}, "process": {"cwd": "/", "args": []}}', "$.process.args"),
    ],
)
def test_the_place_of_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    log = tmp_path / "log"
    here = os.getcwd()
    try:
        assert main(["--log", str(log), "plan", "--bundle", str(tmp_path)]) == 1
    finally:
        os.chdir(here)
    assert words in log.read_text().replace('\\"', '"')


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert main(["--log", str(log), "--root", str(tmp_path), "create", "-b", str(tmp_path / "none"), "c"]) == 1
    assert "no such file or directory" in log.read_text()
    here = os.getcwd()
    try:
        assert main(["--log", str(log), "--root", str(tmp_path), "create", "-b", str(tmp_path), "c"]) == 1
    finally:
        os.chdir(here)
    assert "is this a bundle?" in log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log"]


# Each fails at another step of create; each must leave nothing, in the state directory or among the cgroups.
HALF_WAY: dict[str, dict[str, Any]] = {
    "a cgroup of systemd": {"linux": {"cgroupsPath": "system.slice:a:b"}},
    "a limit that the kernel refuses": {"linux": {"resources": {"cpu": {"cpus": "4096"}}}},
    "a namespace that is no file": {"namespaces": ("mount", {"type": "network", "path": "/no/such"})},
    "a mount whose source is missing": {
        "mounts": [{"destination": "/tmp", "type": "bind", "source": "/no/such", "options": ["bind"]}]
    },
    "a file system that is none": {"mounts": [{"destination": "/tmp", "type": "nosuchfs", "source": "a"}]},
    "a program that is missing": {"process": {"args": ["no-such-program"]}},
    "a directory that is missing": {"process": {"cwd": "/dev/null/x"}},
    "a terminal without devpts": {"process": {"terminal": True}, "mounts": []},
}


@pytest.mark.root
@pytest.mark.parametrize("what", HALF_WAY)
def test_a_create_that_fails_half_way_leaves_nothing(oci: Runtime, what: str) -> None:
    bundle = str(oci.bundle(config("sleep", "100", **HALF_WAY[what])))
    oci.fails("create", "-b", bundle, "--pid-file", str(oci.folder / "pid"), C)
    assert oci.ids() == []
    assert cgroups_of(C) == []
    assert not (oci.folder / "pid").exists()


@pytest.mark.root
def test_a_pid_file_that_cannot_be_written_undoes_the_create(oci: Runtime) -> None:
    bundle = str(oci.bundle(config("sleep", "100")))
    assert "pid file" in oci.fails("create", "-b", bundle, "--pid-file", "/no/such/pid", C)
    assert oci.ids() == []
    assert cgroups_of(C) == []


@pytest.mark.root
def test_a_console_socket_that_nobody_listens_on(oci: Runtime) -> None:
    document = config("sleep", "100", process={"terminal": True})
    bundle = str(oci.bundle(document))
    assert "console socket" in oci.fails("create", "-b", bundle, "--console-socket", "/no/such", C)
    assert "--console-socket is missing" in oci.fails("create", "-b", bundle, C)
    assert oci.ids() == []


@pytest.mark.root
def test_a_record_that_is_not_ours_is_said_and_can_be_forced_away(oci: Runtime) -> None:
    oci.must("create", "-b", str(oci.bundle(config("sleep", "100"))), C)
    pid = oci.state(C)["pid"]
    path = oci.root / C / "state.json"
    good = path.read_text()
    path.write_text(json.dumps({**json.loads(good), "version": 99}))
    assert "no record of ours" in oci.fails("state", C)
    path.write_text("{")
    assert "no record of ours" in oci.fails("delete", C)
    path.write_text(good)
    oci.must("delete", "-f", C)
    assert not Path(f"/proc/{pid}").exists() or oci.ids() == []


@pytest.mark.root
def test_a_program_that_cannot_be_executed_ends_at_start(oci: Runtime) -> None:
    """And has ended when start says so: who hears of a failure deletes (containerd)."""
    for _ in range(5):
        oci.must("create", "-b", str(oci.bundle(config("/bin/garbage"))), C)
        assert "exec format error" in oci.fails("start", C)
        oci.must("delete", C)
        assert cgroups_of(C) == []
