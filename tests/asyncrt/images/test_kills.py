"""Pulls and pushes that are cut at random points: the registry killed, the job cancelled; the next try ends well."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import trio

from asyncrt.errors import RegistryFailed
from asyncrt.images.blobs import Blobs
from asyncrt.model.descriptor import Descriptor
from tests.asyncrt.images import pictures
from tests.asyncrt.images.shelf import Shelf
from tests.asyncrt.images.side import content, side
from tests.asyncrt.registry.peer import Registry, needs_registry, serving

pytestmark = needs_registry

MIB = 1 << 20


# 12 times here; ASYNCRT_KILLS=200 is what the promise was measured with.
async def test_killed_at_random_and_gone_on_with(tmp_path: Path, make_blobs: Callable[[Path], Blobs]) -> None:
    kills = int(os.environ.get("ASYNCRT_KILLS", "12"))
    dice = random.Random(kills)
    ours = Shelf(tmp_path / "ours")
    with serving(tmp_path / "registry") as registry:
        done = 0
        for round in range(10_000):
            if done >= kills:
                break
            layers = [pictures.noise(dice.randrange(2 * MIB), (round, n)) for n in range(6)]
            target = pictures.image(ours, layers)
            path = f"killed/{round}"

            async def pushing(target: Descriptor = target, path: str = path) -> None:
                async with side(registry, ours) as here:
                    await here.push(target, path)

            done += await interrupted(registry, pushing, dice, 3)
            place = tmp_path / f"theirs-{round}"

            async def pulling(place: Path = place, path: str = path, layers: list[bytes] = layers) -> None:
                async with side(registry, make_blobs(place)) as there:
                    image = await there.pull(path)
                    assert [await content(there.blobs, layer) for layer in image.layers] == layers

            done += await interrupted(registry, pulling, dice, 3)


async def interrupted(registry: Registry, job: Callable[[], object], dice: random.Random, times: int) -> int:
    """Run `job` until it ends well; before that it is cut `times` times: the registry killed, or the job cancelled."""
    cuts = 0
    for _ in range(times):
        after = dice.uniform(0.0, 0.06)
        if dice.random() < 0.5:
            with trio.move_on_after(after) as scope:
                await job()  # type: ignore[misc]
            cuts += scope.cancelled_caught
        else:
            cuts += await killed(registry, job, after)
    with trio.fail_after(120):
        await job()  # type: ignore[misc]
    return cuts


async def killed(registry: Registry, job: Callable[[], object], after: float) -> int:
    async def kill() -> None:
        await trio.sleep(after)
        registry.kill()
        if int(after * 1e6) % 2:  # every second time it is back while the job still tries
            await trio.to_thread.run_sync(registry.start)

    failed = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        try:
            await job()  # type: ignore[misc]
        except RegistryFailed:
            failed = 1
    registry.kill()
    await trio.to_thread.run_sync(registry.start)
    return max(failed, 1)
