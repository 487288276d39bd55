"""Pulls under a whole engine: twenty at once fetch a layer once; a supervisor that is killed while it moves images.

ASYNCRT_KILLS=200 is what the promise was measured with.
"""

import hashlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.asyncrt.engine.test_images import archive, layer
from tests.asyncrt.layers.trees import look
from tests.asyncrt.registry.peer import PROGRAM, Registry
from tests.engine import Engine

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs docker-registry")]

SHARED = 4
IMAGES = 20


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """One that writes down who asks for what."""
    (tmp_path / "registry").mkdir()
    log = {"level": "info", "accesslog": {"disabled": False}}
    one = Registry(tmp_path / "registry", {"log": log})
    one.start()
    yield one
    one.kill()


def noise(dice: random.Random, files: int, size: int) -> bytes:
    return layer({f"files/{dice.randrange(1 << 30)}": dice.randbytes(dice.randrange(size)) for _ in range(files)})


def test_twenty_that_share_layers_fetch_each_once(engine: Engine, tmp_path: Path, registry: Registry) -> None:
    dice = random.Random(20)
    shared = [noise(dice, 20, 100_000) for _ in range(SHARED)]
    names = [f"{registry.host}/app{number}:v1" for number in range(IMAGES)]
    for number, name in enumerate(names):
        own = layer({"own": b"%d" % number})
        engine.cli("load", "-i", archive(tmp_path / "a.tar", [*shared, own], {"Cmd": ["true"]}, name), check=True)
    engine.cli("push", "-q", *names, check=True)
    engine.cli("rmi", *names, check=True)
    assert os.listdir(engine.root / "content/blobs/sha256") == []
    log = tmp_path / "registry/registry.log"
    before = log.stat().st_size
    done = engine.cli("pull", *names, check=True)
    assert done.stdout.splitlines() == names
    lines = log.read_bytes()[before:].decode(errors="replace")
    fetched = re.findall(r'"GET /v2/[^ ]*/blobs/(sha256:[0-9a-f]+) HTTP', lines)
    # Of each image a config and a layer of its own, and the layers that all have.
    assert len(fetched) == len(set(fetched)) == SHARED + 2 * IMAGES
    assert len(os.listdir(engine.root / "layers/overlay")) == SHARED + IMAGES


def blobs(engine: Engine) -> list[str]:
    """Every blob that is seen, and each is what it is called."""
    place = engine.root / "content/blobs/sha256"
    names = os.listdir(place) if place.exists() else []
    for name in names:
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == name
    return names


def trees(engine: Engine) -> dict[str, object]:
    """The layers that are seen, each with all that is in it."""
    place = engine.root / "layers/overlay"
    names = [name for name in (os.listdir(place) if place.exists() else []) if name.startswith("sha256-")]
    return {name: look(place / name / "fs") for name in names}


def test_a_supervisor_that_is_killed_while_it_moves_images(engine: Engine, tmp_path: Path, registry: Registry) -> None:
    kills = int(os.environ.get("ASYNCRT_KILLS", "4"))
    dice = random.Random(int(os.environ.get("ASYNCRT_SEED", kills)))
    name = f"{registry.host}/killed:v1"
    layers = [noise(dice, 60, 100_000) for _ in range(5)]
    engine.cli("load", "-i", archive(tmp_path / "a.tar", layers, {"Cmd": ["true"]}, name), check=True)
    engine.cli("push", "-q", name, check=True)
    engine.cli("rmi", name, check=True)  # and what else was in the archive
    engine.cli("pull", "-q", name, check=True)
    whole, every, target = trees(engine), sorted(blobs(engine)), engine.json("images")[0]["digest"]
    assert len(whole) == 5
    hit = 0
    for number in range(kills):
        pushes = number % 4 == 3
        if pushes:
            there = f"{registry.host}/pushed{number}:v1"
            engine.cli("tag", name, there, check=True)
            words = ["push", "-q", there]
        else:
            engine.cli("rmi", name, check=True)
            assert (blobs(engine), trees(engine)) == ([], {})
            words = ["pull", "-q", name]
        pid = engine.supervisor_pid()  # starts one where there is none: the kill is to meet the command
        command = engine.popen(*words)
        time.sleep(dice.uniform(0.15, 0.6))
        hit += command.poll() is None
        os.kill(pid, signal.SIGKILL)
        command.communicate(timeout=60)
        blobs(engine)
        for chain, found in trees(engine).items():
            assert found == whole[chain]
        engine.cli(*words, check=True)
        if pushes:
            judged = engine.cli("copy", f"docker://{there}", f"dir:{tmp_path / 'judge'}", check=True)
            assert judged.stdout.strip() == target
            engine.cli("rmi", there, check=True)
        assert (sorted(blobs(engine)), trees(engine)) == (every, whole)
        assert not [left for left in os.listdir(engine.root / "layers/overlay") if left.startswith("new.")]
        assert json.loads(engine.cli("images", "--format", "json", check=True).stdout)[0]["digest"] == target
    print(f"{hit} of {kills} kills met the command")
