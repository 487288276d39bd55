"""Images that want something of the machine, through a whole engine: refused in one line, nothing outside touched.

Each rule has its own tests below (tests/asyncrt/layers, images, registry); here is what a user sees of them together.
"""

import gzip
import os
import stat
from pathlib import Path

import pytest

from tests.asyncrt.engine.test_images import archive, layer
from tests.asyncrt.layers.tars import END, directory, file, hardlink, header, pax, symlink
from tests.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.slow]


def ring(depth: int) -> bytes:
    return pax((b"path", b"d/" * depth + b"f")) + file(b"f")


# The list by name: (layers above a root file system, what is said). %OUT% is a directory of the machine.
REFUSED: dict[str, tuple[list[bytes], str]] = {
    "traversal by name": ([file(b"../../precious", b"lost")], "is no name inside the layer"),
    "traversal by an absolute name": ([file(b"/a/../../precious", b"lost")], "is no name inside the layer"),
    "traversal by a symlink": ([symlink(b"out", b"%OUT%") + file(b"out/precious", b"lost")], "is to lie in it"),
    "traversal by a symlink that goes up": ([symlink(b"out", b"../" * 20 + b"tmp") + file(b"out/x/y")], ""),
    "traversal by a hardlink": ([hardlink(b"h", b"../../precious") + file(b"h", b"lost")], "is no name inside"),
    "traversal by a hardlink through a symlink": (
        [symlink(b"out", b"%OUT%"), hardlink(b"h", b"out/precious")],
        "is in no layer below",
    ),
    "traversal by a whiteout": ([file(b"a/.wh...")], "is a whiteout of nothing, or of what lies above it"),
    "a device that is overlayfs's whiteout": ([header(b"bin/sh", b"3")], "overlayfs's own whiteout"),
    "depth": ([ring(300)], "too long or too deep"),
    "a path that is too long": ([pax((b"path", b"a" * 200 + b"/" * 4000)) + file(b"f")], ""),
    "a file of sixteen exabytes": ([header(b"a", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7)], "a file of"),
    "a tar that ends in a file": ([file(b"a", b"x" * 5000)[:2000]], "ends in the middle of an entry"),
    "a compressed form that is damaged": ([gzip.compress(file(b"a", os.urandom(9000)) + END)[:-20]], "cut short"),
}
# Those are no fault: they end inside the tree.
FINE = {"traversal by a symlink that goes up", "a path that is too long"}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir()
    (place / "precious").write_text("kept")
    return place


def hostile(data: bytes, outside: Path) -> bytes:
    if b"%OUT%" not in data:
        return data if data.startswith(b"\x1f\x8b") or data.endswith(END) else data + END
    return symlink(b"out", os.fsencode(outside)) + data[512:] + END


def leftovers(engine: Engine) -> list[str]:
    place = engine.root / "layers/overlay"
    return [name for name in (os.listdir(place) if place.exists() else []) if not name.startswith("sha256-")]


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_layers(engine: Engine, tmp_path: Path, rootfs: Path, outside: Path, case: str) -> None:
    above, said = REFUSED[case]
    layers = [layer({}, rootfs), *(hostile(data, outside) for data in above)]
    image = archive(tmp_path / "hostile.tar", layers, {"Cmd": ["true"]}, "hostile:1")
    loaded = engine.cli("load", "-i", image)
    done = engine.cli("run", "--rm", "hostile:1") if not loaded.returncode else loaded
    if case not in FINE:
        assert done.returncode in (1, 125)
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert os.listdir(outside) == ["precious"]
    assert ((outside / "precious").read_text(), (outside / "precious").stat().st_nlink) == ("kept", 1)
    assert leftovers(engine) == []
    place = tmp_path / "unpacked"
    unpacked = engine.cli("unpack", "hostile:1", place) if not loaded.returncode else loaded
    if case not in FINE:
        assert (unpacked.returncode, len(unpacked.stderr.splitlines()), place.exists()) == (1, 1, False)
    assert os.listdir(outside) == ["precious"]


def test_device_nodes_of_an_image_open_nothing(engine: Engine, tmp_path: Path, rootfs: Path) -> None:
    """They are made, as docker makes them, where no user of the machine gets to, and a container may not open them."""
    found = os.stat(tmp_path).st_dev
    node = header(b"disk", b"4", mode=0o666, major=os.major(found), minor=os.minor(found)) + END
    image = archive(tmp_path / "device.tar", [layer({}, rootfs), node], {"Cmd": ["sh", "-c", "cat /disk"]}, "device:1")
    engine.cli("load", "-i", image, check=True)
    refused = engine.cli("run", "--rm", "device:1")
    assert refused.returncode == 1
    assert "Operation not permitted" in refused.stderr
    for name in (engine.root / "layers/overlay", *(engine.root / "layers/overlay").iterdir()):
        assert stat.S_IMODE(name.stat().st_mode) == 0o700


def test_a_bomb_by_ratio(engine: Engine, tmp_path: Path, rootfs: Path) -> None:
    """A mebibyte that is a gibibyte: ended when the ratio is seen, nothing of it stays on the disk."""
    bomb = gzip.compress(header(b"zeros", size=(1 << 33) - 1), 9) + gzip.compress(bytes(64 << 20), 9) * 17
    assert len(bomb) < 2 << 20
    image = archive(tmp_path / "bomb.tar", [layer({}, rootfs), bomb], {"Cmd": ["true"]}, "bomb:1")
    engine.cli("load", "-i", image, check=True)
    refused = engine.cli("run", "--rm", "bomb:1")
    assert refused.returncode == 125
    assert "it has grown 200 times in unpacking (a bomb?)" in refused.stderr
    assert leftovers(engine) == []


def test_a_hundred_and_twenty_seven_layers_run(engine: Engine, tmp_path: Path, rootfs: Path) -> None:
    """As deep as docker goes. Each layer links to a file of the one below, and the last says how many there were."""
    layers = [layer({}, rootfs), directory(b"n/") + file(b"n/0", b"deep\n") + END]
    layers += [hardlink(b"n/%d" % (number + 1), b"n/%d" % number) + END for number in range(125)]
    command = ["sh", "-c", "ls /n | wc -l; cat /n/125"]
    image = archive(tmp_path / "deep.tar", layers, {"Cmd": command}, "deep:1")
    engine.cli("load", "-i", image, check=True)
    assert engine.cli("run", "--rm", "deep:1", check=True).stdout.split() == ["126", "deep"]


def test_a_config_of_other_layers(engine: Engine, tmp_path: Path, rootfs: Path) -> None:
    """A wrong diffID: compressed layers are found out when they are inflated, plain ones when they are loaded."""
    good = layer({}, rootfs)
    image = archive(tmp_path / "a.tar", [good, gzip.compress(file(b"a") + END)], {"Cmd": ["true"]}, "wrong:1")
    loaded = engine.cli("load", "-i", image, check=True)
    assert loaded.stdout == "docker.io/library/wrong:1\n" or loaded.stdout == "wrong:1\n"
    refused = engine.cli("run", "--rm", "wrong:1")
    assert refused.returncode == 125
    assert "its tar has the diffID sha256:" in refused.stderr
    assert leftovers(engine) == []
