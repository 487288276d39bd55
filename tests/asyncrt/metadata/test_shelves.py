"""Names of images, leases and edges: what was committed is there after reopening, the last of a key counts."""

import sqlite3
from pathlib import Path

import pytest

from asyncrt.content.collect import reachable
from asyncrt.errors import StorageFailed
from asyncrt.metadata import schema
from asyncrt.metadata.changes import (
    AppendEvent,
    DropEdges,
    DropImage,
    DropLease,
    PutEdges,
    PutImage,
    PutLease,
)
from asyncrt.metadata.store import Store
from asyncrt.metadata.writer import open_writer
from asyncrt.model.descriptor import describe
from asyncrt.model.image import Edges, Lease, NamedImage

MANIFEST = describe(b"manifest", "application/vnd.oci.image.manifest.v1+json")


async def test_they_are_there_after_reopening(tmp_path: Path) -> None:
    image = NamedImage("docker.io/library/busybox:latest", MANIFEST, 5)
    lease = Lease("pull-1", 99, (MANIFEST.digest,), ("layer",))
    edges = Edges(MANIFEST.digest, ("sha256:config", "sha256:layer"))
    async with open_writer(tmp_path / "m.db") as writer:
        changes = [PutImage(image), PutLease(lease), PutEdges(edges), AppendEvent("pull", image.name)]
        (event,) = await writer.commit(changes)
        assert event.action == "pull"
        await writer.commit([PutImage(NamedImage("other", MANIFEST)), DropImage("other"), DropLease("none")])
    store = Store.open(tmp_path / "m.db")
    assert (store.load_images(), store.load_leases(), store.load_edges()) == ([image], [lease], [edges])
    live = reachable(
        [image.target.digest, *(digest for one in store.load_leases() for digest in one.digests)],
        {one.digest: one.children for one in store.load_edges()},
    )
    assert live == {MANIFEST.digest, "sha256:config", "sha256:layer"}
    store.close()


async def test_of_one_key_the_last_counts_also_in_one_transaction(tmp_path: Path) -> None:
    async with open_writer(tmp_path / "m.db") as writer:
        for n in range(300):
            writer.submit([PutLease(Lease("a", n)), PutEdges(Edges(f"{n}", (f"{n + 1}",)))])
        await writer.commit([DropEdges(f"{n}") for n in range(1, 300)])
        await writer.commit([DropLease("a"), PutLease(Lease("a", 7))])
    store = Store.open(tmp_path / "m.db")
    assert store.load_leases() == [Lease("a", 7)]
    assert store.load_edges() == [Edges("0", ("1",))]
    store.close()


def test_a_file_of_the_version_before_is_brought_along(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "m.db") as old:
        for statement in schema.MIGRATIONS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
    old.close()
    store = Store.open(tmp_path / "m.db")
    assert store.load_images() == []
    store.close()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "m.db")
    store._connection.execute("INSERT INTO images VALUES ('a', x'00')")
    with pytest.raises(StorageFailed, match="the record a of images in it is damaged"):
        store.load_images()
    store.close()
