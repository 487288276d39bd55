"""What delete takes back that a record does not name."""

from pathlib import Path

import pytest

from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.removal import remove
from shimd.command.shelf import CONFIG, Shelf
from shimd.container import resctrl
from shimd.spec import text
from tests.shimd.configs import config


@pytest.mark.parametrize(("name", "left"), [("gold", ["gold", "gold/mon_groups"]), ("", [])])
def test_the_resctrl_groups_go_with_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: list[str]
) -> None:
    """On a directory that stands for a resctrl: of a shared class its monitoring group, of an own one all."""
    mount = tmp_path / "resctrl"
    monkeypatch.setattr(resctrl, "MOUNT", str(mount))
    monitored = {"closID": name, "enableMonitoring": True} if name else {}
    (mount / (f"{name}/mon_groups/c1" if name else "c1")).mkdir(parents=True)
    shelf = Shelf(str(tmp_path / "state"), "c1")
    shelf.claim()
    shelf.put(CONFIG, text.write(config("true", linux={"intelRdt": {"schemata": ["MB:0=20"], **monitored}})))
    remove(shelf, Record(id="c1", cgroup="/", hierarchies=[], shared=False, hooks={}), Journal())
    assert sorted(str(path.relative_to(mount)) for path in mount.rglob("*")) == left
    assert not Path(shelf.path).exists()
