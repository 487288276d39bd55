"""diff, export, commit, import and volumes of images under a whole engine, run as a user would."""

import io
import json
import os
import subprocess
import tarfile  # noqa: TID251 - to read one
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.asyncrt.engine.test_images import archive, layer
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

BASE = "base:1"
CONFIG = {
    "Cmd": ["sh", "-c", "echo image"],
    "Env": ["PATH=/bin", "WHO=image"],
    "Labels": {"of": "base"},
    "Healthcheck": {"Test": ["NONE"]},
    "Volumes": {"/data": {}},
}


@pytest.fixture(scope="module")
def based(house: Engine, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    filled = {"data/seed": b"from the image\n", "etc/hosts": b"the image's\n"}
    made = archive(tmp_path_factory.mktemp("base") / "base.tar", [layer({}, rootfs), layer(filled)], CONFIG, BASE)
    house.cli("load", "-i", made, check=True)
    # Its layers are unpacked for the first container, and ROOT/volumes is made: no test is to be blamed for them.
    house.cli("run", "--rm", BASE, "true", check=True)
    until(lambda: not house.ids(), "the first container is removed")
    return house


@pytest.fixture
def base(based: Engine) -> Iterator[Engine]:
    yield based
    based.cli("rm", "-f", "-v", "--all", check=True)
    names = {one["name"] for one in based.json("images")} - {BASE, "<none>"}
    if names:
        based.cli("rmi", "-f", *names, check=True)
    based.cli("image", "prune", "-f", check=True)


def run(engine: Engine, script: str, *flags: str, image: str = BASE) -> str:
    """The id of a container that did this."""
    id = engine.cli("create", *flags, image, "sh", "-c", script, check=True).stdout.strip()
    engine.cli("start", id, check=True)
    assert engine.cli("wait", id, check=True).stdout == "0\n", engine.cli("logs", id).stdout
    return id


def says(engine: Engine, image: str, *command: str) -> str:
    return engine.cli("run", "--rm", image, *command, check=True).stdout


def document(engine: Engine, image: str) -> dict[str, Any]:
    (found,) = json.loads(engine.cli("image", "inspect", image, check=True).stdout)
    return dict(found)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_init_layer(base: Engine) -> None:
    own = says(base, BASE, "sh", "-c", "cat /etc/hosts; cat /etc/hostname; hostname; ls /etc/resolv.conf")
    lines = own.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-3] == lines[-2]
    assert lines[-1] == "/etc/resolv.conf"
    named = base.cli("run", "--rm", "-h", "guest", BASE, "cat", "/etc/hostname", check=True)
    assert named.stdout == "guest\n"
    id = run(
        base, "echo 192.0.2.1 other >> /etc/hosts; rm /etc/hostname; echo mine > /etc/hostname; grep other /etc/hosts"
    )
    assert base.cli("diff", id, check=True).stdout == "C /etc\n", "something was made in it"
    base.cli("commit", id, "new:1", check=True)
    assert "other" not in says(base, "new:1", "cat", "/etc/hosts")


def test_by_the_reference_it_is_the_same(base: Engine, tmp_path: Path) -> None:
    """A terminal has no script: the Python executor starts it."""
    name = base.cli("run", "-d", "-t", BASE, "sh", "-c", "cat /etc/hostname; sleep 60", check=True).stdout.strip()
    until(lambda: name[:12] in base.cli("logs", name).stdout, "it says its name")


def test_diff(base: Engine) -> None:
    id = run(base, "rm /etc/group; echo x > /root/new; echo x >> /etc/passwd; mkdir -p /srv/deep; echo v > /data/v")
    expected = "C /etc\nD /etc/group\nC /etc/passwd\nC /root\nA /root/new\nA /srv\nA /srv/deep\n"
    assert base.cli("diff", id, check=True).stdout == expected
    assert base.json("diff", id)[0] == {"kind": "C", "path": "/etc"}
    strange = run(base, "touch \"$(printf '/\\377x')\"")
    assert base.cli("diff", strange, check=True).stdout == "A /\\xffx\n"
    quiet = run(base, "true")
    assert base.cli("diff", quiet, check=True).stdout == "", "mount points and own files are no change"


def test_commit_takes_the_config_on(base: Engine) -> None:
    id = run(base, "echo hi > /tmp/said", "-e", "MORE=1", "-w", "/tmp", "-u", "12:34")
    words = [
        "-a",
        "A. Name",
        "-m",
        "a message",
        "-c",
        'CMD ["cat", "/tmp/said"]',
        "-c",
        "ENV WHO=me",
        "-c",
        "LABEL my=own",
    ]
    told = base.cli("commit", *words, id, "new:1", check=True).stdout.strip()
    found = document(base, "new:1")
    config = found["Config"]
    assert found["Id"] == told
    assert config["Cmd"] == ["cat", "/tmp/said"]
    assert {"WHO=me", "MORE=1", "PATH=/bin"} <= set(config["Env"])
    assert (config["User"], config["WorkingDir"]) == ("12:34", "/tmp")
    assert config["Labels"] == {"of": "base", "my": "own"}
    assert config["Healthcheck"] == {"Test": ["NONE"]}, "what we do not know is taken on"
    assert found["Author"] == "A. Name"
    assert found["RootFS"]["Layers"][:2] == document(base, BASE)["RootFS"]["Layers"]
    assert len(found["RootFS"]["Layers"]) == 3
    steps = base.json("history", "new:1")
    assert steps[0]["Comment"] == "a message"
    assert len(steps) == 3, "a step for each layer, also for those that the image's history said nothing of"
    assert says(base, "new:1") == "hi\n"


def test_commit_of_what_runs_stands_still_and_goes_on(base: Engine) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > /a; echo $i > /b; done"
    id = base.cli("run", "-d", BASE, "sh", "-c", script, check=True).stdout.strip()
    until(lambda: base.cli("exec", id, "cat", "/b").stdout, "it writes")
    base.cli("commit", id, "new:1", check=True)
    assert base.inspect(id)["state"] == "running"
    before = base.cli("exec", id, "cat", "/a", check=True).stdout
    until(lambda: base.cli("exec", id, "cat", "/a").stdout not in ("", before), "it goes on")
    numbers = [int(line) for line in says(base, "new:1", "cat", "/a", "/b").splitlines()]
    assert max(numbers) - min(numbers) <= 1, "of one moment"
    base.cli("pause", id, check=True)
    base.cli("commit", "--pause=false", id, check=True)
    assert base.inspect(id)["state"] == "paused"
    base.cli("unpause", id, check=True)


def test_commit_of_nothing_is_no_layer(base: Engine) -> None:
    id = run(base, "true")
    base.cli("commit", id, "new:1", check=True)
    assert document(base, "new:1")["RootFS"] == document(base, BASE)["RootFS"]
    assert base.json("history", "new:1")[0]["Size"] == 0


def test_commit_after_the_name_moved_on(base: Engine, tmp_path: Path, rootfs: Path) -> None:
    first = archive(tmp_path / "first.tar", [layer({"data/seed": b"first\n"}, rootfs)], {"Cmd": ["true"]}, "moving")
    base.cli("load", "-i", first, check=True)
    id = run(base, "echo x > /x", image="moving")
    other = archive(tmp_path / "other.tar", [layer({"o": b"o"}, rootfs)], {"Cmd": ["true"]}, "moving")
    base.cli("load", "-i", other, check=True)
    base.cli("image", "prune", "-f", check=True)
    base.cli("commit", id, "new:1", check=True)
    assert says(base, "new:1", "cat", "/x", "/data/seed") == "x\nfirst\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], "no such container"),
        (["C", "UPPER"], "lower case"),
        (["C", "a@sha256:" + "0" * 64], "not for its maker to choose"),
        (["-c", "RUN true", "C"], "none that changes a config"),
        (["C", "a", "b"], "one word too many"),
        (["--pauze", "C"], "unknown flag"),
    ],
)
def test_commits_that_cannot_be(base: Engine, words: list[str], said: str) -> None:
    base.cli("create", "--name", "C2", BASE, check=True)
    before = base.json("images")
    refused = base.cli("commit", *("C2" if word == "C" else word for word in words))
    assert refused.returncode in (1, 125)
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert base.json("images") == before


def test_a_root_that_is_no_image_is_exported_instead(base: Engine, image: str) -> None:
    id = run(base, "echo x > /x", image=image)
    refused = base.cli("commit", id)
    assert refused.returncode == 1
    assert "which is no image (asyncrt export" in refused.stderr
    tar = base.raw("export", id).stdout
    done = base.raw("import", "-", "new:1", input=tar)
    assert done.returncode == 0, done.stderr
    assert says(base, "new:1", "cat", "/x") == "x\n"


def test_export_is_what_commit_makes_as_one_layer(base: Engine) -> None:
    script = (
        "rm -r /home; ln /etc/passwd /twin; mkfifo /fifo; chmod 4755 /bin; echo x > /data/x; touch -d @1000000000 /old"
    )
    id = run(base, script)
    found = members(base.raw("export", id).stdout)
    assert found["old"].mtime == 1_000_000_000
    assert found["bin"].mode == 0o4755
    assert found["fifo"].isfifo()
    assert {found["twin"].type, found["etc/passwd"].type} == {tarfile.LNKTYPE, tarfile.REGTYPE}
    assert found["data/seed"].isreg(), "the image's, not the volume's"
    assert "data/x" not in found
    assert "home" not in found
    assert "proc/version" not in found
    base.cli("commit", id, "new:1", check=True)
    again = base.cli("create", "new:1", check=True).stdout.strip()
    committed = members(base.raw("export", again).stdout)
    assert set(committed) == set(found)
    for name, member in committed.items():
        other = found[name]
        if name == ".":
            member.mtime = other.mtime  # a container's root is as old as the container
        owned = (member.mode, member.uid, member.gid, member.mtime)
        assert owned == (other.mode, other.uid, other.gid, other.mtime), name
        if name not in ("twin", "etc/passwd"):  # either may be the file, the other is its link
            assert (member.size, member.linkname) == (other.size, other.linkname), name
    assert {committed["twin"].type, committed["etc/passwd"].type} == {tarfile.LNKTYPE, tarfile.REGTYPE}


def test_export_to_a_file_is_whole_or_not_there(base: Engine, tmp_path: Path) -> None:
    id = run(base, "true")
    base.cli("export", "-o", tmp_path / "x.tar", id, check=True)
    assert "bin" in members((tmp_path / "x.tar").read_bytes())
    refused = base.cli("export", "-o", tmp_path / "y.tar", "nobody")
    assert refused.returncode == 1
    assert sorted(os.listdir(tmp_path)) == ["x.tar"]
    full = base.cli("export", "-o", "/dev/full", id)
    assert full.returncode == 1
    assert "no space left" in full.stderr


def test_import(base: Engine, rootfs: Path, tmp_path: Path) -> None:
    plain = tmp_path / "root.tar"
    plain.write_bytes(layer({"x": b"imported\n"}, rootfs))
    for command in (["xz", "-0"], ["bzip2", "-1"], ["gzip", "-1"]):
        pressed = subprocess.run(command, input=plain.read_bytes(), capture_output=True, check=True).stdout
        done = base.raw("import", "-c", 'CMD ["cat", "/x"]', "-m", "brought", "-", "new:1", input=pressed)
        assert done.returncode == 0, done.stderr
    assert document(base, "new:1")["Comment"] == "brought"
    assert says(base, "new:1") == "imported\n"
    nameless = base.cli("import", plain, check=True).stdout.strip()
    assert [one["name"] for one in base.json("images") if one["id"] == nameless] == ["<none>"]
    assert says(base, nameless.removeprefix("sha256:")[:12], "cat", "/x") == "imported\n", "found by its id"


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "empty"), (b"no tar" * 300, "no tar"), (b"\x1f\x8b\x08\0rest", "gzip")]
)
def test_imports_that_cannot_be(base: Engine, data: bytes, said: str) -> None:
    before = blobs(base)
    refused = base.raw("import", "-", "new:1", input=data)
    assert refused.returncode == 1
    assert said in refused.stderr.decode()
    assert len(refused.stderr.splitlines()) == 1
    assert blobs(base) == before
    assert [one["name"] for one in base.json("images")] == [BASE]


def blobs(engine: Engine) -> set[str]:
    content = engine.root / "content"
    return {*os.listdir(content / "blobs/sha256"), *os.listdir(content / "ingests")}


# volumes that an image asks for


def test_volumes_are_filled_kept_apart_and_removed(base: Engine) -> None:
    done = base.cli(
        "run", "--rm", "--count", "3", BASE, "sh", "-c", "echo $ASYNCRT_INDEX >> /data/seed; cat /data/seed", check=True
    )
    assert sorted(line.rpartition("| ")[2] for line in done.stdout.splitlines()) == [
        "0",
        "1",
        "2",
        *["from the image"] * 3,
    ]
    until(lambda: not base.ids(), "they are removed")
    assert os.listdir(base.root / "volumes") == []
    id = run(base, "echo kept >> /data/seed")
    base.cli("start", id, check=True)
    base.cli("wait", id, check=True)
    kept = base.root / "volumes" / id / "0" / "seed"
    assert kept.read_text() == "from the image\nkept\nkept\n"
    base.cli("rm", id, check=True)
    assert os.listdir(base.root / "volumes") == [], "docker keeps it without -v, and has a verb to find it"


def test_a_volume_of_the_user_goes_before(base: Engine, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    assert base.cli("run", "--rm", "-v", f"{tmp_path}:/data", BASE, "ls", "/data", check=True).stdout == "mine\n"


def test_volumes_of_hostile_images(base: Engine, tmp_path: Path, rootfs: Path) -> None:
    """CVE-2022-23648: what a path means is looked up in the image, and nothing of the machine is copied."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(rootfs, ".")
        for name, target in (("up", "../../../../../../etc"), ("abs", "/proc/1/root/etc"), ("ring", "ring")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    places = {"/up": {}, "/abs": {}}
    made = archive(tmp_path / "h.tar", [data.getvalue()], {"Volumes": places, "Cmd": ["true"]}, "hostile:1")
    base.cli("load", "-i", made, check=True)
    id = base.cli("create", "hostile:1", check=True).stdout.strip()
    found = {path.name for path in (base.root / "volumes" / id).rglob("*")}
    assert "passwd" in found, "/up is the image's own /etc"
    assert "shadow" not in found
    ring = archive(tmp_path / "r.tar", [data.getvalue()], {"Volumes": {"/ring": {}}, "Cmd": ["true"]}, "ring:1")
    base.cli("load", "-i", ring, check=True)
    refused = base.cli("create", "ring:1")
    assert refused.returncode == 125
    assert "symbolic links" in refused.stderr
    assert id in os.listdir(base.root / "volumes")
    assert len(os.listdir(base.root / "volumes")) == len(base.ids()), "a create that failed leaves nothing"


# images by their other names


def test_ids_names_and_prune(base: Engine) -> None:
    id = document(base, BASE)["Id"]
    short = id.removeprefix("sha256:")[:12]
    base.cli("tag", short, "second", check=True)
    refused = base.cli("rmi", short)
    assert "several names: base:1, second:latest" in refused.stderr
    assert base.cli("images", "-q", check=True).stdout == f"{short}\n"
    assert base.cli("image", "ls", "-q", "--no-trunc", check=True).stdout == f"{id}\n"
    assert [one["name"] for one in base.json("images", "--filter", "reference=sec*")] == ["second:latest"]
    assert base.json("images", "--filter", "dangling=true") == []
    assert len(base.json("images", "--filter", "label=of=base")) == 2
    assert base.cli("images", "--filter", "color=red").returncode == 1
    made = run(base, "echo x > /x")
    base.cli("commit", made, check=True)
    assert "<none>" in base.cli("images", "--digests", check=True).stdout
    refused = base.cli("image", "prune")
    assert "nobody is there to be asked" in refused.stderr
    assert "deleted: sha256:" in base.cli("image", "prune", "-f", check=True).stdout
    base.cli("rm", "-v", made, check=True)
    base.cli("create", "--name", "keeps", "second", check=True)
    assert base.cli("image", "prune", "-a", "-f", check=True).stdout == "", "a container stands on it"


def test_words_of_image(base: Engine) -> None:
    assert "image inspect" in base.cli("image", check=True).stdout
    assert base.cli("image", "nope").returncode == 125
    assert "usage: asyncrt image inspect" in base.cli("image", "inspect", "--help", check=True).stdout
    refused = base.cli("image", "inspect", "nope")
    assert refused.returncode == 1
    assert "it is not here" in refused.stderr
