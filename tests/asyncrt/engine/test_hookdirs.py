"""Hooks from directories: which apply, in which order, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from asyncrt.engine.hookdirs import Occasion, injected
from asyncrt.errors import BadRequest
from shimd.spec.config import Hook

USUAL = Occasion({"org.example.note": "yes"}, "/sbin/init", False)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of others than root are refused")


def put(directory: Path, name: str, when: Any = None, stages: Any = ("poststart",), **hook: Any) -> None:
    directory.mkdir(exist_ok=True)
    document = {
        "version": "1.0.0",
        "hook": {"path": f"/bin/{name}", **hook},
        "when": {"always": True} if when is None else when,
        "stages": list(stages),
    }
    (directory / f"{name}.json").write_text(json.dumps(document))


def names(*directories: Path, occasion: Occasion = USUAL) -> list[str]:
    found = injected([str(directory) for directory in directories], occasion)
    return [hook.path.rpartition("/")[2] for hook in found.poststart]


def test_in_the_order_of_lower_case_names(tmp_path: Path) -> None:
    for name in ("02-b", "01-C", "01-a"):
        put(tmp_path, name)
    (tmp_path / "README").write_text("no hook")
    assert names(tmp_path) == ["01-a", "01-C", "02-b"]


def test_a_later_directory_masks_a_name(tmp_path: Path) -> None:
    put(tmp_path / "usr", "one")
    put(tmp_path / "usr", "two")
    put(tmp_path / "etc", "one", when={"always": False})
    assert names(tmp_path / "usr", tmp_path / "etc") == ["two"]


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        ({"always": True}, True),
        ({"always": False}, False),
        ({"commands": [".*/init$", "^/bin/sh$"]}, True),
        ({"commands": ["^init$"]}, False),
        ({"commands": []}, False),
        ({"annotations": {"^org\\.example\\.": "^yes$"}}, True),
        ({"annotations": {"^org\\.example\\.": "^no$"}}, False),
        ({"annotations": {"^org\\.example\\.": "yes", "other": ".*"}}, False),
        ({"hasBindMounts": True}, False),
        ({"always": True, "commands": ["nothing"]}, False),
        ({"always": True, "commands": ["init"], "annotations": {"note": "y"}}, True),
    ],
)
def test_all_conditions_have_to_hold(tmp_path: Path, when: dict[str, Any], applies: bool) -> None:
    put(tmp_path, "one", when)
    assert names(tmp_path) == (["one"] if applies else [])


def test_bind_mounts(tmp_path: Path) -> None:
    put(tmp_path, "one", {"hasBindMounts": True})
    assert names(tmp_path, occasion=USUAL._replace(has_bind_mounts=True)) == ["one"]


def test_all_of_a_hook(tmp_path: Path) -> None:
    put(tmp_path, "one", stages=("prestart", "poststop"), args=["note", "up"], env=["A=1"], timeout=5)
    found = injected([str(tmp_path)], USUAL)
    assert found.prestart == found.poststop == (Hook("/bin/one", ("note", "up"), ("A=1",), 5),)
    assert not any((found.create_runtime, found.create_container, found.start_container, found.poststart))


@pytest.mark.parametrize(
    ("document", "applies"),
    [
        ({"cmds": ["init$"]}, True),
        ({"cmd": ["nothing"], "annotation": ["^yes$"]}, True),
        ({"annotations": ["^no$"]}, False),
        ({"hasbindmounts": True}, False),
        ({}, False),
    ],
)
def test_the_older_version_takes_one_condition_that_holds(
    tmp_path: Path, document: dict[str, Any], applies: bool
) -> None:
    whole = {"hook": "/bin/one", "arguments": ["-x"], "stage": ["poststart"], **document}
    (tmp_path / "one.json").write_text(json.dumps(whole))
    found = injected([str(tmp_path)], USUAL).poststart
    assert found == ((Hook("/bin/one", ("/bin/one", "-x")),) if applies else ())


def whole(**other: Any) -> str:
    """A file as it should be, but for what is other."""
    usual = {"version": "1.0.0", "hook": {"path": "/x"}, "when": {"always": True}, "stages": ["prestart"]}
    return json.dumps({**usual, **other})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting"),
        ("[]", "it is no object"),
        (whole(version="2"), 'version "2" is not known'),
        (whole(when={}), "no condition is given"),
        (whole(hook={}), "path: it is missing"),
        (whole(hook={"path": "x"}), "not absolute"),
        (whole(stages=[]), "none is given"),
        (whole(stages=["poststrat"]), 'there is no "poststrat"'),
        (whole(hook={"path": "/x", "timeout": 0}), "timeout"),
        (whole(hook={"path": "/x", "args": "no list"}), "args"),
        (whole(when={"commands": ["("]}), "unterminated"),
        (whole(when={"sometimes": 1}), "sometimes"),
        ('{"hook": "/x", "cmd": [], "cmds": [], "stages": ["prestart"]}', "they are one"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(BadRequest, match=r"read hook .*one\.json: ") as caught:
        injected([str(tmp_path)], USUAL)
    assert said in str(caught.value)


def test_what_others_may_write_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "open", "one")
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BadRequest, match="others than root may write to it"):
        names(tmp_path / "open")
    (tmp_path / "open").chmod(0o755)
    os.chown(tmp_path / "open/one.json", 1000, 1000)
    with pytest.raises(BadRequest, match=r"one.json: others than root may write to it \(chown root"):
        names(tmp_path / "open")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"hooks directory .*: no such file or directory"):
        names(tmp_path / "nothing")
