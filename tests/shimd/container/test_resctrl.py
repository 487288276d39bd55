"""linux.intelRdt on a directory that stands for a resctrl, since few machines have one."""

import os
from pathlib import Path
from typing import Any

import pytest

from shimd.container import resctrl
from shimd.container.making import Anchors, Making
from shimd.container.plan import compile_plan
from shimd.spec.validate import load
from tests.shimd.configs import config
from tests.shimd.stage import Stage, StartFailed

ID = "c0ffee"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not a resctrl: mkdir makes no files in it, so the groups that a test wants are laid out here."""
    monkeypatch.setattr(resctrl, "MOUNT", str(tmp_path))
    monkeypatch.setattr(resctrl, "check_mounted", lambda: None)
    made = os.mkdir

    def mkdir(path: str, mode: int = 0o777) -> None:
        made(path, mode)
        for name in ("tasks", "schemata"):
            (Path(path) / name).touch()
        if "mon_groups" not in path:
            made(f"{path}/mon_groups")

    monkeypatch.setattr(resctrl.os, "mkdir", mkdir)
    return tmp_path


def making() -> Making:
    return Making(ID, Anchors("", "", ""), [], "", "", [], {})


def groups(wish: dict[str, Any]) -> resctrl.Groups:
    wanted = load(config("sh", linux={"intelRdt": wish})).linux.intel_rdt
    return resctrl.compile_groups(wanted)


@pytest.mark.parametrize("monitoring", ["enableMonitoring", "enableCMT", "enableMBM"])
def test_a_group_of_its_own(mounted: Path, monitoring: str) -> None:
    wish = {"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=3"]}
    found = groups({**wish, monitoring: True})
    for step in (*found.outside, *found.enter):
        step.execute(making())
    assert (mounted / ID / "schemata").read_text() == "L3:0=f\nMB:0=20\nL2:0=3\n"
    assert (mounted / ID / "tasks").read_text() == "0"
    assert (mounted / ID / "mon_groups" / ID / "tasks").read_text() == "0"


def test_a_named_group_that_exists_is_compared(mounted: Path) -> None:
    os.mkdir(f"{mounted}/gold")
    (mounted / "gold/schemata").write_text("    L3:0=f;1=f\n    MB:0=20\n")
    [step] = groups({"closID": "gold", "schemata": ["l3:0=F;1=f"]}).outside
    step.execute(making())
    [step] = groups({"closID": "gold", "l3CacheSchema": "L3:0=1"}).outside
    with pytest.raises(OSError, match="the group exists and has no L3:0=1"):
        step.execute(making())
    assert (mounted / "gold/schemata").read_text().count("\n") == 2


def test_a_named_group_without_schemata_has_to_exist(mounted: Path) -> None:
    [step] = groups({"closID": "gold"}).outside
    with pytest.raises(FileNotFoundError):
        step.execute(making())


def test_the_default_class(mounted: Path) -> None:
    (mounted / "tasks").touch()
    found = groups({"closID": "/"})
    for step in (*found.outside, *found.enter):
        step.execute(making())
    assert (mounted / "tasks").read_text() == "0"


def test_undo_takes_what_is_the_containers(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    monkeypatch.setattr(resctrl.os, "rmdir", lambda path: removed.append(str(path).replace(str(mounted), "")))
    for wish in ({}, {"closID": "gold", "enableMonitoring": True}):
        [step] = groups(wish).outside
        step.undo(making())
    assert removed == [f"/{ID}", f"/gold/mon_groups/{ID}"]


def test_the_steps_and_their_places() -> None:
    lines = compile_plan(load(config("sh", linux={"intelRdt": {"closID": "gold"}})), [], stdin=False).describe()
    assert "outside: make resctrl group gold" in lines
    assert "birth: enter resctrl group gold" in lines


@pytest.mark.root
def test_a_machine_without_resctrl_says_so(stage: Stage) -> None:
    if Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("this machine has one")
    with pytest.raises(StartFailed) as caught:
        stage.start(config("true", linux={"intelRdt": {"closID": "gold"}}))
    assert str(caught.value).startswith("make resctrl group gold: ")
    assert "resctrl" in str(caught.value).partition(": ")[2]
