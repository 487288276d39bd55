"""The native door: frames that are cut, foreign, too long or come in pieces; clients that leave or stall."""

import array
import os
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec
import pytest

from asyncrt.errors import AsyncrtError, BadRequest, Conflict, NoSuchObject
from asyncrt.model.options import ExecOptions, Options, Volume
from asyncrt.model.protocol import (
    HEADER,
    Attach,
    Call,
    Create,
    Events,
    Exec,
    Info,
    Kill,
    List,
    Logs,
    Run,
    Stop,
    Version,
    Wait,
    frame,
)
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client
from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


@pytest.fixture
def client(shared: Engine) -> Iterator[Client]:
    with Client(str(shared.socket), timeout=30) as made:
        yield made


@pytest.fixture
def line(shared: Engine) -> Iterator[socket.socket]:
    """A connection without manners."""
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(20)
        made.connect(str(shared.socket))
        yield made


def answer(line: socket.socket) -> list[object]:
    head = b""
    while len(head) < HEADER.size:
        head += line.recv(HEADER.size - len(head)) or pytest.fail("the connection ended")
    length, _ = HEADER.unpack(head)
    body = b""
    while len(body) < length:
        body += line.recv(length - len(body))
    decoded = msgspec.msgpack.decode(body)
    assert isinstance(decoded, list)
    return decoded


def ended(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_frame_in_pieces_and_two_in_one(line: socket.socket) -> None:
    for byte in frame(Call(1, Version())):
        line.send(bytes([byte]))
    assert answer(line)[:2] == ["e", 1]
    line.sendall(frame(Call(2, Version())) + frame(Call(3, Version())))
    assert {answer(line)[1], answer(line)[1]} == {2, 3}


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, HEADER.pack(3, 0) + b"\xc1\xc1\xc1", HEADER.pack(1, 5) + b"\x00"],
    ids=["http", "too long", "no msgpack", "fds that did not come"],
)
def test_garbage_ends_the_connection_and_nothing_else(shared: Engine, line: socket.socket, garbage: bytes) -> None:
    line.sendall(garbage)
    assert ended(line)
    assert shared.cli("info").returncode == 0


def test_an_unknown_request_is_refused_by_number(shared: Engine, line: socket.socket) -> None:
    for number, request in ((7, {"type": "Fly"}), (8, {"type": "Start", "refs": 3}), (9, {"type": "Info", "more": 1})):
        body = msgspec.msgpack.encode(["c", number, request])
        line.sendall(HEADER.pack(len(body), 0) + body)
        kind, told, error = answer(line)
        assert (kind, told) == ("f", number)
        assert isinstance(error, dict)
        assert error["kind"] == "bad-request"
    line.sendall(frame(Call(10, Info())))
    assert answer(line)[:2] == ["e", 10]


def open_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_fds_that_nobody_wants_are_closed(shared: Engine) -> None:
    pid = shared.supervisor_pid()
    before = open_fds(pid)
    for _ in range(5):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(shared.socket))
            pipes = [os.pipe() for _ in range(20)]
            fds = [fd for pair in pipes for fd in pair]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            line.sendmsg([frame(Call(1, Version()), len(fds))], rights)
            line.sendmsg([frame(Call(2, Version()), 3)[:-1]], rights)  # a frame that is never whole
            close_all(fds)
            answer(line)
    until(lambda: open_fds(pid) <= before, "the supervisor holds no more fds than before")


def test_errors_are_typed(client: Client, image: str) -> None:
    with pytest.raises(NoSuchObject, match="inspect nobody: there is no such container"):
        client.inspect(["nobody"])
    with pytest.raises(BadRequest, match="in lower case it would be one"):
        client.call(Run(Options("X:y", args=("true",)))).result()
    with pytest.raises(NoSuchObject, match="it is not unpacked"):
        client.call(Run(Options(f"layers:sha256:{'0' * 64}", args=("true",)))).result()
    with pytest.raises(BadRequest, match="at once are not possible"):
        client.call(Create(Options(image, args=("true",)), 0)).result()
    with pytest.raises(BadRequest, match="at once are not possible"):
        client.call(Create(Options(image, args=("true",)), 1_000_000)).result()
    with pytest.raises(BadRequest, match="3 fds are needed, 0 came"):
        client.call(Exec("nobody", ExecOptions(("true",)))).result()
    with pytest.raises(BadRequest, match="attaching takes one container"):
        client.call(Run(Options(image, args=("true",)), 2, True)).result()
    (id,) = client.call(Create(Options(image, args=("true",)))).result()
    with pytest.raises(Conflict, match="it is not running"):
        client.call(Attach(id, stdout=-1, stderr=-1)).result()
    with pytest.raises(BadRequest, match="fds and streams do not match"):
        client.call(Attach(id)).result()
    (outcome,) = [value for value, _ in client.call(Kill((id,), 99))]
    assert outcome["error"]["cause"] == "there is no signal 99"


@pytest.mark.parametrize(
    "options",
    [
        {"hostname": "a b"},
        {"memory": 5},
        {"memory": -7},
        {"cpus": float("nan")},
        {"cpus": -2.0},
        {"pids_limit": -3},
        {"env": ("novalue",)},
        {"env": ("A=\0",)},
        {"workdir": "here"},
        {"user": "-1"},
        {"user": "0x0"},
        {"user": "99999999999"},
        {"volumes": (Volume("relative", "/x"),)},
        {"volumes": (Volume("/tmp", "/"),)},
        {"volumes": (Volume("/tmp", "/x/../.."),)},
        {"name": "../../etc"},
        {"cap_add": ("CAP_NONE",)},
        {"cpuset_cpus": "a"},
    ],
    ids=str,
)
def test_options_that_no_command_line_would_let_through(client: Client, image: str, options: dict[str, object]) -> None:
    wish = msgspec.structs.replace(Options(image, args=("true",)), **options)
    with pytest.raises((BadRequest, NoSuchObject)):
        client.call(Run(wish)).result()
    assert client.containers(all=True) == []


def test_what_looks_like_a_path_stays_a_name(client: Client, shared: Engine) -> None:
    for ref in ("../x", "/etc/passwd", "", "a" * 5000, "\0"):
        with pytest.raises(AsyncrtError):
            client.call(Logs(ref)).result()


def test_a_client_that_leaves_cancels_what_it_waited_for(shared: Engine, image: str) -> None:
    with Client(str(shared.socket), timeout=30) as client:
        (id,) = client.call(Run(Options(image, args=("sleep", "600")))).result()
        client.call(Wait((id,)))
        client.call(Events())
        client.call(Stop((id,), 600.0))
    assert watch.alive(shared.inspect(id)["pid"]), "nothing that was done is undone"
    shared.cli("kill", id, check=True)


def test_one_that_does_not_read_holds_up_nobody(shared: Engine, image: str, line: socket.socket) -> None:
    """Its answers fill its socket; the others are served."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    shared.cli("create", "--count", "200", image, "true", check=True)
    for number in range(100):
        line.sendall(frame(Call(number, List(True))))
    assert len(shared.ids()) == 200
    assert shared.cli("run", image, "true").returncode == 0


def test_many_clients_at_once(shared: Engine, image: str) -> None:
    seen: list[int] = []

    def ask() -> None:
        with Client(str(shared.socket), timeout=60) as client:
            seen.append(len(client.call(Run(Options(image, args=("true",)))).result()))

    threads = [threading.Thread(target=ask) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [1] * 60


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def test_attach_from_offsets_while_it_runs_and_after(client: Client, image: str) -> None:
    script = "printf 0123456789; until [ -e /go ]; do sleep 0.05; done; printf abc"
    (id,) = client.call(Run(Options(image, args=("sh", "-c", script)))).result()

    def size() -> int:
        files = client.logs(id)
        try:
            return os.fstat(files["stdout"]).st_size if "stdout" in files else 0
        finally:
            close_all(files.values())

    until(lambda: size() == 10, "it wrote")
    readers = []
    for offset in (0, 7, -2):
        read_end, write_end = os.pipe()
        client.attach(id, [write_end], stdout=offset, stderr=-1)
        os.close(write_end)
        readers.append(read_end)
    null = os.open(os.devnull, os.O_RDWR)
    call = client.execute(id, ExecOptions(("touch", "/go")), [null, null, null])
    os.close(null)
    call.result()
    assert [read_all(fd) for fd in readers] == [b"0123456789abc", b"789abc", b"abc"]
    client.wait([id])
    readers = []
    for offset in (0, 12, 13, -2):
        read_end, write_end = os.pipe()
        client.attach(id, [write_end], stdout=offset, stderr=-1)
        os.close(write_end)
        readers.append(read_end)
    assert [read_all(fd) for fd in readers] == [b"0123456789abc", b"c", b"", b""], "the log of one that ended"


def test_attach_to_an_ended_one_at_the_readers_pace(client: Client, image: str, shared: Engine) -> None:
    (id,) = client.call(Run(Options(image, args=("sh", "-c", "yes | head -c 3000000")))).result()
    client.wait([id])
    pid, before = shared.supervisor_pid(), open_fds(shared.supervisor_pid())
    read_end, write_end = os.pipe()
    client.attach(id, [write_end], stdout=0, stderr=-1)
    os.close(write_end)
    assert client.info()["containers"] == 1, "the supervisor answers meanwhile"
    assert len(read_all(read_end)) == 3_000_000
    read_end, write_end = os.pipe()
    client.attach(id, [write_end], stdout=0, stderr=-1)
    os.close(write_end)
    os.close(read_end)  # a reader that leaves
    until(lambda: open_fds(pid) <= before, "nothing is held for it")


def test_wait_for_several_one_of_which_is_removed(shared: Engine, client: Client, image: str) -> None:
    fresh, busy = client.call(Create(Options(image, args=("sleep", "600")), 2)).result()
    client.call(Kill((busy,)))
    list(client.start([busy]))
    waiting = client.call(Wait((fresh, busy)))
    client.info()
    assert [outcome.error for outcome in client.remove([fresh])] == [None]
    assert [outcome.error for outcome in client.kill([busy])] == [None]
    first, second = waiting.result()
    assert first["error"]["cause"] == "it was removed before it ran"
    assert second["exit"]["code"] == 137


def test_events_from_any_number_on(shared: Engine, client: Client, image: str) -> None:
    begin = client.info()["last_event"]
    following = client.call(Events(after=begin))
    for _ in range(5):
        shared.cli("run", "--rm", image, "true", check=True)
    until(lambda: client.info()["last_event"] >= begin + 20, "all is told")
    live = [next(following)[0]["seq"] for _ in range(20)]
    assert live == list(range(begin + 1, begin + 21))
    again = [value["seq"] for value, _ in client.call(Events(after=begin + 7, follow=False))]
    assert again == list(range(begin + 8, begin + 21))
    following.close()


def test_the_header_is_what_the_protocol_says() -> None:
    assert struct.calcsize("!IH") == HEADER.size == 6
