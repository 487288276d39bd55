"""Images between places, by the command line: what we write others read, what they write we read, tree by tree."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.asyncrt.engine.test_images import NAME, archive, blobs, layer
from tests.asyncrt.layers.trees import Seen, look, plant
from tests.asyncrt.registry.peer import PROGRAM, Registry, needs_registry
from tests.engine import Engine

pytestmark = pytest.mark.root

FILES = ["oci", "oci-archive", "dir", "docker-archive"]
HELLO = "image 12 /tmp\n"


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def run(*words: object, **options: Any) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def skopeo(*words: object) -> str:
    need("skopeo")
    return run("skopeo", "--insecure-policy", *words)


@pytest.fixture
def planted(tmp_path: Path, rootfs: Path) -> Path:
    """A tar of a tree with one of everything: GNU tar's, with every xattr."""
    plant(tmp_path / "tree", owners=True)
    os.unlink(tmp_path / "tree/socket")
    words = ["--xattrs", "--xattrs-include=*", "--format=pax", "--sort=name", "--numeric-owner", "-S"]
    run("tar", *words, "-C", tmp_path / "tree", "-cf", tmp_path / "tree.tar", ".")
    return tmp_path / "tree.tar"


@pytest.fixture
def here(engine: Engine, tmp_path: Path, rootfs: Path, planted: Path) -> Iterator[Engine]:
    """An engine with the image NAME: a root file system, the tree above on it at other names, and a whiteout."""
    config = {
        "Cmd": ["sh", "-c", 'echo "$WHO $(id -u) $(pwd)"'],
        "Env": ["WHO=image"],
        "User": "12:34",
        "WorkingDir": "/tmp",
        "Volumes": {"/data": {}},
        "Labels": {"of": "the test"},
        "StopSignal": "SIGUSR1",
    }
    whiteout = layer({"etc/mark": b"second\n", "dir/.wh.empty": b""})
    image = archive(tmp_path / "hello.tar", [layer({}, rootfs), planted.read_bytes(), whiteout], config)
    assert engine.cli("load", "-i", image, check=True).stdout == f"{NAME}\n"
    yield engine
    engine.cli("rm", "-f", "--all", check=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    if PROGRAM is None:
        pytest.skip("needs docker-registry")
    (tmp_path / "registry").mkdir()
    one = Registry(tmp_path / "registry")
    one.start()
    yield one
    one.kill()


def place(transport: str, tmp_path: Path, name: str = "x") -> str:
    """`x` of that transport, with a name of its own where it has one."""
    named = {"oci": ":v1", "oci-archive": ":v1", "docker-archive": ":example.org/copied:v1"}
    return f"{transport}:{tmp_path / f'{name}-{transport}'}{named.get(transport, '')}"


def digest(engine: Engine, name: str = NAME) -> str:
    return next(str(one["digest"]) for one in engine.json("images") if one["name"] == name)


def tree(engine: Engine, image: str, path: Path) -> dict[str, Seen]:
    engine.cli("unpack", "--rootfs-only", image, path, check=True)
    return look(path)


@pytest.mark.parametrize("transport", FILES)
def test_there_and_back(here: Engine, tmp_path: Path, transport: str) -> None:
    where = place(transport, tmp_path)
    there = here.cli("copy", f"asyncrt:{NAME}", where, check=True).stdout.strip()
    before = sorted(blobs(here))
    here.cli("copy", where, f"dir:{tmp_path / 'through'}", check=True)
    assert sorted(blobs(here)) == before, "what only passes through does not stay"
    back = here.cli("copy", "-q", where, "asyncrt:again:v2", check=True).stdout.strip()
    assert there == digest(here)
    if transport != "docker-archive":  # which has no manifest to keep
        assert back == there
    assert here.cli("run", "--rm", "again:v2", check=True).stdout == HELLO
    assert tree(here, "again:v2", tmp_path / "again") == tree(here, NAME, tmp_path / "first")
    again = here.cli("copy", f"asyncrt:{NAME}", where, check=True).stdout.strip()
    assert again == there, "to a place where it is already"


@pytest.mark.parametrize("transport", FILES)
def test_skopeo_reads_what_we_write(here: Engine, tmp_path: Path, transport: str) -> None:
    where = place(transport, tmp_path)
    here.cli("copy", f"asyncrt:{NAME}", where, check=True)
    config = json.loads(skopeo("inspect", "--config", where))
    assert config["config"]["Labels"] == {"of": "the test"}
    skopeo("copy", where, f"oci:{tmp_path / 'theirs'}:v1")  # it checks every digest and diffID
    here.cli("copy", f"oci:{tmp_path / 'theirs'}:v1", "asyncrt:theirs:v1", check=True)
    assert tree(here, "theirs:v1", tmp_path / "a") == tree(here, NAME, tmp_path / "b")


@pytest.mark.parametrize("transport", FILES)
def test_we_read_what_skopeo_writes(here: Engine, tmp_path: Path, transport: str) -> None:
    need("skopeo")
    here.cli("copy", f"asyncrt:{NAME}", f"oci:{tmp_path / 'ours'}:v1", check=True)
    where = place(transport, tmp_path)
    skopeo("copy", f"oci:{tmp_path / 'ours'}:v1", where)
    here.cli("copy", where, "asyncrt:theirs:v1", check=True)
    assert here.cli("run", "--rm", "theirs:v1", check=True).stdout == HELLO
    assert tree(here, "theirs:v1", tmp_path / "a") == tree(here, NAME, tmp_path / "b")


def test_zstd_layers_of_skopeo_s(here: Engine, tmp_path: Path) -> None:
    need("skopeo")
    here.cli("copy", f"asyncrt:{NAME}", f"oci:{tmp_path / 'ours'}:v1", check=True)
    skopeo("copy", "--dest-compress-format=zstd", f"oci:{tmp_path / 'ours'}:v1", f"oci:{tmp_path / 'zstd'}:v1")
    here.cli("copy", f"oci:{tmp_path / 'zstd'}:v1", "asyncrt:zstd:v1", check=True)
    kinds = {part["mediaType"] for part in documents(tmp_path / "zstd")["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar+zstd"}
    assert tree(here, "zstd:v1", tmp_path / "a") == tree(here, NAME, tmp_path / "b")
    refused = here.cli("copy", "--format", "v2s2", "asyncrt:zstd:v1", f"dir:{tmp_path / 'no'}")
    assert "docker's form has no such thing (copy it without --format)" in refused.stderr
    assert not (tmp_path / "no").exists()
    old = f"docker-archive:{tmp_path / 'old.tar'}:zstd:v1"
    here.cli("copy", "asyncrt:zstd:v1", old, check=True)
    assert json.loads(skopeo("inspect", old))["Architecture"]
    skopeo("copy", old, f"dir:{tmp_path / 'inflated'}")


def documents(layout: Path) -> dict[str, Any]:
    """The manifest of a layout's one image."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return dict(json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text()))


def test_umoci_and_oci_image_tool(here: Engine, tmp_path: Path) -> None:
    need("umoci")
    here.cli("save", "--format", "oci-dir", "-o", tmp_path / "layout", NAME, check=True)
    run("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:v1", tmp_path / "umoci")
    # umoci's root and ours: both made the directory, no layer's entry did.
    theirs, ours = look(tmp_path / "umoci/rootfs", root=False), tree(here, NAME, tmp_path / "ours")
    ours.pop(".")
    assert ours == theirs
    if shutil.which("oci-image-tool"):
        said = run("oci-image-tool", "validate", "--type", "image", "--ref", "name=v1", tmp_path / "layout")
        assert "error" not in said
    run("umoci", "config", "--image", f"{tmp_path / 'layout'}:v1", "--tag", "theirs", "--config.cmd", "true")
    here.cli("copy", f"oci:{tmp_path / 'layout'}:theirs", "asyncrt:umoci:v1", check=True)
    assert here.cli("run", "--rm", "umoci:v1", check=True).stdout == ""


@pytest.mark.parametrize("form", ["", "docker-archive", "oci-archive"])
def test_podman_loads_what_we_save(here: Engine, tmp_path: Path, rootfs: Path, form: str) -> None:
    """Without sparse files: podman 4.3 fails to write those that it has read ("archive/tar: write too long")."""
    need("podman")
    name = "example.org/plain:v1"
    config = {"Cmd": ["sh", "-c", "echo plain"], "Labels": {"of": "the test"}}
    image = archive(tmp_path / "plain.tar", [layer({}, rootfs), layer({"etc/mark": b"x"})], config, name)
    here.cli("load", "-i", image, check=True)
    words = ["--format", form] if form else []
    here.cli("save", *words, "-o", tmp_path / "saved.tar", name, check=True)
    # podman takes no runroot of more than 50 characters
    places = ["--root", tmp_path / "root", "--runroot", here.base / "tmp", "--storage-driver", "vfs"]
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    load = ["load", "-q", "--signature-policy", tmp_path / "policy.json", "-i", tmp_path / "saved.tar"]
    loaded = run("podman", *places, *load)
    assert name in loaded
    image = loaded.split()[-1]
    shown = json.loads(run("podman", *places, "image", "inspect", image))
    assert shown[0]["Config"]["Labels"] == {"of": "the test"}
    run("podman", *places, "save", "-q", "--format", "docker-archive", "-o", tmp_path / "theirs.tar", image)
    here.cli("copy", f"docker-archive:{tmp_path / 'theirs.tar'}", "asyncrt:podman:v1", check=True)
    assert here.cli("run", "--rm", "podman:v1", check=True).stdout == "plain\n"


def test_layouts_that_others_add_to(here: Engine, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    here.cli("copy", f"asyncrt:{NAME}", f"oci:{layout}:v1", check=True)
    here.cli("copy", f"asyncrt:{NAME}", f"oci:{layout}:v2", check=True)
    index = json.loads((layout / "index.json").read_text())
    assert [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]] == ["v1", "v2"]
    missing = here.cli("copy", f"oci:{layout}:v3", "asyncrt:x")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)
    assert "there is no 'v3' in it (there are: v1, v2)" in missing.stderr
    here.cli("load", "-i", layout, check=True)


@needs_registry
def test_registries(here: Engine, tmp_path: Path, registry: Registry) -> None:
    there = f"docker://{registry.host}/team/app:v1"
    first = here.cli("copy", f"asyncrt:{NAME}", there, check=True).stdout.strip()
    assert first == digest(here)
    beside = here.cli("copy", there, f"docker://{registry.host}/other/app:v2", check=True)
    assert beside.stdout.strip() == first
    docker = here.cli("copy", "--format", "v2s2", there, f"docker://{registry.host}/docker/app:v1", check=True)
    assert docker.stdout.strip() != first
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/docker/app:v1"))
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    back = here.cli("copy", f"docker://{registry.host}/docker/app:v1", f"oci:{tmp_path / 'back'}:v1", check=True)
    assert back.stdout.strip() != docker.stdout.strip(), "a layout holds OCI's documents"
    steps = here.cli("copy", "--format", "json", there, f"dir:{tmp_path / 'dir'}", check=True).stdout.splitlines()
    assert {json.loads(step)["state"] for step in steps} == {"there"}


@needs_registry
def test_every_platform(here: Engine, tmp_path: Path, registry: Registry) -> None:
    """An index that skopeo pushes, copied whole and by one platform; --all keeps its digest."""
    need("skopeo")
    machine = os.uname().machine
    own, other = ("amd64", "arm64") if machine == "x86_64" else ("arm64", "amd64")
    layout = tmp_path / "layout"
    here.cli("copy", f"asyncrt:{NAME}", f"oci:{layout}:v1", check=True)
    both(layout, own, other)
    theirs = f"docker://{registry.host}/multi:v1"
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:both", theirs)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", theirs)
    whole = here.cli("copy", "--all", theirs, f"oci:{tmp_path / 'all'}:v1", check=True).stdout.strip()
    assert skopeo("inspect", "--raw", f"oci:{tmp_path / 'all'}:v1") == raw
    alone = here.cli("copy", theirs, f"oci:{tmp_path / 'one'}:v1", check=True).stdout.strip()
    assert alone in {one["digest"] for one in json.loads(raw)["manifests"]}
    assert alone != whole
    foreign = ["copy", "--platform", f"linux/{other}", theirs, f"oci:{tmp_path / 'foreign'}:v1"]
    here.cli(*foreign, check=True)
    assert json.loads(skopeo("inspect", "--config", f"oci:{tmp_path / 'foreign'}:v1"))["architecture"] == other
    for transport in ("dir", "oci-archive"):
        where = place(transport, tmp_path, "all")
        assert here.cli("copy", "--all", theirs, where, check=True).stdout.strip() == whole
        skopeo("copy", "--all", where, f"dir:{tmp_path / f'judged-{transport}'}")
        back = f"docker://{registry.host}/back-{transport}:v1"
        assert here.cli("copy", "--all", where, back, check=True).stdout.strip() == whole
    here.cli("pull", "-q", f"{registry.host}/back-dir:v1", check=True)
    no = here.cli("copy", "--all", theirs, f"docker-archive:{tmp_path / 'no.tar'}")
    assert "docker's archive holds one platform (leave --all away)" in no.stderr


def both(layout: Path, own: str, other: str) -> None:
    """Add to a layout an index `both` of its image and the same for another platform."""

    def blob(document: object) -> dict[str, Any]:
        import hashlib

        data = json.dumps(document).encode()
        found = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / found).write_bytes(data)
        return {"digest": f"sha256:{found}", "size": len(data)}

    index = json.loads((layout / "index.json").read_text())
    (entry,) = index["manifests"]
    manifest = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text())
    config = json.loads((layout / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_text())
    changed = {**manifest, "config": {**manifest["config"], **blob({**config, "architecture": other})}}
    kind = "application/vnd.oci.image.manifest.v1+json"
    listed = [
        {"mediaType": kind, "digest": entry["digest"], "size": entry["size"], "platform": platform(own)},
        {"mediaType": kind, **blob(changed), "platform": platform(other)},
    ]
    kind = "application/vnd.oci.image.index.v1+json"
    added = {"mediaType": kind, **blob({"schemaVersion": 2, "mediaType": kind, "manifests": listed})}
    added["annotations"] = {"org.opencontainers.image.ref.name": "both"}
    index["manifests"].append(added)
    (layout / "index.json").write_text(json.dumps(index))


def platform(architecture: str) -> dict[str, str]:
    return {"os": "linux", "architecture": architecture}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere:x", "dir:y"], "it names no place that is known"),
        (["docker:x", "dir:y"], "// is missing behind docker:"),
        (["oci:", "dir:y"], "a path is missing"),
        (["asyncrt:not/here", "dir:y"], "it is not here"),
        (["dir:/no/such/place", "dir:y"], "no such file or directory"),
        (["--format", "v2s2", f"asyncrt:{NAME}", "oci:y"], "holds no docker manifests"),
        (["--format", "v3", f"asyncrt:{NAME}", "dir:y"], "neither oci nor v2s2"),
        ([f"asyncrt:{NAME}", "dir:/proc/1/y"], "write directory /proc/1/y"),
        ([f"asyncrt:{NAME}", f"docker://127.0.0.1:1/x@sha256:{'0' * 64}"], "what is copied has the digest"),
    ],
)
def test_copies_that_cannot_be(here: Engine, words: list[str], said: str) -> None:
    refused = here.cli("copy", *words)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not (here.base / "y").exists()


def test_a_copy_that_fails_leaves_nothing(here: Engine, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "precious").write_text("kept")
    for transport in ("oci", "dir"):
        refused = here.cli("copy", f"asyncrt:{NAME}", f"{transport}:{there}")
        assert "there is something else" in refused.stderr
        assert os.listdir(there) == ["precious"]


@pytest.mark.parametrize("runtime", ["runc", "crun", "asyncrt-oci"])
def test_bundles_run(here: Engine, tmp_path: Path, runtime: str) -> None:
    program = shutil.which(runtime) or str(Path(sys.executable).with_name(runtime))
    if not Path(program).exists():
        pytest.skip(f"needs {runtime}")
    bundle = tmp_path / "bundle"
    here.cli("unpack", NAME, bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    assert (config["process"]["cwd"], config["process"]["user"]["uid"]) == ("/tmp", 12)
    assert config["annotations"]["org.opencontainers.image.stopSignal"] == "SIGUSR1"
    assert config["annotations"]["of"] == "the test"
    assert [one["type"] for one in config["mounts"] if one["destination"] == "/data"] == ["tmpfs"]
    # crun and runc 1.1 take the cgroups of a hybrid machine as v2 without a controller.
    inside = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0" --root "$1" run -b "$2" "$3"'
    words = ["sh", "-c", inside, program, tmp_path / "state", bundle, f"moved-{os.getpid()}"]
    assert run("unshare", "-m", "--propagation", "private", *words, stdin=subprocess.DEVNULL) == HELLO
    (bundle / "config.json").unlink()
    here.cli("bundle", NAME, bundle, check=True)
    assert json.loads((bundle / "config.json").read_text()) == config


def test_a_directory_that_is_used_is_not_unpacked_into(here: Engine, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    for words in (["unpack", NAME], ["unpack", "--rootfs-only", NAME]):
        assert "it is not empty (name a new directory)" in here.cli(*words, tmp_path / "used").stderr
    assert "it has no rootfs" in here.cli("bundle", NAME, tmp_path / "used").stderr
    assert os.listdir(tmp_path / "used") == ["file"]
    assert "no connection" in here.cli("unpack", "127.0.0.1:1/x", tmp_path / "new").stderr
    assert not (tmp_path / "new").exists()


def test_from_a_program(here: Engine, tmp_path: Path, registry: Registry) -> None:
    import anyio

    import asyncrt

    async def program() -> tuple[str, str]:
        async with asyncrt.connect(str(here.socket), start=False) as rt:
            there = f"{registry.host}/sdk:v1"
            await rt.copy(f"asyncrt:{NAME}", f"asyncrt:{there}")
            pushed = await rt.push(there)
            copied = await rt.copy(f"docker://{there}", f"oci:{tmp_path / 'layout'}:v1")
            await rt.unpack(NAME, str(tmp_path / "bundle"))
            return pushed, copied

    assert anyio.run(program) == (digest(here), digest(here))
    assert sorted(os.listdir(tmp_path / "bundle")) == ["config.json", "rootfs"]
    assert documents(tmp_path / "layout")["layers"]
