"""Blobs: committed once, never seen before they are right, found damaged when they are."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asyncrt.content.collect import drop_stale_ingests, reachable
from asyncrt.content.store import SETTLED, UNSETTLED, Content
from asyncrt.errors import BadImage, Conflict, NoSuchObject, StorageFailed
from asyncrt.model.descriptor import describe
from asyncrt.model.digest import Digest

HELLO = Digest.of(b"hello")


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Content(tmp_path)


def slurp(content: Content, digest: Digest) -> bytes:
    blob = content.open(digest)
    with os.fdopen(blob, "rb") as file:
        return file.read()


def mode(content: Content, digest: Digest) -> int:
    return os.stat(content.path(digest)).st_mode & 0o777


def test_a_blob_comes_and_goes(content: Content) -> None:
    assert content.size(HELLO) is None
    with pytest.raises(NoSuchObject, match=r"it is not in the content store \(pull it again\)"):
        content.open(HELLO)
    with content.ingest("a", HELLO) as ingest:
        ingest.write(b"hel")
        assert content.size(HELLO) is None
        ingest.write(memoryview(b"lo"))
        assert ingest.commit(5) == HELLO
    assert (content.size(HELLO), slurp(content, HELLO), list(content.digests())) == (5, b"hello", [HELLO])
    assert content.ingests() == []
    content.remove(HELLO)
    content.remove(HELLO)
    assert content.size(HELLO) is None


def test_both_algorithms_and_what_is_there_already(content: Content) -> None:
    long = Digest.of(b"hello", "sha512")
    for _ in range(2):
        content.put(b"hello", HELLO)
        content.put(b"hello", long)
    assert {*content.digests()} == {HELLO, long}
    assert content.read(describe(b"hello", "m", "sha512")) == b"hello"


@pytest.mark.parametrize(("size", "said"), [(4, "5 bytes came, where 4"), (5, "the bytes that came have the digest")])
def test_what_is_not_what_was_said_is_dropped(content: Content, size: int, said: str) -> None:
    with content.ingest("a", Digest.of(b"other")) as ingest:
        ingest.write(b"hello")
        with pytest.raises(BadImage, match=said):
            ingest.commit(size)
        assert ingest.offset == 0
        assert list(content.digests()) == []
        ingest.write(b"other")
        ingest.commit(5)
    assert content.ingests() == []
    assert list(content.digests()) == [Digest.of(b"other")]


def test_an_ingest_is_resumed(content: Content, tmp_path: Path) -> None:
    with content.ingest("a", HELLO) as ingest:
        ingest.write(b"he")
    (status,) = content.ingests()
    assert (status.ref, status.offset, status.active) == ("a", 2, False)
    with Content(tmp_path).ingest("a", HELLO) as ingest:
        assert ingest.offset == 2
        ingest.write(b"llo")
        ingest.commit(5)
    assert slurp(content, HELLO) == b"hello"


def test_an_ingest_begins_anew(content: Content) -> None:
    with content.ingest("a", HELLO) as ingest:
        ingest.write(b"something else that is longer")
    with content.ingest("a", HELLO) as ingest:
        ingest.restart()
        ingest.write(b"hello")
        ingest.commit(5)
    assert slurp(content, HELLO) == b"hello"


def test_a_ref_has_one_writer(content: Content, tmp_path: Path) -> None:
    with content.ingest("a") as ingest:
        for store in (content, Content(tmp_path)):
            with pytest.raises(Conflict, match="somebody is writing it already"):
                store.ingest("a")
        assert [status.active for status in content.ingests()] == [True]
        ingest.write(b"x")
    content.ingest("a").close()


def test_a_writer_that_comes_late_begins_anew(content: Content) -> None:
    """One that had the directory open before it was committed, and could lock it after."""
    with content.ingest("a", HELLO) as first:
        late = os.open(first._directory, os.O_RDONLY)
        first.write(b"hello")
        first.commit(5)
    with content.ingest("a", HELLO) as second:
        assert second.offset == 0
        assert not os.path.samestat(os.fstat(late), os.stat(second._directory))
        second.write(b"something else")
    os.close(late)
    assert slurp(content, HELLO) == b"hello"


def test_what_a_writer_was_killed_in_goes_on(content: Content, tmp_path: Path) -> None:
    """kill -9 in the middle of a write: every byte that write(2) took is there."""
    code = """
import sys
from pathlib import Path
from asyncrt.content.store import Content
ingest = Content(Path(sys.argv[1])).ingest("a")
while True:
    ingest.write(b"0123456789" * 1000)
    print(ingest.offset, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        for _ in range(50):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    ingest = content.ingest("a")
    assert ingest.offset >= said
    left = -ingest.offset % 10
    ingest.write(b"0123456789"[10 - left :] if left else b"")
    digest = Digest.of(b"0123456789" * (ingest.offset // 10))
    assert ingest.commit(digest=digest) == digest


def test_a_blob_is_unsettled_until_the_disk_has_it(content: Content, tmp_path: Path) -> None:
    content.put(b"hello", HELLO)
    assert mode(content, HELLO) == UNSETTLED
    assert (content.settle(), content.settle()) == (1, 0)
    assert mode(content, HELLO) == SETTLED
    # A settled one is not read again: this is how that is seen.
    os.chmod(content.path(HELLO), 0o644)
    Path(content.path(HELLO)).write_bytes(b"hellO")
    os.chmod(content.path(HELLO), SETTLED)
    os.close(Content(tmp_path).open(HELLO))


@pytest.mark.parametrize("damage", [b"hell\0", b"hell", b""])
def test_what_a_power_cut_damaged_is_found_at_the_first_open(content: Content, tmp_path: Path, damage: bytes) -> None:
    content.put(b"hello", HELLO)
    os.chmod(content.path(HELLO), 0o600)
    Path(content.path(HELLO)).write_bytes(damage)
    os.chmod(content.path(HELLO), UNSETTLED)
    after = Content(tmp_path)
    with pytest.raises(BadImage, match="it was damaged and is removed: pull it again"):
        after.open(HELLO)
    assert after.size(HELLO) is None
    after.put(b"hello", HELLO)
    assert slurp(after, HELLO) == b"hello"


def test_what_a_power_cut_damaged_is_replaced_by_a_pull(content: Content, tmp_path: Path) -> None:
    content.put(b"hello", HELLO)
    os.chmod(content.path(HELLO), 0o600)
    Path(content.path(HELLO)).write_bytes(b"\0\0\0\0\0")
    os.chmod(content.path(HELLO), UNSETTLED)
    after = Content(tmp_path)
    after.put(b"hello", HELLO)
    assert slurp(Content(tmp_path), HELLO) == b"hello"


def test_settling_removes_what_is_damaged(content: Content, tmp_path: Path) -> None:
    content.put(b"hello", HELLO)
    content.put(b"other", Digest.of(b"other"))
    os.chmod(content.path(HELLO), 0o600)
    Path(content.path(HELLO)).write_bytes(b"")
    os.chmod(content.path(HELLO), UNSETTLED)
    after = Content(tmp_path)
    assert after.settle() == 1
    assert list(after.digests()) == [Digest.of(b"other")]


def test_a_small_blob_is_held_against_its_descriptor(content: Content) -> None:
    content.put(b"hello", HELLO)
    assert content.read(describe(b"hello", "m")) == b"hello"
    with pytest.raises(BadImage, match="5 bytes, where 4 are the most"):
        content.read(describe(b"hello", "m"), most=4)
    content.settle()
    os.chmod(content.path(HELLO), 0o600)
    Path(content.path(HELLO)).write_bytes(b"hello, and more")
    os.chmod(content.path(HELLO), SETTLED)
    with pytest.raises(BadImage, match="6 bytes, where its descriptor says 5"):
        content.read(describe(b"hello", "m"))


# Collection


def test_what_nothing_reaches_goes(content: Content) -> None:
    digests = [Digest.of(b"%d" % n) for n in range(5)]
    for n, digest in enumerate(digests):
        content.put(b"%d" % n, digest)
    names = [str(digest) for digest in digests]
    live = reachable([names[0], "sha256:gone"], {names[0]: names[1:3], names[2]: [names[0]], names[4]: [names[1]]})
    assert live == {*names[:3], "sha256:gone"}
    assert {*content.collect(lambda: live)} == {*digests[3:]}
    assert {*content.digests()} == {*digests[:3]}


def test_what_is_in_flight_stays(content: Content) -> None:
    """Held before, held while marking, committed while marking; and a hold that ended before it counts no more."""
    blobs = {name: Digest.of(name.encode()) for name in ("before", "while", "committed", "ended", "old")}
    for name in ("before", "ended", "old"):
        content.put(name.encode(), blobs[name])
    with content.hold([blobs["ended"], blobs["ended"]]):
        pass
    hold = content.hold([blobs["before"], blobs["before"]])
    hold.__enter__()

    def mark() -> set[str]:
        with content.hold([blobs["while"]]):
            content.put(b"while", blobs["while"])
        content.put(b"committed", blobs["committed"])
        hold.__exit__(None, None, None)
        with pytest.raises(StorageFailed, match="another collection is under way"):
            content.collect(set)
        return set()

    assert {*content.collect(mark)} == {blobs["ended"], blobs["old"]}
    assert {*content.collect(set)} == {blobs["before"], blobs["while"], blobs["committed"]}


def test_collecting_beside_pulls_never_takes_what_they_need(content: Content) -> None:
    references: set[str] = set()  # the metadata
    stop = threading.Event()

    def pull(number: int) -> None:
        for turn in range(60):
            data = b"%d %d" % (number % 2, turn)  # two pulls of the same content
            digest = Digest.of(data)
            with content.hold([digest]):
                if content.size(digest) is None:
                    with contextlib.suppress(Conflict):
                        content.put(data, digest)
                while content.size(digest) is None:
                    pass
                references.add(str(digest))
            assert content.size(digest) is not None
            assert slurp(content, digest) == data

    def collect() -> None:
        while not stop.is_set():
            content.collect(lambda: set(references))

    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            pull(number)
        except BaseException as error:  # noqa: BLE001 - of another thread, to be shown by this one
            failures.append(error)

    collector = threading.Thread(target=collect)
    pulls = [threading.Thread(target=guarded, args=[number]) for number in range(4)]
    for thread in (collector, *pulls):
        thread.start()
    for thread in pulls:
        thread.join(60)
    stop.set()
    collector.join(60)
    assert not failures
    assert len(list(content.digests())) == 120


def test_ingests_that_nobody_goes_on_with(content: Content) -> None:
    for name in ("old", "leased", "active"):
        with content.ingest(name) as ingest:
            ingest.write(b"x")
    content.ingest("empty").close()
    with content.ingest("active"):
        assert drop_stale_ingests(content, kept=["leased"]) == 0
        assert drop_stale_ingests(content, kept=["leased"], older_ns=0) == 1
    assert sorted(status.ref for status in content.ingests()) == ["active", "leased"]


@pytest.mark.root
def test_a_full_disk_keeps_what_fitted(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        content = Content(tmp_path)
        data = os.urandom(2 << 20)
        with content.ingest("a", Digest.of(data)) as ingest:
            with pytest.raises(StorageFailed, match=r"write blob a: no space left on device \(free some space"):
                ingest.write(data)
            assert 0 < ingest.offset < 1 << 20
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        with content.ingest("a", Digest.of(data)) as ingest:
            ingest.write(memoryview(data)[ingest.offset :])
            ingest.commit(len(data))
        assert slurp(content, Digest.of(data)) == data
    finally:
        subprocess.run(["umount", tmp_path], check=True)
