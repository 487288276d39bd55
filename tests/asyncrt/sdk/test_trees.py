"""Trees and images from a program, under asyncio and trio; the blocking client is the command line's."""

import os
from pathlib import Path

import pytest

import asyncrt
from tests.asyncrt.engine.test_images import layer
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect

pytestmark = pytest.mark.root


@under_both
async def test_the_life_of_an_image(connect: Connect, rootfs: Path, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(layer({}, rootfs))
    file = os.open(tmp_path / "root.tar", os.O_RDONLY)
    async with connect() as rt:
        try:
            id = await rt.import_image(file, "made:1", changes=['CMD ["true"]'])
        finally:
            os.close(file)
        assert (await rt.inspect_image("made:1"))["Id"] == id
        async with rt.run("made:1", ["sh", "-c", "echo x > /x; sleep 600"]) as container:
            (tmp_path / "in").write_text("copied")
            assert await container.copy_to(str(tmp_path / "in"), "/tmp") == 1
            assert (await container.stat("/tmp/in")).size == 6
            await container.copy_from("/tmp/in", str(tmp_path / "out"))
            assert (tmp_path / "out").read_text() == "copied"
            with pytest.raises(asyncrt.NoSuchObject):
                await container.copy_from("/nope", str(tmp_path / "out"))
            assert ("A", "/tmp/in") in await container.diff()
            committed = await container.commit("made:2", message="from a program")
            with (tmp_path / "export.tar").open("wb") as out:
                await container.export(out.fileno())
            assert (tmp_path / "export.tar").stat().st_size > 10_240
        assert (await rt.inspect_image("made:2"))["Id"] == committed
        await rt.tag_image("made:2", "made:3")
        await rt.remove_images("made:1", "made:2", "made:3")
        assert (await rt.prune_images())["names"] == []
        assert await rt.images() == []
