"""The content store as trio's jobs use it."""

from pathlib import Path

import pytest
import trio

from asyncrt.content.jobs import GATHER, Blobs
from asyncrt.content.store import Content
from asyncrt.errors import BadImage, NoSuchObject
from asyncrt.model.descriptor import describe


async def test_a_blob_in_small_writes(tmp_path: Path) -> None:
    blobs = Blobs(Content(tmp_path))
    data = bytes(range(256)) * (GATHER // 100)
    descriptor = describe(data, "m")
    assert not await blobs.has(descriptor)
    with pytest.raises(NoSuchObject):
        await blobs.open(descriptor)
    ingest = await blobs.ingest("a", descriptor)
    for at in range(0, len(data), 10_000):
        assert ingest.offset == at
        await ingest.write(data[at : at + 10_000])
    await ingest.commit()
    await ingest.close()
    await ingest.close()
    assert await blobs.has(descriptor)
    blob = await blobs.open(descriptor)
    assert await blob.read_at(10, 5) == data[10:15]
    assert await blob.read_at(len(data), 5) == b""
    await blob.close()
    await blob.close()


async def test_what_a_cancelled_writer_had_taken_is_kept(tmp_path: Path) -> None:
    blobs = Blobs(Content(tmp_path))
    descriptor = describe(b"hello", "m")
    with trio.CancelScope() as scope:
        ingest = await blobs.ingest("a", descriptor)
        try:
            await ingest.write(b"hel")
            scope.cancel()
            await trio.sleep_forever()
        finally:
            await ingest.close()
    ingest = await blobs.ingest("a", descriptor)
    assert ingest.offset == 3
    await ingest.write(b"lo")
    await ingest.commit()
    await ingest.close()
    assert await blobs.has(descriptor)


async def test_wrong_bytes_are_gone_and_the_ingest_goes_on(tmp_path: Path) -> None:
    blobs = Blobs(Content(tmp_path))
    ingest = await blobs.ingest("a", describe(b"hello", "m"))
    await ingest.write(b"hellO")
    with pytest.raises(BadImage):
        await ingest.commit()
    assert ingest.offset == 0
    await ingest.write(b"hello")
    await ingest.commit()
    await ingest.close()
