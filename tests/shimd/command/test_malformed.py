"""Malformed config.json: an error that names the place in the document, never a traceback, nothing left behind.

The documents have the shape of the published JSON schema: those of tests/shimd/spec with a value replaced by what a
JSON parser can give, a property taken away, or any document that the types allow.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shimd.command.main import main
from shimd.spec.config import Config
from shimd.spec.decode import encode
from shimd.spec.errors import SpecError
from shimd.spec.validate import load
from tests.shimd.command.runtime import COMMAND, PROJECT, Runtime
from tests.shimd.spec.documents import full, usual
from tests.shimd.spec.strategies import values
from tests.shimd.spec.test_decode import places

MODEST = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
# What a JSON text can say; NaN and lone surrogates are what Python's own parser lets through.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PROJECT_PATH = {**os.environ, "PYTHONPATH": str(PROJECT)}
Base = Callable[[], dict[str, Any]]


@st.composite
def broken(draw: st.DrawFn, base: Base) -> dict[str, Any]:
    """The base with one or two of its values replaced, or taken away."""
    document: dict[str, Any] = json.loads(json.dumps(base()))  # so that no part is shared by two places
    for _ in range(draw(st.integers(1, 2))):
        _, parent, key = draw(st.sampled_from(list(places(document))))
        if draw(st.booleans()):
            parent[key] = draw(VALUES)
        else:
            del parent[key]
    return document


def told(bundle: Path, document: Any) -> tuple[int, list[str]]:
    """The exit status of ``plan`` for a document, and its errors."""
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
    log = bundle / "log"
    log.unlink(missing_ok=True)
    here = Path.cwd()
    try:
        words = ["--root", str(bundle / "state"), "--log", str(log), "--log-format", "json"]
        code = main([*words, "plan", "--bundle", str(bundle)])
    finally:
        os.chdir(here)
    lines = log.read_text().splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines]
    return code, [entry["msg"] for entry in entries if entry["level"] == "error"]


def judged(bundle: Path, document: Any) -> None:
    """Planned, or refused in one line; what the spec refuses is refused with the path in the document."""
    code, errors = told(bundle, document)
    assert (code, len(errors)) in ((0, 0), (1, 1))
    place = path_of_refusal((bundle / "config.json").read_text())
    assert place is None or place in errors[0]


def no_json(word: str) -> None:
    raise ValueError(word)


def path_of_refusal(text: str) -> str | None:
    """Where the spec's own rules refuse the document; None where they do not, or where it is no JSON (NaN)."""
    try:
        load(json.loads(text, parse_constant=no_json))
    except SpecError as error:
        return error.path
    except ValueError:
        return None
    return None


@settings(MODEST, max_examples=150)
@given(document=broken(full))
def test_a_malformed_config_is_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    judged(tmp_path / "bundle", document)


@settings(MODEST, max_examples=50)
@given(document=broken(usual))
def test_a_broken_everyday_config_is_refused_or_planned(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "bundle/rootfs").mkdir(parents=True, exist_ok=True)
    judged(tmp_path / "bundle", document)


@settings(MODEST, max_examples=50)
@given(config=values(Config))
def test_any_typed_config_is_refused_or_planned(tmp_path: Path, config: Config) -> None:
    judged(tmp_path / "bundle", encode(config))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"ociVersion":', '{"a" 1}', "\0", "[" * 100000])
def test_what_is_no_document(tmp_path: Path, text: str) -> None:
    """In a process of its own: what a test has imported is not what the command has."""
    (tmp_path / "config.json").write_text(text)
    words = ["--root", "state", "--log", "log", "--log-format", "json", "plan", "--bundle", str(tmp_path)]
    done = subprocess.run(
        [*COMMAND, *words], cwd=tmp_path, check=False, capture_output=True, text=True, env=PROJECT_PATH
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [entry["level"] for entry in entries] == ["error"]
    assert "config.json" in entries[0]["msg"]


def small() -> dict[str, Any]:
    """A container that ends at once, with a little of everything that create does outside of it."""
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/bin/true"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "resources": {"pids": {"limit": 32}, "devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


@pytest.mark.root
@settings(MODEST, max_examples=40)
@given(document=broken(small))
def test_create_leaves_nothing_behind(oci: Runtime, document: dict[str, Any]) -> None:
    attempted(oci, document)


def attempted(oci: Runtime, document: Any) -> str:
    """What cannot be created is one error, and the state directory is as it was; the fixtures count the rest."""
    place = oci.folder / "bundle"
    (place / "rootfs").mkdir(parents=True, exist_ok=True)  # its own: without a mount on /dev the devices are made in it
    if isinstance(document.get("root"), dict):
        document["root"]["path"] = str(place / "rootfs")
    (place / "config.json").write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
    done = oci("create", "--bundle", str(place), "c1")
    assert "Traceback" not in done.stderr
    if done.code == 0:
        oci.must("delete", "--force", "c1")
    else:
        assert done.code == 1
        assert len([entry for entry in done.log if entry["level"] == "error"]) == 1
    assert not oci.root.exists() or os.listdir(oci.root) == []
    return done.errors
