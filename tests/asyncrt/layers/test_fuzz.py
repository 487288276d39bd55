"""Tars made wrong at random: the reader and the extractor end in one of two ways, and nowhere else.

    python -m tests.asyncrt.layers.test_fuzz SECONDS [SEED]      (just fuzz-tar)

Seeds are the tables of the tests. A mutant has bytes flipped, fields replaced, blocks swapped, cut or doubled; most get
their checksums mended, so that it is not the checksum alone that is tested. Each is read in chunks of some size and
unpacked in both styles. It must be read, or refused by BadImage (StorageFailed where the kernel refuses); what lies
beside the tree must not change.
"""

import gzip
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import zstandard

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.layers.limits import DEFAULT
from tests.asyncrt.layers import test_extract, test_reader
from tests.asyncrt.layers.tars import END, directory, file, hardlink, padded, pax, read, record, signed, symlink, unpack

LIMITS = DEFAULT._replace(tar_bytes=8 << 20, file_bytes=1 << 24, entries=2000, ratio_from=1 << 16)
GOOD = [
    directory(b"a/") + file(b"a/b", b"x" * 700) + hardlink(b"c", b"a/b") + symlink(b"d", b"a") + file(b"d/e"),
    pax((b"path", b"p" * 150), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"1")) + file(b"p", b"1") + file(b".wh.a"),
    file(b"././@LongLink", b"l" * 200 + b"\0", kind=b"L") + file(b"l") + file(b"a/.wh..wh..opq"),
    *(sparse + padded(b"abcde") for sparse in test_reader.SPARSE.values()),
]
SEEDS = [*GOOD, *test_reader.HOSTILE.values(), *test_extract.HOSTILE.values()]
WORDS = [
    b"../",
    b"/",
    b".",
    b"..",
    b".wh.",
    b".wh..wh..opq",
    b"\0",
    b"\x80" + bytes(11),
    b"\xff" * 12,
    b"77777777777",
    b"a",
]
WORDS += [record(b"path", b"../x"), record(b"size", b"9" * 18), record(b"GNU.sparse.major", b"1"), b"0123456SLKxg\x00"]


def mutant(chance: random.Random) -> bytes:
    """One tar, or nearly."""
    seeds = GOOD if chance.random() < 0.7 else SEEDS
    data = bytearray(b"".join(chance.choice(seeds)[: 1 << 16] for _ in range(chance.randint(1, 4))) + END)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                word = chance.choice(WORDS)
                data[at : at + len(word)] = word
            case 2:
                word, field = chance.choice(WORDS), chance.choice((0, 100, 124, 148, 156, 157, 257, 345, 386, 482, 483))
                start = at // 512 * 512 + field
                data[start : start + len(word)] = word
            case 3:
                del data[at // 512 * 512 : at // 512 * 512 + 512 * chance.randint(1, 3)]
            case 4:
                data[at // 512 * 512 : at // 512 * 512] = data[: 512 * chance.randint(1, 4)]
            case 5:
                del data[at:]
            case 6:
                data[at // 512 * 512 + 156 : at // 512 * 512 + 157] = chance.choice(b"01234567xgLKSVDMN\0").to_bytes()
        if not data:
            data = bytearray(END)
    if chance.random() < 0.9:
        for start in range(0, len(data) - 511, 512):
            block = bytes(data[start : start + 512])
            if block[257:262] == b"ustar" and chance.random() < 0.97:
                data[start : start + 512] = signed(block)
    return bytes(data)


def stored(chance: random.Random, data: bytes) -> bytes:
    """The tar as a registry has it; now and then damaged."""
    kind = chance.randrange(4)
    if kind == 0:
        data = gzip.compress(data, 1)
    elif kind == 1:
        data = zstandard.compress(data)
    if kind < 2 and chance.random() < 0.3:
        damaged = bytearray(data)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        data = bytes(damaged[: chance.randrange(1, len(damaged) + 1)] if chance.random() < 0.3 else damaged)
    return data


def in_one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def trial(seed: int, place: Path) -> str:
    """One mutant; what became of it. Whatever is raised but the two errors is a finding."""
    chance = random.Random(seed)
    data = mutant(chance)
    try:
        read(data, LIMITS, chance.choice((1 << 20, 512, 100)))
    except BadImage as error:
        in_one_line(error)
    outcome = "unpacked"
    tree = place / "tree"
    try:
        for _ in range(2):
            unpack(stored(chance, data), tree, chance.choice(("overlay-user", "remove")), LIMITS)
            data = mutant(chance)
    except (BadImage, StorageFailed) as error:
        in_one_line(error)
        outcome = type(error).__name__
    finally:
        if tree.exists():
            shutil.rmtree(tree)
    assert sorted(os.listdir(place)) == ["outside"]
    assert os.listdir(place / "outside") == ["precious"]
    assert (place / "outside/precious").read_text() == "kept"
    return outcome


def run(seconds: float, seed: int) -> dict[str, int]:
    """Trials for so long; how many ended how."""
    count: dict[str, int] = {}
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="fuzz-tar-") as name:
        place = Path(name)
        (place / "outside").mkdir()
        (place / "outside/precious").write_text("kept")
        while time.monotonic() < end:
            try:
                outcome = trial(seed, place)
            except BaseException:
                print(f"fuzz-tar: found with seed {seed}", file=sys.stderr)
                raise
            count[outcome] = count.get(outcome, 0) + 1
            seed += 1
    return count


def test_a_little() -> None:
    assert len(run(2.0, 0)) >= 2


if __name__ == "__main__":
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 40)
    print(f"fuzz-tar: from seed {first}", flush=True)
    print(run(float(sys.argv[1]), first))
