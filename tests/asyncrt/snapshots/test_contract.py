"""What every snapshotter promises: one suite, run for the stacking and for the copying one."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncrt.errors import BadImage, BadRequest, Conflict, NoSuchObject
from asyncrt.model.digest import Digest
from asyncrt.snapshots.native import Native
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.shelf import Shelf
from asyncrt.snapshots.sources import Source
from tests.asyncrt.layers.tars import directory, file, hardlink, pax, symlink, unpack

Snapshots = Overlay | Native
CHAINS = [Digest.of(b"chain %d" % n) for n in range(130)]


@pytest.fixture(params=[Overlay, Native])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Snapshots]:
    """The engine's snapshotter, as after each of its starts."""
    return lambda: request.param(tmp_path / "root")  # type: ignore[no-any-return]


@pytest.fixture
def snapshots(make: Callable[[], Snapshots]) -> Snapshots:
    return make()


def add(snapshots: Snapshots, number: int, data: bytes, parent: int | None = None) -> None:
    begun = snapshots.begin(CHAINS[number], None if parent is None else CHAINS[parent])
    applied = unpack(data, Path(begun.tree), snapshots.style)
    snapshots.commit(begun, applied.implicit, applied.borrowed)


def boots(snapshots: Snapshots) -> Shelf:
    """The same layers, in another boot of the machine."""
    return Shelf(snapshots.layers.directory, boot="another")


def entries(place: Path) -> list[str]:
    return sorted(os.listdir(place)) if place.exists() else []


def test_a_layer_is_seen_once_it_is_committed(snapshots: Snapshots, make: Callable[[], Snapshots]) -> None:
    begun = snapshots.begin(CHAINS[0], None)
    unpack(directory(b"./") + file(b"a", b"hello"), Path(begun.tree), snapshots.style)
    assert (snapshots.layers.chains(), snapshots.layers.has(CHAINS[0])) == ([], False)
    with pytest.raises(NoSuchObject, match="it is not unpacked"):
        snapshots.source(CHAINS[0])
    snapshots.commit(begun)
    for one in (snapshots, make()):
        assert (one.layers.chains(), one.layers.has(CHAINS[0])) == ([CHAINS[0]], True)
        assert Path(one.source(CHAINS[0]).path, "a").read_text() == "hello"
    assert stat.S_IMODE(snapshots.layers.directory.stat().st_mode) == 0o700
    used = snapshots.layers.usage(CHAINS[0])
    assert used[0] >= 4096
    assert used[1:] == (2, True)


def test_a_layer_that_is_dropped_was_never_there(snapshots: Snapshots) -> None:
    begun = snapshots.begin(CHAINS[0], None)
    unpack(file(b"a"), Path(begun.tree), snapshots.style)
    snapshots.layers.drop(begun)
    snapshots.layers.drop(begun)
    assert entries(snapshots.layers.directory) == []


def test_who_commits_second_succeeds_and_leaves_nothing(snapshots: Snapshots) -> None:
    first, second = snapshots.begin(CHAINS[0], None), snapshots.begin(CHAINS[0], None)
    unpack(file(b"a", b"first"), Path(first.tree), snapshots.style)
    unpack(file(b"a", b"second"), Path(second.tree), snapshots.style)
    snapshots.commit(first)
    snapshots.commit(second)
    assert Path(snapshots.source(CHAINS[0]).path, "a").read_text() == "first"
    assert len(entries(snapshots.layers.directory)) == 1


def test_a_layer_stands_on_another(snapshots: Snapshots) -> None:
    add(snapshots, 0, file(b"a"))
    add(snapshots, 1, file(b"b"), parent=0)
    with pytest.raises(Conflict, match=r"stands on it \(remove that one first\)"):
        snapshots.layers.remove(CHAINS[0])
    snapshots.layers.remove(CHAINS[1])
    snapshots.layers.remove(CHAINS[1])
    snapshots.layers.remove(CHAINS[0])
    assert (snapshots.layers.chains(), entries(snapshots.layers.directory)) == ([], [])


def test_a_parent_must_be_there(snapshots: Snapshots) -> None:
    with pytest.raises((Conflict, NoSuchObject)):
        add(snapshots, 1, file(b"b"), parent=0)
    snapshots.layers.sweep()
    assert entries(snapshots.layers.directory) == []


def test_what_a_crash_left_is_swept(snapshots: Snapshots, make: Callable[[], Snapshots]) -> None:
    add(snapshots, 0, file(b"a"))
    half = snapshots.begin(CHAINS[1], CHAINS[0])
    unpack(file(b"b/c/d"), Path(half.tree), snapshots.style)
    (snapshots.layers.directory / "gone.1.1/fs").mkdir(parents=True)
    (snapshots.layers.directory / "a-file").write_text("somebody's")
    after = make()
    assert len(after.layers.sweep()) == 3
    assert after.layers.chains() == [CHAINS[0]]
    assert Path(after.source(CHAINS[0]).path, "a").exists()


def test_a_power_cut_takes_what_the_disk_did_not_have_and_all_upon_it(snapshots: Snapshots) -> None:
    add(snapshots, 0, file(b"a"))
    add(snapshots, 1, file(b"b"), parent=0)
    assert (snapshots.layers.settle(), snapshots.layers.settle()) == (2, 0)
    add(snapshots, 2, file(b"c"), parent=1)
    assert {*boots(snapshots).chains()} == {*CHAINS[:3]}  # before the sweep
    after = boots(snapshots)
    assert len(after.sweep()) == 1
    assert {*after.chains()} == {*CHAINS[:2]}
    os.unlink(f"{after._place(CHAINS[0])}/settled")
    assert len(boots(snapshots).sweep()) == 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 90, b"{}", b'{"chain":"sha256:00","parent":"","boot":""}'])
def test_a_layer_whose_word_was_lost_is_swept(snapshots: Snapshots, damage: bytes) -> None:
    add(snapshots, 0, file(b"a"))
    snapshots.layers.settle()
    Path(snapshots.layers._place(CHAINS[0]), "layer").write_bytes(damage)
    assert len(boots(snapshots).sweep()) == 1


def test_containers_on_a_chain(snapshots: Snapshots) -> None:
    add(snapshots, 0, directory(b"./", mode=0o751) + file(b"a", b"1") + file(b"b", b"1"))
    add(snapshots, 1, file(b"b", b"2"), parent=0)
    mounts = snapshots.prepare(["x", "y"], snapshots.source(CHAINS[1]), read_only=False)
    assert sorted(snapshots.keys()) == ["x", "y"]
    for mount in mounts:
        assert stat.S_IMODE(os.stat(mount.upper or mount.lower[0]).st_mode) == 0o751
    assert snapshots.usage("x").complete
    assert mounts[0].upper + mounts[0].lower[0] != mounts[1].upper + mounts[1].lower[0]
    snapshots.remove(["x", "y"])
    assert snapshots.keys() == []
    assert Path(snapshots.source(CHAINS[0]).path, "b").read_text() == "1"


@pytest.mark.parametrize("bad", ["..", "a/b"])
def test_keys_that_lead_away(snapshots: Snapshots, tmp_path: Path, bad: str) -> None:
    (tmp_path / "lower").mkdir()
    with pytest.raises(BadRequest):
        snapshots.prepare([bad], Source("rootfs", str(tmp_path / "lower")), read_only=False)


# What a container sees: the same with every snapshotter

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
STACK = [
    directory(b"./", mode=0o751, mtime=1)
    + directory(b"etc/", mode=0o750, mtime=2)
    + file(b"etc/passwd", b"root", mtime=3)
    + directory(b"usr/", mtime=4)
    + directory(b"usr/lib/", mode=0o711, mtime=5)
    + file(b"usr/lib/a", b"a", mtime=6, mode=0o4755)
    + hardlink(b"usr/lib/b", b"usr/lib/a")
    + symlink(b"link", b"usr/lib")
    + directory(b"var/", mtime=7)
    + file(b"var/old", b"old", mtime=8)
    + directory(b"var/deep/", mtime=9)
    + file(b"var/deep/er", b"er", mtime=9),
    pax((b"SCHILY.xattr.security.capability", CAPABILITY))
    + file(b"usr/lib/ping", b"ping", mtime=10, mode=0o755)
    + file(b"etc/.wh.passwd")
    + directory(b"var/", mode=0o700, mtime=11)
    + file(b"var/.wh..wh..opq")
    + file(b"var/new", b"new", mtime=12),
    file(b"usr/lib/a", b"changed", mtime=13)
    + file(b"etc/passwd", b"again", mtime=14)
    + file(b".wh.link")
    + directory(b"link/", mtime=15)
    + file(b"link/x", b"x", mtime=16)
    + file(b"brand/new/dir", b"", mtime=17),
]


@pytest.fixture
def rooted(snapshots: Snapshots, tmp_path: Path) -> Iterator[Callable[[Source], Path]]:
    """A container's root, mounted as its init would."""
    mounted: list[Path] = []

    def root(source: Source) -> Path:
        key = f"k{len(mounted)}"
        (mount,) = snapshots.prepare([key], source, read_only=False)
        if mount.kind == "bind":
            return Path(mount.lower[0])
        place = tmp_path / key
        place.mkdir()
        options = f"lowerdir={':'.join(mount.lower)},upperdir={mount.upper},workdir={mount.work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", place], check=True)
        mounted.append(place)
        return place

    yield root
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_the_stack_is_what_the_layers_say(snapshots: Snapshots, rooted: Callable[[Source], Path]) -> None:
    for number, data in enumerate(STACK):
        add(snapshots, number, data, None if number == 0 else number - 1)
    root = rooted(snapshots.source(CHAINS[2]))
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        # The root's own time is the container's: its mount points are made there.
        found[str(path.relative_to(root))] = (oct(status.st_mode), int(status.st_mtime) if path != root else 0)
    assert found == {
        ".": ("0o40751", 0),
        "etc": ("0o40750", 2),
        "etc/passwd": ("0o100644", 14),
        "usr": ("0o40755", 4),
        "usr/lib": ("0o40711", 5),
        "usr/lib/a": ("0o100644", 13),
        "usr/lib/b": ("0o104755", 6),
        "usr/lib/ping": ("0o100755", 10),
        "var": ("0o40700", 11),
        "var/new": ("0o100644", 12),
        "link": ("0o40755", 15),
        "link/x": ("0o100644", 16),
        "brand": ("0o40755", 0),
        "brand/new": ("0o40755", 0),
        "brand/new/dir": ("0o100644", 17),
    }
    assert (root / "usr/lib/a").read_text() == "changed"
    assert (root / "usr/lib/b").read_text() == "a"
    assert os.getxattr(root / "usr/lib/ping", "security.capability") == CAPABILITY
    assert snapshots.source(CHAINS[0]).path != snapshots.source(CHAINS[2]).path


@pytest.mark.root
@pytest.mark.parametrize("link", [b"usr/lib", b"/usr/lib", b"../../usr/./lib", b"usr/alias"])
def test_a_layer_that_comes_through_a_symlink_of_those_below(
    snapshots: Snapshots, rooted: Callable[[Source], Path], link: bytes
) -> None:
    """A layer that was made without its base (`lib/x` on a root where lib is usr/lib) goes where the symlink leads."""
    below = directory(b"./") + directory(b"usr/", mtime=3) + directory(b"usr/lib/", mode=0o711, mtime=4)
    below += file(b"usr/lib/old") + symlink(b"lib", link) + symlink(b"usr/alias", b"lib")
    add(snapshots, 0, below)
    above = (
        file(b"lib/new", b"new")
        + file(b"lib/deep/er", b"er")
        + directory(b"lib/said/", mode=0o700)
        + file(b"usr/lib/too")
    )
    add(snapshots, 1, above + file(b"usr/lib/deep/too"), parent=0)
    root = rooted(snapshots.source(CHAINS[1]))
    assert (root / "lib").is_symlink()
    found = sorted(str(path.relative_to(root)) for path in (root / "usr/lib").rglob("*"))
    assert found == [f"usr/lib/{name}" for name in ("deep", "deep/er", "deep/too", "new", "old", "said", "too")]
    assert (root / "usr/lib/new").read_text() == "new"
    assert stat.S_IMODE((root / "usr/lib").stat().st_mode) == 0o711
    assert stat.S_IMODE((root / "usr/lib/said").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "below", [symlink(b"a", b"b") + symlink(b"b", b"a"), symlink(b"a", b"a"), symlink(b"a", b"a/b")]
)
def test_a_layer_that_comes_through_a_ring_of_symlinks(tmp_path: Path, below: bytes) -> None:
    snapshots = Overlay(tmp_path / "root")
    begun = snapshots.begin(CHAINS[0], None)
    unpack(below, Path(begun.tree), "overlay-user")
    snapshots.commit(begun)
    begun = snapshots.begin(CHAINS[1], CHAINS[0])
    applied = unpack(file(b"a/x"), Path(begun.tree), "overlay-user")
    with pytest.raises(BadImage, match="too many levels of symbolic links, in the layers below it"):
        snapshots.commit(begun, applied.implicit)
    snapshots.layers.drop(begun)


@pytest.mark.root
def test_a_hundred_and_twenty_seven_layers(tmp_path: Path) -> None:
    """As deep as docker goes: every layer's file is seen by a container's mount, made as its init makes it."""
    from shimd.linux import mounts as kernel

    snapshots = Overlay(tmp_path / "root")
    for number in range(127):
        add(snapshots, number, file(b"%d" % number) + file(b"same", b"%d" % number), number - 1 if number else None)
    (mount,) = snapshots.prepare(["k"], snapshots.source(CHAINS[126]), read_only=False)
    assert len(mount.lower) == 127
    configuration = kernel.fsopen("overlay")
    for layer in mount.lower:
        kernel.fsconfig_string(configuration, "lowerdir+", layer)
    kernel.fsconfig_string(configuration, "upperdir", mount.upper)
    kernel.fsconfig_string(configuration, "workdir", mount.work)
    kernel.fsconfig_create(configuration)
    tree = kernel.fsmount(configuration, 0)
    os.close(configuration)
    top = os.open(".", os.O_RDONLY, dir_fd=tree)  # the mount's own fd is O_PATH
    assert len(os.listdir(top)) == 128
    os.close(top)
    file_ = os.open("same", os.O_RDONLY, dir_fd=tree)
    assert os.read(file_, 10) == b"126"
    os.close(file_)
    os.close(tree)
