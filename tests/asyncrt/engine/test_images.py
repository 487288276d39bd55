"""Images by name under a whole engine: loaded, pulled, run, forgotten; and what containers keep of them."""

import hashlib
import io
import json
import os
import signal
import tarfile  # noqa: TID251 - to write one
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.asyncrt.registry.peer import Registry, needs_registry
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

NAME = "example.org/team/hello:v1"
SAYS = 'echo "$WHO $(id -u) $(pwd)"'


def layer(change: dict[str, bytes], rootfs: Path | None = None) -> bytes:
    """A tar: the root file system of the tests, and files on it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if rootfs is not None:
            tar.add(rootfs, ".")
        for name, data in change.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def archive(path: Path, layers: list[bytes], config: dict[str, Any], name: str = NAME) -> Path:
    """As `docker save` writes it."""
    digests = [hashlib.sha256(data).hexdigest() for data in layers]
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [],
    }
    files = {"config.json": json.dumps(document).encode()}
    files |= {f"{digest}.tar": data for digest, data in zip(digests, layers, strict=True)}
    entry = {"Config": "config.json", "RepoTags": [name], "Layers": [f"{digest}.tar" for digest in digests]}
    files["manifest.json"] = json.dumps([entry]).encode()
    path.write_bytes(layer(files))
    return path


@pytest.fixture
def hello(tmp_path: Path, rootfs: Path) -> Path:
    config = {"Cmd": ["sh", "-c", SAYS], "Env": ["WHO=image"], "User": "12:34", "WorkingDir": "/tmp"}
    return archive(tmp_path / "hello.tar", [layer({}, rootfs), layer({"etc/mark": b"second\n"})], config)


@pytest.fixture
def here(engine: Engine, hello: Path) -> Iterator[Engine]:
    assert engine.cli("load", "-i", hello, check=True).stdout == f"{NAME}\n"
    yield engine
    engine.cli("rm", "-f", "--all", check=True)


def blobs(engine: Engine) -> list[str]:
    return os.listdir(engine.root / "content" / "blobs" / "sha256")


def test_what_the_image_says_and_what_the_user_says(here: Engine) -> None:
    def says(*words: str) -> str:
        return here.cli("run", "--rm", *words, check=True).stdout

    assert says(NAME) == "image 12 /tmp\n"
    assert says("-e", "WHO=me", "-u", "0", "-w", "/", NAME) == "me 0 /\n"
    assert says(NAME, "cat", "/etc/mark") == "second\n"
    assert says("--entrypoint", "/bin/echo", NAME) == "\n", "another entrypoint has no use for the image's command"
    assert says("--entrypoint", "/bin/echo", NAME, "hi") == "hi\n"


def test_many_at_once_of_one_that_is_not_unpacked_yet(here: Engine) -> None:
    done = here.cli("run", "--rm", "--count", "20", NAME, "sh", "-c", "echo $ASYNCRT_INDEX", check=True, timeout=60)
    assert sorted(int(line.rpartition("|")[2]) for line in done.stdout.splitlines()) == list(range(20))
    assert len(os.listdir(here.root / "layers" / "overlay")) == 2


def test_what_is_listed(here: Engine) -> None:
    (told,) = here.json("images")
    assert (told["name"], told["platform"].partition("/")[0]) == (NAME, "linux")
    assert told["size"] > 0
    here.cli("tag", NAME, "busy", check=True)
    assert [one["name"] for one in here.json("images")] == ["busy:latest", NAME]
    id = here.cli("create", "busy", check=True).stdout.strip()
    assert here.inspect(id)["image"] == "busy:latest"


def test_it_survives_the_supervisor(here: Engine) -> None:
    id = here.cli("run", "-d", NAME, check=True).stdout.strip()
    here.cli("wait", id, check=True)
    os.kill(here.supervisor_pid(), signal.SIGKILL)
    assert [one["name"] for one in here.json("images")] == [NAME]
    here.cli("start", id, check=True)
    assert here.cli("wait", id, check=True).stdout == "0\n"
    assert here.cli("logs", id, check=True).stdout == "image 12 /tmp\n" * 2


def test_a_container_keeps_what_it_was_made_of(here: Engine, rootfs: Path, tmp_path: Path) -> None:
    """A name with another meaning is for those to come."""
    id = here.cli("create", NAME, check=True).stdout.strip()
    other = archive(tmp_path / "other.tar", [layer({"etc/mark": b"other\n"}, rootfs)], {"Cmd": ["cat", "/etc/mark"]})
    here.cli("load", "-i", other, check=True)
    assert here.cli("run", "--rm", NAME, check=True).stdout == "other\n"
    here.cli("start", id, check=True)
    here.cli("wait", id, check=True)
    assert here.cli("logs", id, check=True).stdout == "image 12 /tmp\n"


def test_forget(here: Engine) -> None:
    id = here.cli("create", NAME, check=True).stdout.strip()
    refused = here.cli("rmi", NAME)
    assert refused.returncode == 1
    assert "containers stand on it (remove them first" in refused.stderr
    here.cli("tag", NAME, "busy", check=True)
    here.cli("rmi", NAME, check=True)
    assert len(blobs(here)) == 4, "config, manifest and two layers are the other name's"
    here.cli("rm", id, check=True)
    here.cli("rmi", "busy", check=True)
    assert blobs(here) == []
    assert os.listdir(here.root / "layers" / "overlay") == []
    refused = here.cli("rmi", "busy")
    assert "find image busy:latest: it is not here" in refused.stderr


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("UPPER", "in lower case it would be one"),
        ("oci:/x", "'oci:' is no host"),
        ("layers:sha256:00", "'sha256:00' is no tag"),
        ("127.0.0.1:1/x", "no connection"),
    ],
)
def test_images_that_cannot_be(shared: Engine, image: str, said: str) -> None:
    refused = shared.cli("run", "--rm", image, "true")
    assert refused.returncode == 125
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert shared.ids() == []


def test_an_archive_that_is_none(shared: Engine, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no tar" * 200)
    refused = shared.cli("load", "-i", tmp_path / "x")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    assert "no such file" in shared.cli("load", "-i", tmp_path / "y").stderr


def test_save_and_load(here: Engine, tmp_path: Path) -> None:
    saved = tmp_path / "saved.tar"
    here.cli("save", "-o", saved, NAME, check=True)
    before = here.json("images")[0]["digest"]
    here.cli("rmi", NAME, check=True)
    here.cli("load", "-i", saved, check=True)
    assert here.json("images")[0]["digest"] == before
    assert here.cli("run", "--rm", NAME, check=True).stdout == "image 12 /tmp\n"


@needs_registry
def test_to_a_registry_and_back(here: Engine, tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.start()
    try:
        name = f"{registry.host}/hello:v2"
        here.cli("tag", NAME, name, check=True)
        here.cli("push", name, check=True)
        here.cli("rmi", NAME, name, check=True)
        assert blobs(here) == []
        assert here.cli("run", "--rm", "-q", name, check=True).stdout == "image 12 /tmp\n"
        steps = here.cli("pull", "--format", "json", name, check=True).stdout.splitlines()
        assert {json.loads(line)["state"] for line in steps} == {"waiting", "there"}, "named, and none is fetched"
        missing = here.cli("pull", f"{registry.host}/nope")
        assert missing.returncode == 1
        assert "the registry has none" in missing.stderr
    finally:
        registry.kill()


def test_stop_sends_what_the_image_says(here: Engine, tmp_path: Path, rootfs: Path) -> None:
    script = "trap 'exit 7' USR1; echo on; while :; do sleep 0.05; done"
    config = {"Cmd": ["sh", "-c", script], "StopSignal": "SIGUSR1"}
    here.cli("load", "-i", archive(tmp_path / "s.tar", [layer({}, rootfs)], config, "stops:1"), check=True)
    id = here.cli("run", "-d", "stops:1", check=True).stdout.strip()
    until(lambda: here.cli("logs", id).stdout, "its trap")
    here.cli("stop", id, check=True)
    assert here.cli("wait", id, check=True).stdout == "7\n"
