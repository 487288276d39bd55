"""Whole images to and from docker-registry, into the content store: at once, shared, killed, and gone on with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from asyncrt.errors import AsyncrtError, BadImage, NoSuchObject, RegistryFailed, Unavailable
from asyncrt.images import documents
from asyncrt.images.blobs import Blobs
from asyncrt.images.documents import Index, Manifest
from asyncrt.images.fetching import open_fetches
from asyncrt.images.progress import ENDS, Progress, State
from asyncrt.images.push import push
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.platform import parse as platform
from asyncrt.model.reference import Reference
from asyncrt.registry import listing
from tests.asyncrt.images import pictures
from tests.asyncrt.images.shelf import Shelf
from tests.asyncrt.images.side import content, side
from tests.asyncrt.registry.peer import Registry, needs_registry, serving
from tests.asyncrt.registry.server import Call, client_of
from tests.asyncrt.registry.server import serving as talking

pytestmark = needs_registry

AMD = platform("linux/amd64")
MIB = 1 << 20
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as one:
        yield one


async def test_an_image_goes_and_comes_back_to_the_byte(
    registry: Registry, tmp_path: Path, make_blobs: Callable[[Path], Blobs]
) -> None:
    layers = [pictures.noise(n * MIB // 2, n) for n in range(8)]
    ours = Shelf(tmp_path / "ours")
    target = pictures.image(ours, layers)
    async with side(registry, ours) as here:
        await here.push(target, "round/trip")
    async with side(registry, make_blobs(tmp_path / "theirs")) as there:
        image = await there.pull("round/trip")
        assert image.target == image.descriptor == target
        assert [await content(there.blobs, layer) for layer in image.layers] == layers
        assert image.config.diff_ids == tuple(layer.digest for layer in image.layers)
        again = await there.pull("round/trip", target.digest)
        assert again == image
        with pytest.raises(NoSuchObject, match="it is for linux/amd64, not linux/s390x"):
            await there.pull("round/trip", wanted="linux/s390x")


async def test_an_index_gives_the_machine_its_own(registry: Registry, tmp_path: Path) -> None:
    ours, theirs = Shelf(tmp_path / "ours"), Shelf(tmp_path / "theirs")
    zstd = f"{media_types.OCI_LAYER}+zstd"
    gzip = pictures.image(ours, [b"amd"], layer_type=f"{media_types.OCI_LAYER}+gzip")
    better = pictures.image(ours, [b"amd, better"], layer_type=zstd)
    arm = pictures.image(ours, [b"arm"], "arm", variant="v6")
    target = pictures.index(ours, (gzip, "amd64", ""), (arm, "arm", "v6"), (better, "amd64", ""))
    nested = ours.add(documents.encode(Index(2, (target,), media_types.OCI_INDEX)), media_types.OCI_INDEX)
    async with side(registry, ours) as here:
        await here.push(nested, "multi", "nested")
        await here.push(target, "multi")
    async with side(registry, theirs) as there:
        assert (await there.pull("multi")).descriptor.digest == better.digest
        held: list[Descriptor] = []
        image = await there.pull("multi", wanted="linux/arm/v7", hold=held.extend)
        assert image.descriptor.digest == arm.digest
        assert {one.digest for one in held} == {
            target.digest,
            arm.digest,
            image.manifest.config.digest,
            *(layer.digest for layer in image.layers),
        }
        found = await there.pull("multi", "nested")
        assert (found.target, found.descriptor.digest) == (nested, better.digest)
        with pytest.raises(NoSuchObject, match=r"no image for linux/s390x \(--platform: linux/amd64, linux/arm/v6\)"):
            await there.pull("multi", wanted="linux/s390x")
        part = Shelf(tmp_path / "part")
        part.add(await content(ours, target), target.media_type)
        with pytest.raises(NoSuchObject, match=r"one of its platforms is not here.*push the image of one platform"):
            await push(there.client, part, target, Reference(there.host, "x", "y"))


async def test_layers_are_fetched_once_for_all_that_share_them(registry: Registry, tmp_path: Path) -> None:
    ours, theirs = Shelf(tmp_path / "ours"), Shelf(tmp_path / "theirs")
    base = [pictures.noise(MIB, n) for n in range(4)]
    async with side(registry, ours) as here:
        for number in range(20):
            await here.push(
                pictures.image(ours, [*base, str(number).encode()]), f"shared/{number}", mount_from=["shared/0"]
            )
    async with side(registry, theirs) as there:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(there.pull, f"shared/{number}")
    names = [name for name, _ in theirs.began]
    assert len(names) == len(set(names)) == 4 + 20 + 20 + 20
    assert theirs.check() == len(names)


async def test_progress_tells_the_last_of_each_blob_and_holds_nobody_up(registry: Registry, tmp_path: Path) -> None:
    ours, theirs = Shelf(tmp_path / "ours"), Shelf(tmp_path / "theirs")
    target = pictures.image(ours, [pictures.noise(3 * MIB, n) for n in range(3)])

    async def collect(receive: trio.MemoryReceiveChannel[Progress], into: list[Progress]) -> None:
        async for progress in receive:
            into.append(progress)

    async def told(job: Callable[..., object], *arguments: object, **more: object) -> list[Progress]:
        send, receive = trio.open_memory_channel[Progress](0)
        found: list[Progress] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, receive, found)
            async with send:
                await job(*arguments, progress=send, **more)  # type: ignore[misc]
        return found

    async with side(registry, ours) as here:
        first = await told(here.push, target, "progress")
        second = await told(here.push, target, "progress")
    async with side(registry, theirs) as there:
        third = await told(there.pull, "progress")
        fourth = await told(there.pull, "progress")
        send, receive = trio.open_memory_channel[Progress](0)
        with trio.fail_after(5):
            await there.pull("progress", progress=send)  # nobody reads
        await receive.aclose()
        await there.pull("progress", progress=send)  # nobody ever will
    for values, end in ((first, State.DONE), (second, State.THERE), (third, State.DONE), (fourth, State.THERE)):
        last = {one.digest: one for one in values}
        assert len(last) == 4
        assert {one.state for one in last.values()} == {end}
        assert all(one.done == one.total for one in last.values())
        assert all(one.state not in ENDS for one in values if one is not last[one.digest])


async def test_a_waiter_that_leaves_takes_nothing_from_the_others(tmp_path: Path) -> None:
    data = pictures.noise(2 * MIB, 1)
    slow = trio.Event()

    async def handler(call: Call) -> None:
        await slow.wait()
        await call.answer(200, {}, data)

    shelf = Shelf(tmp_path)
    layer = Shelf(tmp_path / "other").add(data, "x")
    async with talking(handler) as server, side(server, shelf) as here:
        repository = here.client.repository(server.host, "a")
        states: list[State] = []
        async with trio.open_nursery() as nursery:
            impatient = [trio.CancelScope() for _ in range(3)]

            async def leave(scope: trio.CancelScope) -> None:
                with scope:
                    await here.fetches.fetch(repository, layer, lambda state, done, note: None)

            for scope in impatient:
                nursery.start_soon(leave, scope)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.start_soon(here.fetches.fetch, repository, layer, lambda state, done, note: states.append(state))
            await trio.sleep(0.05)
            for scope in impatient:
                scope.cancel()
            await trio.sleep(0.05)
            slow.set()
        assert states[-1] is State.DONE
        assert len(server.asked("GET", "blobs")) == 1
        assert shelf.check() == 1


async def test_the_last_to_leave_ends_the_fetch_and_the_next_goes_on(tmp_path: Path) -> None:
    data = pictures.noise(MIB, 2)

    async def handler(call: Call) -> None:
        begin = int(call.seen.headers.get("range", "bytes=0-")[6:-1])
        if begin:
            return await call.answer(206, {"Content-Range": f"bytes {begin}-{MIB - 1}/{MIB}"}, data[begin:])
        await call.head(200, {"Content-Length": str(MIB)})
        await call.raw(data[:500_000])
        await trio.sleep_forever()

    shelf = Shelf(tmp_path)
    layer = Shelf(tmp_path / "other").add(data, "x")
    async with talking(handler) as server, side(server, shelf) as here:
        repository = here.client.repository(server.host, "a")
        for _ in range(2):
            with trio.move_on_after(0.3):
                await here.fetches.fetch(repository, layer, lambda state, done, note: None)
        assert shelf.began == [(layer.digest, 0), (layer.digest, 500_000)]
        assert shelf.check() == 1


async def test_who_waits_when_all_fetches_end_is_told(tmp_path: Path) -> None:
    async def handler(call: Call) -> None:
        await trio.sleep_forever()

    layer = Shelf(tmp_path / "other").add(b"data", "x")
    told: list[str] = []
    async with talking(handler) as server, client_of(server) as client, trio.open_nursery() as nursery:
        async with open_fetches(Shelf(tmp_path)) as fetches:

            async def wait() -> None:
                try:
                    await fetches.fetch(client.repository(server.host, "a"), layer, lambda *_: None)
                except Unavailable as error:
                    told.append(str(error))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.05)
    assert told == [f"pull blob {layer.digest}: the engine is being stopped"]


async def test_what_one_repository_refuses_another_may_give(tmp_path: Path) -> None:
    async def handler(call: Call) -> None:
        await trio.sleep(0.05)
        await call.answer(*((404, None) if "/closed/" in call.seen.path else (200, None, b"data")))  # type: ignore[arg-type]

    layer = Shelf(tmp_path / "other").add(b"data", "x")
    async with talking(handler) as server, side(server, Shelf(tmp_path)) as here:
        failed: list[str] = []

        async def fetch(path: str) -> None:
            try:
                await here.fetches.fetch(here.client.repository(server.host, path), layer, lambda *_: None)
            except AsyncrtError as error:
                failed.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, "closed")
            await trio.sleep(0.01)
            for _ in range(3):
                nursery.start_soon(fetch, "open")
                nursery.start_soon(fetch, "closed")
        assert all("/closed: the registry has none" in one for one in failed)
        assert failed
        assert len(server.asked("GET", "/open/")) == 1


async def test_rotten_bytes_are_fetched_once_more_and_then_refused(
    tmp_path: Path, make_blobs: Callable[[Path], Blobs]
) -> None:
    right, wrong = pictures.noise(1000, 3), pictures.noise(1000, 4)
    bodies = [wrong, right, wrong, wrong]

    async def handler(call: Call) -> None:
        await call.answer(200, {}, bodies.pop(0))

    layer = Shelf(tmp_path / "other").add(right, "x")
    other = Shelf(tmp_path / "other").add(right + b"!", "x")
    blobs = make_blobs(tmp_path / "blobs")
    async with talking(handler) as server, side(server, blobs) as here:
        repository = here.client.repository(server.host, "a")
        await here.fetches.fetch(repository, layer, lambda *_: None)
        assert await content(blobs, layer) == right
        lying = Descriptor("x", other.digest, 1000)
        with pytest.raises(BadImage, match="digest"):
            await here.fetches.fetch(repository, lying, lambda *_: None)
        assert not await blobs.has(lying)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"layers": [{"mediaType": FOREIGN}]}, "it is not distributable"),
        ({"layers": [{"mediaType": "text/html"}]}, "is no layer of a file system"),
        ({"layers": []}, "0 layers and 1 diffIDs"),
        ({"artifactType": "a/b"}, "it is an artifact"),
        ({"manifests": []}, "fields of a manifest and of an index"),
        ({"mediaType": media_types.OCI_INDEX}, "the registry says|given as"),
        ({"config": {"size": 1 << 40}}, "more than 4 MiB"),
        ({"config": {"size": 5}}, "where its descriptor says 5"),
        ({"schemaVersion": 1}, "schemaVersion is 1"),
    ],
)
async def test_hostile_manifests(tmp_path: Path, change: dict[str, object], cause: str) -> None:
    shelf = Shelf(tmp_path / "theirs")
    target = pictures.image(shelf, [b"layer"])
    document = json.loads(await content(shelf, target))
    for name, value in change.items():
        if isinstance(value, dict):
            document[name] |= value
        elif value and isinstance(value, list):
            document[name][0] |= value[0]
        else:
            document[name] = value
    data = json.dumps(document).encode()

    async def handler(call: Call) -> None:
        if "/manifests/" in call.seen.path:
            return await call.answer(200, {"Content-Type": media_types.OCI_MANIFEST}, data)
        path = shelf.path(call.seen.path.rpartition("/")[2])
        await call.answer(200, {}, path.read_bytes())

    async with talking(handler) as server, side(server, Shelf(tmp_path / "ours")) as here:
        with pytest.raises(BadImage, match=cause) as caught:
            await here.pull("a")
        assert "\n" not in str(caught.value)


async def test_a_pull_has_a_deadline(tmp_path: Path) -> None:
    async def handler(call: Call) -> None:
        await trio.sleep_forever()

    async with talking(handler) as server, side(server, Shelf(tmp_path)) as here:
        with pytest.raises(RegistryFailed, match=r"pull .*: not done in 0.2 s \(what has arrived is kept"):
            await here.pull("a", timeout=0.2)


async def test_what_refers_to_an_image_is_found_by_it(registry: Registry, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    subject = pictures.image(shelf, [b"signed"])
    empty = shelf.add(b"{}", media_types.OCI_EMPTY)
    async with side(registry, shelf) as here:
        await here.push(subject, "signed")
        pushed = []
        for number in range(2):
            layer = shelf.add(f"signature {number}".encode(), "text/plain")
            signature = Manifest(2, empty, (layer,), media_types.OCI_MANIFEST, "a/signature", subject)
            pushed.append(shelf.add(documents.encode(signature), media_types.OCI_MANIFEST))
            for _ in range(2):
                await here.push(pushed[-1], "signed", f"s{number}")
        found = await listing.referrers(here.client.repository(here.host, "signed"), subject.digest, "a/signature")
        assert [one.digest for one in found] == [one.digest for one in pushed]
        with pytest.raises(BadImage, match="it is an artifact"):
            await here.pull("signed", "s0")
