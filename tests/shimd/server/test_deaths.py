"""Who dies when, and who goes on: shim, supervisor, zygote; a disk without room."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from shimd.wire.codec import unpack_record
from shimd.wire.messages import Ended, Query, Release, Standing
from tests.shimd.configs import config, shell
from tests.shimd.line import alive, connect, gone, read_all, read_exactly, until
from tests.shimd.stage import FROM_NOW, Container, Stage, opened

pytestmark = pytest.mark.root


def socket_of(container: Container) -> Path:
    return container.stage.state / "shims" / f"{container.id}.sock"


# the shim


def test_a_killed_shim_takes_its_container_along(stage: Stage) -> None:
    container, other = stage.start(shell("sleep 60 & sleep 60")), stage.start(config("sleep", "60"))
    os.kill(container.shim_pid, 9)
    assert container.gone() == []
    assert gone(container.pid)
    # The zygote and the others go on.
    assert other.query().state == "running"
    assert stage.run(config("true")).heard
    # What it leaves is found by its name.
    with pytest.raises(ConnectionRefusedError):
        connect(stage.state, container.id)


def test_a_killed_shim_takes_a_user_s_process_along(stage: Stage) -> None:
    """A change of user clears the parent death signal: it is set after it."""
    container = stage.start(config("sleep", "60", process={"user": {"uid": 1000, "gid": 1000}}))
    os.kill(container.shim_pid, 9)
    assert gone(container.pid)


@pytest.mark.parametrize("packet", [b"\xc1 nonsense", msgpack.packb([13, 1, "nine", ""])])
def test_a_packet_that_is_no_message_only_costs_the_line(stage: Stage, packet: bytes) -> None:
    container = stage.start(config("sleep", "60"))
    container.end.send(packet)
    assert container.gone() == []
    again = container.reconnect()
    assert again.query().state == "running"
    again.close()


# the supervisor


def test_without_a_supervisor_it_goes_on(stage: Stage) -> None:
    container = stage.start(shell("read x; echo later; sleep 0.2; exit 11"), stdin=True)
    pen = container.attach_stdin()
    container.end.close()
    os.write(pen, b"go\n")
    assert gone(container.shim_pid)
    assert container.log("stdout") == b"later\n"
    record = unpack_record(container.log("exit"))
    assert (record.code, record.stdout_bytes) == (11, 6)
    assert stage.left_of(container) == []


def test_the_next_supervisor_finds_it(stage: Stage) -> None:
    container = stage.start(shell("echo first; read x; echo second; exit 4"), stdin=True)
    [out] = container.attach(stdout=0)
    pen = container.attach_stdin()
    container.end.close()
    line = container.reconnect()
    standing = line.query()
    assert standing._replace(timeline=[]) == Standing(
        *(standing.version, container.id, "running", container.pid, container.shim_pid),
        *(container.started().started_ns, [], [], None),
    )
    # What was attached still is.
    os.write(pen, b"go\n")
    assert read_all(out) == b"first\nsecond\n"
    ended = line.expect(Ended)
    assert unpack_record(container.log("exit")) == ended.record
    assert ended.record.code == 4
    assert line.gone() == []
    line.close()


def test_the_newest_supervisor_is_the_one(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    second = container.reconnect()
    assert second.query().state == "running"
    third = container.reconnect()
    assert third.query().state == "running"
    assert container.gone() == []
    assert second.gone() == []
    os.kill(container.pid, 9)
    assert third.expect(Ended).record.signal == 9
    second.close()
    third.close()


def test_a_late_supervisor_reads_the_record_in_standing(stage: Stage) -> None:
    """The shim stays for a reader; whoever comes meanwhile is told."""
    container = stage.start(shell("yes | head -c 1000000; exit 6"))
    container.attach(stdout=0)
    told = container.ended().record
    line = container.reconnect()
    standing = line.query()
    assert (standing.state, standing.pid, standing.record) == ("stopped", 0, told)
    [out] = container.fds
    assert len(read_all(out)) == 1000000
    assert line.gone() == []
    line.close()


def test_nothing_is_started_for_a_supervisor_that_is_gone(stage: Stage) -> None:
    container = stage.prepare()
    key = stage.template(shell("echo never"))
    stage.spawn(container, key, ticket=False)
    container.end.close()
    stage.ticket()
    # The one trace is the reason, for the next supervisor.
    assert until(lambda: container.log("exit"))
    record = unpack_record(container.log("exit"))
    assert record.code == 125
    assert "the supervisor is gone" in record.failed
    assert container.log("stdout") == b""
    assert stage.left_of(container) == []


def test_a_ticket_without_a_spawn(rootfs: Path) -> None:
    """The supervisor died between the two: nobody waits for the rest."""
    with opened(rootfs) as stage:
        living = stage.start(config("sleep", "60"))
        stage.ticket()
        stage.spawns.close()
        assert until(lambda: len(children_of(stage.zygote.pid)) == 1)
        assert living.query().state == "running"


def test_a_failed_start_is_written_for_the_next_supervisor(stage: Stage) -> None:
    container = stage.prepare()
    key = stage.template(config("no-such-program"))
    stage.spawn(container, key, ticket=False)
    stage.ticket()
    container.end.shutdown(0)  # it hears nothing any more, yet is no EOF to the shim
    container.end.close()
    assert until(lambda: container.log("exit"))
    record = unpack_record(container.log("exit"))
    assert record.code in (125, 127)
    assert record.failed
    assert until(lambda: stage.left_of(container) == [])


def test_release_frees_a_shim_that_waits(stage: Stage) -> None:
    container = stage.start(shell("yes | head -c 1000000"))
    container.attach(stdout=0)
    container.ended()
    assert container.silent(0.2)
    assert alive(container.shim_pid)
    container.say(Release())
    assert container.gone() == []
    assert stage.left_of(container) == []


def test_release_right_behind_kill_leaves_nothing(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    container.kill()
    with contextlib.suppress(BrokenPipeError):  # it may be gone by now
        container.say(Release())
    [ended] = [message for message in container.gone() if isinstance(message, Ended)]
    assert (ended.record.signal, ended.left) == (9, [])
    assert stage.left_of(container) == []


def test_release_does_not_orphan_what_lives(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    container.say(Release())
    assert container.query().state == "running"


def test_a_connection_that_says_nothing(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    silent = container.reconnect()
    silent.close()
    line = container.reconnect()
    assert line.query().state == "running"
    line.close()


# the zygote


def test_shims_outlive_their_zygote(rootfs: Path) -> None:
    with opened(rootfs) as stage:
        container = stage.start(shell("read x; echo on; exit 2"), stdin=True)
        [out] = container.attach(stdout=FROM_NOW)
        stage.zygote.kill()
        stage.zygote.wait()
        os.write(container.attach_stdin(), b"go\n")
        assert read_all(out) == b"on\n"
        assert container.ended().record.code == 2
        assert container.gone() == []


def test_the_zygote_ends_with_its_supervisor(rootfs: Path) -> None:
    with opened(rootfs) as stage:
        container = stage.start(config("sleep", "60"))
        stage.line.end.close()
        assert stage.zygote.wait(5) == 0
        assert container.query().state == "running"


def test_the_zygote_reaps_its_shims(stage: Stage) -> None:
    containers = [stage.start(config("true")) for _ in range(5)]
    for container in containers:
        container.ended()
    assert until(lambda: not children_of(stage.zygote.pid))


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# the disk


@contextmanager
def small_disk(stage_root: Path, kib: int) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "small", stage_root], check=True)
    try:
        yield stage_root
    finally:
        subprocess.run(["umount", stage_root], check=True)


def test_a_full_disk_makes_the_container_wait_and_loses_nothing(rootfs: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 512) as disk, opened(rootfs, [disk]) as stage:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(256 << 10))
        # More than the disk and the pipe hold; the end is said on stderr, which has no room either by then.
        script = "yes 0123456789abcdef | head -c 600000; echo all said >&2; exit 8"
        container = stage.start(shell(script), directory=str(disk))
        [out] = container.attach(stdout=0)
        log = disk / "stdout"
        assert until(lambda: log.exists() and log.stat().st_size >= 200 << 10)
        assert container.silent(0.3)
        assert container.query().state == "running"
        # A reader has what the log has, though the index has no room.
        assert len(read_exactly(out, log.stat().st_size)) >= 200 << 10
        subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
        record = container.ended().record
        assert (record.code, record.stdout_bytes, record.stderr_bytes) == (8, 600000, 9)
        assert log.read_bytes() == (b"0123456789abcdef\n" * 40000)[:600000]
        assert (disk / "stderr").read_bytes() == b"all said\n"
        index = (disk / "index").read_bytes()
        sizes = [0, 0, 0]
        for place in range(0, len(index), 16):
            sizes[index[place + 12]] += int.from_bytes(index[place + 8 : place + 12], "little")
        assert sizes[1:] == [600000, 9]
        read_all(out)
        assert container.gone() == []
        assert unpack_record((disk / "exit").read_bytes()) == record
        assert stage.complaints() == ""


def test_the_last_words_wait_for_room_longer_than_for_a_stranger(rootfs: Path, tmp_path: Path) -> None:
    """The container is dead, its words are in the pipe: the bound on draining is not for them."""
    with small_disk(tmp_path, 64) as disk, opened(rootfs, [disk]) as stage:
        (disk / "ballast").write_bytes(bytes(64 << 10))
        container = stage.start(shell("echo last words; exit 8"), directory=str(disk))
        assert gone(container.pid)
        assert container.silent(3.5)
        standing = container.query()
        assert (standing.state, standing.record) == ("stopped", None)
        (disk / "ballast").unlink()
        record = container.ended().record
        assert (record.code, record.stdout_bytes) == (8, 11)
        assert (disk / "stdout").read_bytes() == b"last words\n"


def test_a_record_without_room_is_held_and_written_later(rootfs: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 64) as disk, opened(rootfs, [disk]) as stage:
        (disk / "ballast").write_bytes(bytes(64 << 10))
        container = stage.start(config("sh", "-c", "exit 8"), directory=str(disk))
        assert gone(container.pid)
        assert until(lambda: "No space left" in (stage.base / "zygote.log").read_text())
        assert alive(container.shim_pid)
        # The next supervisor is told by the shim, since the disk cannot.
        container.end.close()
        line = container.reconnect()
        line.say(Query(1))
        record = line.expect(Standing).record
        assert record is not None
        assert record.code == 8
        (disk / "ballast").unlink()
        line.gone()
        line.close()
        assert unpack_record((disk / "exit").read_bytes()) == record
        assert stage.left_of(container) == []


def test_release_ends_the_wait_for_room(rootfs: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 64) as disk, opened(rootfs, [disk]) as stage:
        (disk / "ballast").write_bytes(bytes(64 << 10))
        container = stage.start(shell("echo last words; exit 8"), directory=str(disk))
        assert gone(container.pid)
        container.say(Release())
        [ended] = container.gone()
        assert isinstance(ended, Ended)
        assert stage.left_of(container) == []
