"""Images to layers: side by side, each once, nothing half made."""

import gzip
import os
import threading
from pathlib import Path

import pytest
import trio

from asyncrt.content.store import Content
from asyncrt.errors import BadImage, NoSuchObject, StorageFailed
from asyncrt.images import unpacking
from asyncrt.images.unpacking import Layer, Unpacking
from asyncrt.layers.apply import apply
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.digest import Digest, chain_ids
from asyncrt.snapshots.native import Native
from asyncrt.snapshots.overlay import Overlay
from tests.asyncrt.layers.tars import END, directory, file

Snapshots = Overlay | Native


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content(tmp_path)


@pytest.fixture(params=[Overlay, Native])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshots:
    return request.param(tmp_path)  # type: ignore[no-any-return]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The diffIDs of the layers that were unpacked, as they begin."""
    begun: list[str] = []

    def noting(*args: object, **options: object) -> object:
        begun.append(str(options["diff_id"]))
        return apply(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(unpacking, "apply", noting)
    return begun


def layer(content: Content, tar: bytes, diff_id: Digest | None = None) -> Layer:
    stored = gzip.compress(tar, mtime=0)
    descriptor = describe(stored, "m")
    content.put(stored, descriptor.parsed)
    return Layer(descriptor, diff_id or Digest.of(tar))


def image(content: Content, count: int, common: int = 0, name: bytes = b"") -> list[Layer]:
    tars = [
        directory(b"d/") + file(b"d/%d" % n, b"%d" % n) + file(b"d/same", name if n >= common else b"") + END
        for n in range(count)
    ]
    return [layer(content, tar) for tar in tars]


def leftovers(snapshots: Snapshots) -> list[str]:
    return [name for name in os.listdir(snapshots.layers.directory) if not name.startswith("sha256-")]


async def seen_begun(snapshots: Snapshots, count: int) -> None:
    """Wait until so many layers are being made."""
    for _ in range(10_000):
        if snapshots.layers.directory.exists() and len(leftovers(snapshots)) >= count:
            return
        await trio.sleep(0.001)
    pytest.fail("no layer was begun")


def test_the_chain_ids_of_the_spec() -> None:
    a, b, c = (Digest.of(text) for text in (b"a", b"b", b"c"))
    assert chain_ids([]) == []
    assert chain_ids([a]) == [a]
    ab = Digest.of(f"{a} {b}".encode())
    assert chain_ids([a, b, c]) == [a, ab, Digest.of(f"{ab} {c}".encode())]


async def test_an_image_of_many_layers(content: Content, snapshots: Snapshots, applied: list[str]) -> None:
    layers = image(content, 12)
    chain = await Unpacking(content, snapshots).unpack(layers)
    assert len(applied) == 12
    source = snapshots.source(chain)
    assert (len(source.below) + 1) * (len(os.listdir(f"{source.path}/d")) - 1) == 12
    assert await Unpacking(content, snapshots).unpack(layers) == chain
    assert len(applied) == 12
    assert leftovers(snapshots) == []


async def test_images_that_share_layers(content: Content, snapshots: Snapshots, applied: list[str]) -> None:
    """Twenty at once: what they have in common is unpacked once."""
    images = [image(content, 6, 4, b"%d" % n) for n in range(20)]
    shared = Unpacking(content, snapshots)
    async with trio.open_nursery() as nursery:
        for layers in images:
            nursery.start_soon(shared.unpack, layers)
    assert len(applied) == len({*applied}) == 4 + 20 * 2
    assert len(snapshots.layers.chains()) == 44


async def test_layers_are_unpacked_before_those_below_are_fetched(content: Content, tmp_path: Path) -> None:
    snapshots = Overlay(tmp_path)
    layers = image(content, 3)
    lowest = trio.Event()
    seen: list[str] = []

    async def ready(descriptor: Descriptor) -> None:
        if descriptor == layers[0].descriptor:
            await lowest.wait()
        seen.append(descriptor.digest)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Unpacking(content, snapshots).unpack, layers, ready)
        await seen_begun(snapshots, 2)
        assert snapshots.layers.chains() == []
        lowest.set()
    assert len(snapshots.layers.chains()) == 3
    assert seen[-1] == layers[0].descriptor.digest


async def test_a_layer_that_is_not_what_the_config_says(content: Content, snapshots: Snapshots) -> None:
    layers = image(content, 4)
    wrong = [*layers[:2], layer(content, file(b"x") + END, layers[2].diff_id), layers[3]]
    with pytest.raises(BadImage, match="its tar has the diffID"):
        await Unpacking(content, snapshots).unpack(wrong)
    assert leftovers(snapshots) == []
    assert len(snapshots.layers.chains()) <= 2
    await Unpacking(content, snapshots).unpack(layers)


async def test_a_blob_that_is_missing(content: Content, snapshots: Snapshots) -> None:
    layers = image(content, 3)
    content.remove(layers[1].descriptor.parsed)
    with pytest.raises(NoSuchObject, match=r"pull it again"):
        await Unpacking(content, snapshots).unpack(layers)
    assert leftovers(snapshots) == []


async def test_nothing_half_made_stays_when_it_is_cancelled(content: Content, snapshots: Snapshots) -> None:
    big = layer(content, b"".join(file(b"%d" % n, bytes(2000)) for n in range(20_000)) + END)
    begun = threading.Event()

    async def watch(scope: trio.CancelScope) -> None:
        await seen_begun(snapshots, 1)
        begun.set()
        scope.cancel()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            nursery.start_soon(Unpacking(content, snapshots).unpack, [big])
    assert begun.is_set()
    assert snapshots.layers.chains() == []
    assert leftovers(snapshots) == []


async def test_who_waits_goes_on_when_the_other_is_cancelled(content: Content, snapshots: Snapshots) -> None:
    layers = [layer(content, b"".join(file(b"%d" % n, bytes(2000)) for n in range(5000)) + END), *image(content, 2)]
    shared = Unpacking(content, snapshots)
    first = trio.CancelScope()

    async def cancelled() -> None:
        with first:
            await shared.unpack(layers)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancelled)
            await trio.sleep(0.02)
            nursery.start_soon(shared.unpack, layers)
            await trio.sleep(0.02)
            first.cancel()
    assert len(snapshots.layers.chains()) == 3
    assert leftovers(snapshots) == []


async def test_collection_beside_it_takes_nothing(content: Content, snapshots: Snapshots) -> None:
    layers = image(content, 8)
    done = False

    async def collect() -> None:
        while not done:
            await trio.to_thread.run_sync(content.collect, set)

    async with trio.open_nursery() as nursery:
        with content.hold(one.descriptor.parsed for one in layers):
            nursery.start_soon(collect)
            await trio.sleep(0.01)
            await Unpacking(content, snapshots).unpack(layers)
            done = True
    assert len(snapshots.layers.chains()) == 8


@pytest.mark.root
@pytest.mark.parametrize("kind", [Overlay, Native])
async def test_a_full_disk_leaves_nothing_half_made(
    content: Content, tmp_path: Path, kind: type[Overlay] | type[Native]
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    await trio.run_process(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)])
    try:
        snapshots = kind(small)
        layers = [*image(content, 2), layer(content, file(b"big", os.urandom(4 << 20)) + END)]
        with pytest.raises(StorageFailed, match="no space left on device"):
            await Unpacking(content, snapshots).unpack(layers)
        assert leftovers(snapshots) == []
        await trio.run_process(["mount", "-o", "remount,size=16m", str(small)])
        await Unpacking(content, snapshots).unpack(layers)
        assert len(snapshots.layers.chains()) == 3
    finally:
        await trio.run_process(["umount", str(small)])
