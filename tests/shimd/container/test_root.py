"""Root file systems as kernels make them that lack what this one has: layers by path, overlays by options."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimd.container import root
from shimd.container.making import Anchors, Making
from shimd.linux import mounts, processes
from shimd.wire.messages import RootMount
from tests.shimd.direct import in_a_child

pytestmark = pytest.mark.root


@pytest.fixture
def making(tmp_path: Path) -> Iterator[Making]:
    """Three layers, two of which travel as detached mounts that have no path here."""
    for name in ("anchor", "lower", "plain", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain/found-plain").touch()
    anchors = Anchors(str(tmp_path / "anchor"), str(tmp_path / "lower"), "")
    trees = {}
    for name in ("first", "second"):
        (tmp_path / "source" / name).mkdir(parents=True)
        (tmp_path / "source" / name / f"found-{name}").touch()
        (tmp_path / "source" / name / "which").write_text(name)
        trees[f"/far/{name}"] = mounts.open_tree(
            mounts.AT_FDCWD, str(tmp_path / "source" / name), mounts.OPEN_TREE_CLONE
        )
    layers = ["/far/first", str(tmp_path / "plain"), "/far/second"]
    recipe = RootMount("overlay", layers, str(tmp_path / "upper"), str(tmp_path / "work"))
    made = Making("x", anchors, [recipe], "", "", [], trees)
    yield made
    made.close()


def judge(tree: int) -> None:
    names = set(os.listdir(f"/proc/self/fd/{tree}"))
    assert {"found-first", "found-plain", "found-second"} <= names
    with open(f"/proc/self/fd/{tree}/which") as file:
        assert file.read() == "first"


@pytest.mark.parametrize("by_options", [False, True])
def test_several_layers_that_came_as_mounts(making: Making, monkeypatch: pytest.MonkeyPatch, by_options: bool) -> None:
    """Linux before 6.15 wants paths for them, before 6.7 options as well: one anchor serves them all."""
    monkeypatch.setattr(root, "fd_layers", lambda: False)
    if by_options:
        monkeypatch.setattr(mounts, "overlay_appends", lambda: False)

    def deed() -> None:
        root.MountRoot().execute(making)
        judge(making.root_fd)

    in_a_child(deed)


@pytest.mark.parametrize("by_options", [False, True])
@pytest.mark.parametrize("fd_layers", [False, True])
def test_a_detached_root_leaves_no_mount(
    making: Making, monkeypatch: pytest.MonkeyPatch, by_options: bool, fd_layers: bool
) -> None:
    """Whatever places the kernel wants meanwhile, they are a child's."""
    if not fd_layers:
        monkeypatch.setattr(root, "fd_layers", lambda: False)
    if by_options:
        monkeypatch.setattr(mounts, "overlay_appends", lambda: False)

    def deed() -> None:
        before = Path("/proc/self/mountinfo").read_text()
        judge(root.detached(making.root[0], making, mounts.MS_PRIVATE))
        assert Path("/proc/self/mountinfo").read_text() == before

    in_a_child(deed)


def test_what_the_child_met_is_told(making: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "overlay_appends", lambda: False)
    recipe = making.root[0]._replace(upper="/no/such/upper")

    def deed() -> None:
        with pytest.raises(FileNotFoundError):
            root.detached(recipe, making, mounts.MS_PRIVATE)

    in_a_child(deed)


def test_the_machines_views_of_the_kernel_go(making: Making) -> None:
    """Those of the container stay; what is locked is covered."""
    own = Path(making.anchors.root) / "proc"

    def deed() -> None:
        own.mkdir()
        mounts.mount("proc", str(own), "proc", 0)
        root.DropKernelViews().execute(making)
        assert (own / "self/mountinfo").exists()
        lines = (own / "self/mountinfo").read_text().splitlines()
        assert [line.split()[4] for line in lines if " - proc " in line or " - sysfs " in line] == [str(own)]

    in_a_child(deed)


def test_locked_views_of_the_kernel_are_covered(making: Making) -> None:
    """As a user namespace finds them that copied the mounts of another."""

    def deed() -> None:
        processes.unshare(processes.CLONE_NEWUSER | processes.CLONE_NEWNS)
        root.DropKernelViews().execute(making)
        assert os.listdir("/proc") == []
        assert os.listdir("/sys") == []

    in_a_child(deed)
