"""start.c reads what comes out of a socket: whatever that is, it stays inside its buffers and takes Spawns only."""

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimd.linux import script
from shimd.wire.codec import WireError, decode, encode
from shimd.wire.messages import RootMount, Spawn
from tests.shimd.configs import config
from tests.shimd.line import until
from tests.shimd.stage import Stage

HERE = Path(__file__).parent
SEED = 20260101
MUTANTS = 20_000
COMPILER = shutil.which("gcc")
Packet = tuple[bytes, int]


def spawn(**changes: object) -> Spawn:
    usual = Spawn("0" * 64, "t0", "box", ["A=1"], [], "/c/x", "/dir", [], 123456789)
    return usual._replace(root=[RootMount("overlay", ["/low"], "/up", "/work")])._replace(**changes)  # type: ignore[arg-type]


def seeds() -> list[Packet]:
    """Spawns as they come, and odd ones."""
    root = RootMount("overlay", ["/low"] * 200, "/up", "/work")
    odd = [
        spawn(),
        spawn(hostname="", env=[]),
        spawn(root=[RootMount("bind", ["/root"])]),
        spawn(root=[RootMount("bind", [])]),
        spawn(root=[]),
        spawn(root=[root]),
        spawn(root=[root._replace(lower=["/low"] * 128)]),
        spawn(root=[root._replace(lower=["/low"] * 300)]),
        spawn(root=[root, root]),
        spawn(env=[f"N{number}=x" for number in range(32)]),
        spawn(env=[f"N{number}=x" for number in range(33)]),
        spawn(env=[f"N{number}=x" for number in range(256)]),
        spawn(env=[f"N{number}=x" for number in range(300)]),
        spawn(env=["A=1", "A=2"]),
        spawn(env=["no sign"]),
        spawn(env=["="]),
        spawn(env=[""]),
        spawn(env=["PATH=/x"]),
        spawn(env=["HOME=/x"]),
        spawn(env=["L=" + "x" * 49_000]),
        spawn(env=["L=" + "x" * 20_000, "M=" + "x" * 28_000]),
        spawn(id=""),
        spawn(id="x" * 70_000),
        spawn(cgroup="x" * 49_000),
        spawn(hostname="a\0b"),
        spawn(sent_ns=2**64 - 1),
        spawn(sent_ns=-1),
    ]
    packets = [(encode(one), 1 + len(one.trees)) for one in odd]
    packets.append((encode(spawn(trees=["/srv", "/low"])), 3))
    packets.append((encode(spawn(trees=["/srv", "/low"])), 1))
    packets.append((encode(spawn(trees=[f"/{number}" for number in range(252)])), 253))
    return packets


def broken() -> list[Packet]:
    """Packets that say more than there is."""
    huge = (
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xcf" + b"\xff" * 8,
    )
    made: list[Packet] = [(b"", 0), (b"\x9a", 1), (b"\x9a\x06", 1)]
    whole = encode(spawn())
    for place in range(len(whole)):
        made.append((whole[:place], 1))
        made += [(whole[:place] + more + whole[place + 1 :], 1) for more in huge]
        made.append((whole[:place] + b"\0" + whole[place + 1 :], 1))
    made.append((whole + b"\0", 1))
    return made


def mutants(random: random.Random) -> Iterator[Packet]:
    """Bytes changed, cut out, doubled."""
    packets = [(packet, fds) for packet, fds in seeds() if len(packet) < 5000]
    for _ in range(MUTANTS):
        packet, fds = random.choice(packets)
        found = bytearray(packet)
        for _ in range(random.randint(1, 4)):
            place = random.randrange(len(found) + 1)
            length = random.choice((0, 1, 1, 2, 9))
            filling = random.choice((random.randbytes(length), bytes(found[place : place + 9]), b""))
            found[place : place + length] = filling
        yield bytes(found), random.choice((fds, fds, 0, 253))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fuzz_start.c with both sanitizers."""
    if COMPILER is None or not script.usable():
        pytest.skip("needs gcc and x86_64")
    made = tmp_path_factory.mktemp("fuzz") / "fuzz_start"
    sources = [HERE / "fuzz_start.c", HERE.parents[2] / "shimd/linux/script.c"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-builtin"]
    built = subprocess.run([COMPILER, "-g", "-O1", *sanitizers, "-o", made, *sources], capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip("gcc has no sanitizers here")
    if built.returncode and "stdint.h: No such file" in built.stderr:
        pytest.skip("no headers of a C library here: libc6-dev")
    assert built.returncode == 0, built.stderr
    return made


def verdicts(driver: Path, packets: list[Packet]) -> str:
    fed = b"".join(struct.pack("<II", len(packet), fds) + packet for packet, fds in packets)
    done = subprocess.run([driver], input=fed, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found = done.stdout.decode()
    assert len(found) == len(packets)
    return found


def test_the_usual_one_is_filled_in(driver: Path) -> None:
    assert verdicts(driver, seeds()[:1]) == "f"


def test_no_packet_gets_beyond_a_buffer(driver: Path) -> None:
    packets = [*seeds(), *broken(), *mutants(random.Random(SEED))]
    found = verdicts(driver, packets)
    assert set(found) == set("-uf"), "all three ways are taken"
    for (packet, _), verdict in zip(packets, found, strict=True):
        if verdict != "-":
            assert isinstance(decoded(packet), Spawn), packet


def decoded(packet: bytes) -> object:
    """What the reference takes it for."""
    try:
        return decode(packet)
    except WireError as error:
        return error


TEXTS = [
    *(
        b"\xc3\xa9",
        b"\xe2\x82\xac",
        b"\xf0\x9f\x90\xb3",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\x7f",
    ),
    *(b"\x80", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80"),
    *(b"\xf5\x80\x80\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x90", b"\xc3A", b"\xe2\x82A"),
]


def test_texts_are_judged_as_the_decoder_does(driver: Path) -> None:
    """Or a container would be started that nobody can hold: its shim decodes the Spawn later on."""
    whole = encode(spawn(hostname="HOST"))
    packets = [(whole.replace(b"\xa4HOST", bytes([0xA0 + len(text)]) + text), 1) for text in TEXTS]
    expected = ["f" if isinstance(decoded(packet), Spawn) else "-" for packet, _ in packets]
    assert set(expected) == {"f", "-"}
    assert list(verdicts(driver, packets)) == expected


@pytest.mark.root
def test_a_broken_packet_starts_nothing(stage: Stage) -> None:
    """The shim that got it says why on stderr and ends; the zygote and the next container know nothing of it."""
    key = stage.template(config("sleep", "600"))
    whole = encode(spawn(template=key))
    packets = [whole[:place] for place in (1, 5, 60, len(whole) - 1)]
    packets += [
        whole + b"\0",
        b"\xdd\xff\xff\xff\xff",
        b"\x9a\x06" + b"\xdb\xff\xff\xff\xff" * 9,
        whole.replace(b"A=1", b"A\x001"),
    ]
    before = len(cgroups(stage))
    for packet in packets:
        container = stage.prepare()
        stage.spawns.sendmsg([packet], [(1, 1, struct.pack("i", container.theirs.fileno()))])
        container.theirs.close()
        stage.ticket()
        container.gone()
        assert stage.left_of(container) == []
    assert until(lambda: (stage.base / "zygote.log").read_text().count("Traceback") >= len(packets) - 1)
    assert stage.complaints().count("Traceback") >= len(packets) - 1
    assert len(cgroups(stage)) == before
    assert stage.start(config("sleep", "600")).query().state == "running"


def cgroups(stage: Stage) -> list[Path]:
    return [path for tree in stage.hierarchies for path in Path(tree.mount + stage.cgroup).iterdir() if path.is_dir()]
