"""Through docker-registry to others and back: what we push skopeo reads, what skopeo pushes in its forms we pull."""

import gzip
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from asyncrt.content.store import Content
from asyncrt.images import documents
from asyncrt.images.documents import Manifest
from asyncrt.images.saving import Saved, save_layout
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.reference import parse
from tests.asyncrt.images import pictures
from tests.asyncrt.images.shelf import Shelf
from tests.asyncrt.images.side import content, side
from tests.asyncrt.registry.peer import Registry, needs_registry, serving

pytestmark = [needs_registry, pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")]

LAYERS = [pictures.noise(100_000, n) for n in range(3)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("registry")) as one:
        yield one


async def skopeo(*words: str) -> str:
    run = partial(trio.run_process, capture_stdout=True, capture_stderr=True, check=False)
    with trio.fail_after(60):
        done = await run(["skopeo", "--insecure-policy", *words])
    assert done.returncode == 0, done.stderr.decode()
    return str(done.stdout.decode())


def pressed(shelf: Shelf) -> Descriptor:
    """An image whose layers are gzip: skopeo leaves those as they are."""
    config = shelf.add(pictures.config(LAYERS), media_types.OCI_CONFIG)
    layers = tuple(shelf.add(gzip.compress(one, mtime=0), f"{media_types.OCI_LAYER}+gzip") for one in LAYERS)
    return shelf.add(documents.encode(Manifest(2, config, layers, media_types.OCI_MANIFEST)), media_types.OCI_MANIFEST)


async def test_skopeo_copies_what_we_push(registry: Registry, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "ours")
    target = pressed(shelf)
    async with side(registry, shelf) as here:
        await here.push(target, "ours/app")
        other = pictures.image(shelf, LAYERS, "s390x")
        await here.push(pictures.index(shelf, (target, "amd64", ""), (other, "s390x", "")), "ours/multi")
    shown = json.loads(await skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/ours/app:v1"))
    assert (shown["Digest"], shown["RepoTags"]) == (target.digest, ["v1"])
    for name in ("app", "multi"):
        source = f"docker://{registry.host}/ours/{name}:v1"
        await skopeo("copy", "--all", "--src-tls-verify=false", source, f"oci:{tmp_path / name}:v1")
    config = await skopeo("--override-arch", "s390x", "inspect", "--config", f"oci:{tmp_path / 'multi'}:v1")
    assert json.loads(config)["architecture"] == "s390x"


# docker's schema 2 has no zstd.
@pytest.mark.parametrize(("form", "compression"), [("oci", "gzip"), ("oci", "zstd"), ("v2s2", "gzip")])
async def test_we_pull_what_skopeo_pushes(registry: Registry, tmp_path: Path, form: str, compression: str) -> None:
    store = Content(tmp_path / "ours")
    # Layers of this test's own: of those that it has seen in the registry skopeo takes what is there.
    layers = [pictures.noise(100_000, (form, compression, n)) for n in range(3)]
    target = pictures.image(pictures.Stored(store), layers)
    save_layout([Saved(target, (parse("app:v1"),), target)], store, tmp_path / "layout")
    path = f"theirs/{form}-{compression}"
    flags = [f"--format={form}", f"--dest-compress-format={compression}", "--dest-tls-verify=false"]
    await skopeo("copy", *flags, f"oci:{tmp_path / 'layout'}:v1", f"docker://{registry.host}/{path}:v1")
    theirs = Shelf(tmp_path / "theirs")
    async with side(registry, theirs) as there:
        image = await there.pull(path)
        heads = {(await content(theirs, layer))[:2] for layer in image.layers}
    assert image.config.diff_ids == tuple(describe(data, "").digest for data in layers)
    assert image.manifest.media_type == (media_types.OCI_MANIFEST if form == "oci" else media_types.DOCKER_MANIFEST)
    assert heads == {b"\x28\xb5" if compression == "zstd" else b"\x1f\x8b"}
    assert {media_types.LAYERS[layer.media_type] for layer in image.layers} == {compression}
    assert theirs.check() == 2 + len(layers)
