"""save and load: what we write is read by others, what they write is read by us, and hostile archives are refused."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile  # noqa: TID251 - the judge: archives made and read by somebody else's code
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncrt.content.store import Content
from asyncrt.errors import AsyncrtError, BadImage, NoSuchObject
from asyncrt.images import documents
from asyncrt.images.documents import Index, Manifest
from asyncrt.images.layout import load_layout
from asyncrt.images.loading import Loaded, chunks_of, load
from asyncrt.images.saving import Saved, save, save_layout
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.reference import parse
from tests.asyncrt.images import pictures
from tests.asyncrt.images.pictures import Stored


def tool(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}")


@pytest.fixture
def keeper(tmp_path: Path) -> Stored:
    return Stored(Content(tmp_path / "ours"))


def layer(*names: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return stream.getvalue()


LAYERS = [layer("etc/one", "two"), layer("three")]


def picture(keeper: Stored, layers: list[bytes] = LAYERS, pressed: bool = False) -> Descriptor:
    stored = [gzip.compress(one, mtime=0) for one in layers] if pressed else layers
    config = keeper.add(pictures.config(layers), media_types.OCI_CONFIG)
    parts = tuple(keeper.add(one, media_types.OCI_LAYER + ("+gzip" if pressed else "")) for one in stored)
    return keeper.add(documents.encode(Manifest(2, config, parts, media_types.OCI_MANIFEST)), media_types.OCI_MANIFEST)


def saved(target: Descriptor, *names: str) -> Saved:
    return Saved(target, tuple(parse(name) for name in names), target)


def archive(keeper: Stored, path: Path, *images: Saved) -> Path:
    with path.open("wb") as file:
        save(images, keeper.content, file.write)
    return path


def read(path: Path, content: Content) -> list[Loaded]:
    with path.open("rb") as file:
        return load(chunks_of(file.fileno()), content, path.name)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def diff_ids(content: Content, target: Descriptor) -> list[str]:
    manifest = documents.read(content.read(target), target.media_type)
    assert isinstance(manifest, Manifest)
    return [str(one) for one in json.loads(content.read(manifest.config))["rootfs"]["diff_ids"]]


WANTED = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in LAYERS]


@pytest.mark.parametrize("pressed", [False, True])
def test_what_is_saved_is_loaded(keeper: Stored, tmp_path: Path, pressed: bool) -> None:
    target = picture(keeper, pressed=pressed)
    path = archive(keeper, tmp_path / "a.tar", saved(target, "app:1", "x.y/app:2"), saved(target))
    again = archive(keeper, tmp_path / "b.tar", saved(target, "app:1", "x.y/app:2"), saved(target))
    assert path.read_bytes() == again.read_bytes()
    content = Content(tmp_path / "theirs")
    for _ in range(2):
        found = read(path, content)
        assert [one.names for one in found] == [("docker.io/library/app:1",), ("x.y/app:2",), ()]
        assert [one.target for one in found] == [target] * 3
    assert diff_ids(content, target) == WANTED
    assert content.ingests() == []
    (tmp_path / "c.tar.gz").write_bytes(
        gzip.compress(path.read_bytes()[:5000]) + gzip.compress(path.read_bytes()[5000:])
    )
    assert [one.target for one in read(tmp_path / "c.tar.gz", Content(tmp_path / "third"))] == [target] * 3


def test_a_pipe_will_do(keeper: Stored, tmp_path: Path) -> None:
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper), "app:1"))
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        assert len(load(chunks_of(cat.stdout.fileno()), Content(tmp_path / "theirs"), "-")) == 1


def test_the_archive_is_a_tar_as_others_read_it(keeper: Stored, tmp_path: Path) -> None:
    target = picture(keeper)
    with tarfile.open(archive(keeper, tmp_path / "a.tar", saved(target, "app:1"))) as tar:
        names = tar.getnames()
        assert {"oci-layout", "index.json", "manifest.json", "repositories"} < set(names)
        listed = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        assert listed[0]["RepoTags"] == ["app:1"]
        for path in (listed[0]["Config"], *listed[0]["Layers"]):
            data = (tar.extractfile(path) or io.BytesIO()).read()
            assert path == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    content = Content(tmp_path / "long")
    blob = b"x" * 1000
    described = describe(blob, media_types.OCI_LAYER, "sha512")  # whose name is too long for ustar
    content.put(blob, described.parsed)
    config = describe(pictures.config([]), media_types.OCI_CONFIG)
    content.put(pictures.config([]), config.parsed)
    manifest = documents.encode(Manifest(2, config, (described,), media_types.OCI_MANIFEST))
    long = describe(manifest, media_types.OCI_MANIFEST)
    content.put(manifest, long.parsed)
    with (tmp_path / "long.tar").open("wb") as file:
        save([saved(long)], content, file.write)
    with tarfile.open(tmp_path / "long.tar") as tar:
        assert (tar.extractfile(f"blobs/sha512/{described.parsed.encoded}") or io.BytesIO()).read() == blob
    assert len(read(tmp_path / "long.tar", Content(tmp_path / "again"))) == 1


@tool("skopeo")
@pytest.mark.parametrize("pressed", [False, True])
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_reads_what_we_save(keeper: Stored, tmp_path: Path, form: str, pressed: bool) -> None:
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper, pressed=pressed), "x.y/app:1"))
    name = "x.y/app:1" if form == "docker-archive" else "1"
    shown = json.loads(run("skopeo", "inspect", "--config", f"{form}:{path}:{name}"))
    assert shown["rootfs"]["diff_ids"] == WANTED
    run("skopeo", "--insecure-policy", "copy", f"{form}:{path}:{name}", f"dir:{tmp_path / 'out'}")


@tool("skopeo")
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_we_read_what_skopeo_writes(keeper: Stored, tmp_path: Path, form: str) -> None:
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper, pressed=True), "x.y/app:1"))
    name = "docker.io/library/app:9" if form == "docker-archive" else "nine"
    out = tmp_path / "out"
    run("skopeo", "--insecure-policy", "copy", f"oci-archive:{path}:1", f"{form}:{out}:{name}")
    content = Content(tmp_path / "theirs")
    (loaded,) = load_layout(out, content) if form == "oci" else read(out, content)
    assert loaded.names == (name.removeprefix("docker.io/library/"),) or loaded.names == (name,)
    assert diff_ids(content, loaded.target) == WANTED


@tool("podman")
def test_podman_loads_what_we_save(keeper: Stored, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("podman's storage needs root, or a machine that is set up for it")
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper, pressed=True), "x.y/app:1"))
    (tmp_path / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman's names may not be longer than 50 letters
        place = ["--root", f"{short}/p", "--runroot", f"{short}/r", "--storage-driver", "vfs"]
        said = run("podman", *place, "load", "--signature-policy", tmp_path / "policy.json", "-i", path)
        assert "x.y/app:1" in said


@tool("umoci")
def test_umoci_reads_our_layout_and_we_read_its(keeper: Stored, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    save_layout([saved(picture(keeper, pressed=True), "x.y/app:one")], keeper.content, place)
    save_layout([saved(picture(keeper, [LAYERS[0]]), "x.y/app:two")], keeper.content, place)
    assert set(run("umoci", "ls", "--layout", place).split()) == {"one", "two"}
    run("umoci", "config", "--image", f"{place}:one", "--tag", "three", "--config.user", "somebody")
    content = Content(tmp_path / "theirs")
    loaded = {one.names: one.target for one in load_layout(place, content)}
    assert {name for names in loaded for name in names} == {"x.y/app:one", "x.y/app:two", "three"}
    assert diff_ids(content, loaded[("three",)]) == WANTED


@tool("oci-image-tool")
def test_oci_image_tool_validates_what_we_write(keeper: Stored, tmp_path: Path) -> None:
    save_layout([saved(picture(keeper, pressed=True), "x.y/app:one")], keeper.content, tmp_path / "layout")
    run("oci-image-tool", "validate", "--type", "image", "--ref", "name=one", tmp_path / "layout")
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper, pressed=True), "x.y/app:one"))
    (tmp_path / "unpacked").mkdir()
    run("tar", "-xf", path, "-C", tmp_path / "unpacked")  # its own reader of tars gives up: "end of walk"
    run("oci-image-tool", "validate", "--type", "image", "--ref", "name=one", tmp_path / "unpacked")


def test_a_name_is_given_to_the_newest(keeper: Stored, tmp_path: Path) -> None:
    first, second = picture(keeper), picture(keeper, [LAYERS[0]])
    for target in (first, second, second):
        save_layout([saved(target, "app:1")], keeper.content, tmp_path / "layout")
        save_layout([saved(target)], keeper.content, tmp_path / "layout")
    found = load_layout(tmp_path / "layout", Content(tmp_path / "theirs"))
    assert [(len(one.names), one.target.digest) for one in found] == [
        (0, first.digest),
        (1, second.digest),
        (0, second.digest),
    ]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(BadImage, match="there is something else"):
        save_layout([saved(first)], keeper.content, tmp_path / "other")


def test_of_an_index_one_platform_is_enough_and_none_is_not(keeper: Stored, tmp_path: Path) -> None:
    here = picture(keeper)
    elsewhere = Descriptor(media_types.OCI_MANIFEST, "sha256:" + "ab" * 32, 500)
    both, none = (
        keeper.add(documents.encode(Index(2, entries, media_types.OCI_INDEX)), media_types.OCI_INDEX)
        for entries in ((elsewhere, here), (elsewhere,))
    )
    path = archive(keeper, tmp_path / "a.tar", Saved(both, (parse("app"),), here))
    assert [one.target.digest for one in read(path, Content(tmp_path / "theirs"))] == [both.digest]
    with pytest.raises(NoSuchObject, match="none of its platforms is here"):
        save([Saved(none, (), here)], keeper.content, lambda data: None)
    with pytest.raises(NoSuchObject, match="is not in the content store"):
        save([Saved(elsewhere, (), here)], keeper.content, lambda data: None)


def old_docker(tmp_path: Path, **change: object) -> Path:
    """An archive as docker 1.10 to 24 wrote it: layers in directories, one a link to another."""
    config = pictures.config([LAYERS[0], LAYERS[1], LAYERS[1]])
    entry = {
        "Config": "c.json",
        "RepoTags": ["app:1"],
        "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"],
    } | change
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("a/layer.tar", LAYERS[0]),
            ("b/layer.tar", LAYERS[1]),
            ("c.json", config),
            ("a/VERSION", b"1"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("c/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../b/layer.tar"
        tar.addfile(link)
        for name, target in (
            ("ring", "gnir"),
            ("gnir", "ring"),
            ("out", "../../../etc/passwd"),
            ("abs", "/etc/passwd"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        listed = json.dumps([entry]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(listed)
        tar.addfile(info, io.BytesIO(listed))
    return path


def test_old_archives_of_docker_are_read(tmp_path: Path) -> None:
    content = Content(tmp_path / "theirs")
    (loaded,) = read(old_docker(tmp_path), content)
    assert loaded.names == ("app:1",)
    assert diff_ids(content, loaded.target) == [WANTED[0], WANTED[1], WANTED[1]]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"Config": "../../../etc/passwd"}, "is not in it"),
        ({"Config": "/etc/passwd"}, "is not in it"),
        ({"Config": "out"}, "is not in it"),
        ({"Config": "abs"}, "is not in it"),
        ({"Config": "ring"}, "'ring' is not in it"),
        ({"Config": "a/VERSION"}, "read image config a/VERSION of old.tar"),
        ({"Config": "a/layer.tar"}, "malformed"),
        ({"Layers": ["a/layer.tar"]}, "1 layers and 3 diffIDs"),
        ({"Layers": ["b/layer.tar"] * 3}, "a layer has the digest"),
        ({"Layers": "a"}, r"got `str` - at `\$\[0\].Layers`"),
        ({"RepoTags": 5}, r"at `\$\[0\].RepoTags`"),
    ],
)
def test_archives_that_lie_are_refused(tmp_path: Path, change: dict[str, object], cause: str) -> None:
    content = Content(tmp_path / "theirs")
    with pytest.raises(BadImage, match=f"(?i){cause}") as caught:
        read(old_docker(tmp_path, **change), content)
    assert "\n" not in str(caught.value)
    assert content.ingests() == []


def broken(path: Path) -> Iterator[tuple[bytes, str]]:
    whole = path.read_bytes()
    yield whole[: len(whole) // 2 + 100], "it was cut short"
    yield whole[: len(whole) - 4096], "the blob of|the blob sha256|it was cut short"
    yield whole.replace(b"imageLayoutVersion", b"imageLayoutversion"), "missing required field"
    yield whole.replace(b'"1.0.0"', b'"2.0.0"'), "its version is '2.0.0'"
    yield b"", "it is empty"
    yield b"hello" * 1000, "in a header is no number"
    yield gzip.compress(whole)[:-4], "its gzip ends in the middle"
    yield b"\x1f\x8b" + b"x" * 1000, "its gzip is damaged"
    yield layer("something"), "no archive of images"
    yield layer("repositories"), "no archive of docker before 1.10"


def test_broken_archives_are_refused(keeper: Stored, tmp_path: Path) -> None:
    path = archive(keeper, tmp_path / "a.tar", saved(picture(keeper), "app:1"))
    for number, (data, cause) in enumerate(broken(path)):
        content = Content(tmp_path / str(number))
        (tmp_path / "broken").write_bytes(data)
        with pytest.raises(BadImage, match=cause) as caught:
            read(tmp_path / "broken", content)
        assert str(caught.value).startswith(
            ("read archive broken", "read layout broken", "read archive", "read layout")
        )
        assert content.ingests() == []


def test_hostile_layouts_are_refused(keeper: Stored, tmp_path: Path) -> None:
    target = picture(keeper)
    config = documents.read(keeper.content.read(target)).config.digest.partition(":")[2]  # type: ignore[union-attr]

    def outside(place: Path) -> None:
        blob = place / "blobs" / "sha256" / config
        (tmp_path / "secret").write_bytes(blob.read_bytes())
        blob.unlink()
        blob.symlink_to(tmp_path / "secret")

    def pipe(place: Path) -> None:
        (place / "index.json").unlink()
        os.mkfifo(place / "index.json")

    def wrong(place: Path) -> None:
        (place / "blobs" / "sha256" / config).write_bytes(b"x" * 300)

    def endless(place: Path) -> None:
        os.truncate(place / "blobs" / "sha256" / config, 1 << 40)

    def giant(place: Path) -> None:
        os.truncate(place / "index.json", 1 << 40)

    def traversal(place: Path) -> None:
        text = (place / "index.json").read_text().replace(target.digest, "sha256:../../../etc/passwd")
        (place / "index.json").write_text(text)

    for attack in (outside, pipe, wrong, endless, giant, traversal):
        place = tmp_path / attack.__name__
        save_layout([saved(target, "app:1")], keeper.content, place)
        attack(place)
        content = Content(tmp_path / f"{attack.__name__}-content")
        with pytest.raises(AsyncrtError) as caught:
            load_layout(place, content)
        assert isinstance(caught.value, BadImage)
        assert str(tmp_path) in str(caught.value) or "store blob" in str(caught.value)
    with pytest.raises(BadImage, match="there is no oci-layout in it"):
        load_layout(tmp_path, Content(tmp_path / "c"))
