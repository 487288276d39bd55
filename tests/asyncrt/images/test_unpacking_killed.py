"""kill -9 at any point of an unpack: what is committed is whole, and the next try finishes from there."""

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncrt.content.store import Content
from asyncrt.model.descriptor import describe
from asyncrt.model.digest import Digest, chain_ids
from asyncrt.snapshots.native import Native
from asyncrt.snapshots.overlay import Overlay
from tests.asyncrt.layers.tars import END, directory, file

LAYERS = 6
FILES = 400

UNPACK = """
import sys
from pathlib import Path
import trio
from asyncrt.content.store import Content
from asyncrt.images.unpacking import Layer, Unpacking
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import Digest
from asyncrt.snapshots.native import Native
from asyncrt.snapshots.overlay import Overlay

root = Path(sys.argv[1])
snapshots = {"overlay": Overlay, "native": Native}[sys.argv[2]](root)
snapshots.layers.sweep()
layers = [Layer(Descriptor("m", digest, int(size)), Digest.parse(diff_id))
          for digest, size, diff_id in zip(*[iter(sys.argv[3:])] * 3)]
print("begin", flush=True)
trio.run(Unpacking(Content(root), snapshots).unpack, layers)
"""


def whole(tree: Path, number: int) -> bool:
    """Whether the layer's own files are all there, to the last byte."""
    return all((tree / f"{number}/{n}").read_bytes() == b"%d" % n * 50 for n in range(FILES))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Overlay, Native])
def test_killed_at_random_points(tmp_path: Path, kind: type[Overlay] | type[Native]) -> None:
    content = Content(tmp_path)
    words, diff_ids = [], []
    for number in range(LAYERS):
        files = b"".join(file(b"%d/%d" % (number, n), b"%d" % n * 50) for n in range(FILES))
        tar = directory(b"%d/" % number) + files + END
        stored = gzip.compress(tar, mtime=0)
        descriptor = describe(stored, "m")
        content.put(stored, descriptor.parsed)
        diff_ids.append(Digest.of(tar))
        words += [descriptor.digest, str(descriptor.size), str(diff_ids[-1])]
    chains = chain_ids(diff_ids)
    chance = random.Random(5)
    snapshots = kind(tmp_path)
    kills = 0
    for _ in range(30):
        arguments = [sys.executable, "-c", UNPACK, str(tmp_path), snapshots.name, *words]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(chance.random() * 0.25)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        seen = kind(tmp_path)
        for number, chain in enumerate(chains):
            if seen.layers.has(chain):
                assert whole(Path(seen.source(chain).path), number)
        if chance.random() < 0.15 or seen.layers.has(chains[-1]):  # from the beginning now and then
            for chain in reversed(chains):
                seen.layers.remove(chain)
    assert kills > 10
    subprocess.run([sys.executable, "-c", UNPACK, str(tmp_path), snapshots.name, *words], check=True)
    last = kind(tmp_path)
    assert last.layers.sweep() == []
    assert {*last.layers.chains()} == {*chains}
    assert all(whole(Path(last.source(chain).path), number) for number, chain in enumerate(chains))
    assert sorted(os.listdir(tmp_path / "content/ingests")) == []
