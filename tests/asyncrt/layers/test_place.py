"""Entries into a tree that is there: docker's rules, and trees and tars that mean harm."""

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.errors import AsyncrtError, BadImage, BadRequest
from asyncrt.layers import changes
from asyncrt.layers.entry import CHAR, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from asyncrt.layers.feed import Feed
from asyncrt.layers.limits import DEFAULT
from asyncrt.layers.pack import packed
from asyncrt.layers.place import Placer
from asyncrt.layers.reader import Reader
from asyncrt.layers.streams import piped
from asyncrt.layers.writer import Writer

pytestmark = pytest.mark.root


def never() -> None: ...


def tar(*entries: tuple[Entry, bytes]) -> bytes:
    out = bytearray()
    writer = Writer(out.extend)
    for entry, data in entries:
        writer.entry(entry)
        if data:
            writer.content(data)
    writer.finish()
    return bytes(out)


def file(name: bytes, data: bytes = b"new", mode: int = 0o644) -> tuple[Entry, bytes]:
    return Entry(name, FILE, mode, 7, 8, len(data), 10**18), data


def place(top: Path, data: bytes, owners: bool = True) -> int:
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return Placer(directory, never, owners).run(Reader(Feed(iter([data])), DEFAULT))
    finally:
        os.close(directory)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("a long old content")
    os.link(tmp_path / "old", tmp_path / "other name")
    place(tmp_path, tar(file(b"old", mode=0o4755), file(b"sub/deep/new")))
    status = (tmp_path / "old").stat()
    assert (tmp_path / "old").read_text() == "new"
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns) == (0o4755, 7, 8, 10**18)
    assert (tmp_path / "other name").read_text() == "a long old content", "nothing is written in place"
    assert (tmp_path / "sub/deep").stat().st_mode & 0o7777 == 0o755
    assert sorted(os.listdir(tmp_path)) == ["old", "other name", "sub"]
    place(tmp_path, tar(file(b"rooted")), owners=False)
    assert (tmp_path / "rooted").stat().st_uid == 0


def test_directories_become_one_and_keep_their_times(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/kept").write_text("x")
    place(tmp_path, tar((Entry(b"d", DIRECTORY, 0o700, 1, 2, 0, 5 * 10**9), b""), file(b"d/new")))
    assert sorted(os.listdir(tmp_path / "d")) == ["kept", "new"]
    status = (tmp_path / "d").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_mtime_ns) == (0o700, 1, 5 * 10**9)


@pytest.mark.parametrize("name", [b"d", b"f/x", b"link/x"])
def test_what_is_no_directory_is_not_made_one_nor_the_other_way_round(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "outside").mkdir()
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "f").write_text("x")
    (top / "link").symlink_to("../outside")
    with pytest.raises(BadRequest):
        place(top, tar(file(name)))
    with pytest.raises(BadRequest, match="something is there"):
        place(top, tar((Entry(b"link", DIRECTORY, 0o755, 0, 0, 0, 0), b"")))
    assert os.listdir(tmp_path / "outside") == [], "nothing is followed"
    assert (top / "d").is_dir()


def test_links(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("in the way")
    count = place(
        tmp_path,
        tar(
            file(b"a/f"),
            (Entry(b"a/g", HARDLINK, 0o644, 0, 0, 0, 0, link=b"a/f"), b""),
            (Entry(b"a/f", HARDLINK, 0o644, 0, 0, 0, 0, link=b"a/g"), b""),
            (Entry(b"s", SYMLINK, 0o777, 3, 4, 0, 10**9, link=b"/nowhere"), b""),
        ),
    )
    assert count == 4
    assert (tmp_path / "a/f").stat().st_ino == (tmp_path / "a/g").stat().st_ino
    assert os.readlink(tmp_path / "s") == "/nowhere"
    assert os.lstat(tmp_path / "s").st_uid == 3
    assert sorted(os.listdir(tmp_path / "a")) == ["f", "g"]


@pytest.mark.parametrize(
    "entry",
    [
        file(b"../up"),
        file(b"a/../../up"),
        (Entry(b"h", HARDLINK, 0o644, 0, 0, 0, 0, link=b"../secret"), b""),
        (Entry(b"h", HARDLINK, 0o644, 0, 0, 0, 0, link=b"link/secret"), b""),
        (Entry(b"w", CHAR, 0o644, 0, 0, 0, 0), b""),
    ],
)
def test_tars_that_mean_harm(tmp_path: Path, entry: tuple[Entry, bytes]) -> None:
    (tmp_path / "secret").write_text("secret")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to("..")
    with pytest.raises(AsyncrtError) as caught:
        place(top, tar(entry))
    assert (
        isinstance(caught.value, BadRequest | BadImage)
        or "symbolic" in str(caught.value)
        or "not a" in str(caught.value)
    )
    assert sorted(os.listdir(tmp_path)) == ["secret", "top"]
    assert os.listdir(top) == ["link"]
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_an_absolute_name_is_one_below(tmp_path: Path) -> None:
    place(tmp_path, tar(file(b"/etc-of-mine")))
    assert (tmp_path / "etc-of-mine").read_text() == "new"


def copied(origin: Path, name: bytes, target: Path, shown: bytes) -> int:
    parent = os.open(origin, os.O_RDONLY | os.O_DIRECTORY)
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = packed(parent, name, shown)
        with piped(lambda sink: changes.write(found, sink, "plain", live=True)) as chunks:
            return Placer(top, never, owners=True).run(Reader(Feed(chunks), DEFAULT))
    finally:
        os.close(parent)
        os.close(top)


def racing(deed: Callable[[], object]) -> Callable[[], None]:
    """Somebody who does this over and over; the answer ends it."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            deed()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def test_a_directory_that_is_swapped_for_a_symlink_leads_nowhere(tmp_path: Path) -> None:
    """CVE-2018-15664: on both sides, as fast as one can."""
    secret, jail, out = tmp_path / "secret", tmp_path / "jail", tmp_path / "out"
    for directory in (secret, jail, out):
        directory.mkdir()
    (secret / "key").write_text("the machine's")
    (jail / "real").mkdir()
    (jail / "real/key").write_text("the container's")
    (jail / "link").symlink_to(secret)

    def swap() -> None:
        for name, other in (("real", "link"), ("link", "real")):
            with contextlib.suppress(OSError):  # the copy makes a directory of either name meanwhile
                os.rename(jail / name, jail / "spare")
                os.rename(jail / other, jail / name)
                os.rename(jail / "spare", jail / other)

    end = racing(swap)
    try:
        for _ in range(300):
            try:
                copied(tmp_path, b"jail", out, b"copy")
            except AsyncrtError:
                continue
            finally:
                for path in out.rglob("key"):
                    assert path.read_text() == "the container's"
        (tmp_path / "source/real").mkdir(parents=True)
        (tmp_path / "source/real/planted").write_text("x")
        for _ in range(300):
            try:
                copied(tmp_path, b"source", tmp_path, b"jail")
            except AsyncrtError:
                continue
        assert os.listdir(secret) == ["key"]
    finally:
        end()


def test_a_file_that_is_written_meanwhile(tmp_path: Path) -> None:
    """What vanishes is left out, what shrinks is filled up: a copy of a living tree does not fail."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    growing = tmp_path / "from/log"

    def churn() -> None:
        growing.write_bytes(b"x" * 300_000)
        (tmp_path / "from/fleeting").write_bytes(b"y")
        growing.write_bytes(b"")
        (tmp_path / "from/fleeting").unlink()

    end = racing(churn)
    try:
        for _ in range(50):
            copied(tmp_path, b"from", tmp_path / "to", b"copy")
    finally:
        end()


def test_without_o_tmpfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has none: under another name until it is whole."""
    monkeypatch.setattr("asyncrt.layers.place._NAMELESS", os.O_RDONLY | os.O_DIRECTORY | os.O_CREAT)
    place(tmp_path, tar(file(b"x")))
    assert [(path.name, stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()] == [("x", 0o644)]
