"""What the tar reader makes of headers: those of every dialect, and those that it must refuse."""

import base64

import pytest

from asyncrt.errors import BadImage
from asyncrt.layers.entry import DIRECTORY, FILE, HARDLINK, SYMLINK
from asyncrt.layers.limits import Limits
from asyncrt.layers.sparse import Sparse
from tests.asyncrt.layers.tars import (
    END,
    GNU,
    directory,
    file,
    hardlink,
    header,
    octal,
    padded,
    pax,
    read,
    record,
    signed,
    symlink,
)

LONG = b"/".join([b"d" * 60] * 5)


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 1 << 20])
def test_chunks_of_any_size(size: int) -> None:
    data = directory(b"a/") + file(b"a/b", b"x" * 1000, mode=0o4755) + symlink(b"a/c", b"b") + hardlink(b"d", b"a/b")
    entries = read(data + END, size=size)
    assert [(entry.name, entry.kind, entry.mode, content) for entry, content in entries] == [
        (b"a", DIRECTORY, 0o755, b""),
        (b"a/b", FILE, 0o4755, b"x" * 1000),
        (b"a/c", SYMLINK, 0o777, b""),
        (b"d", HARDLINK, 0o644, b""),
    ]
    assert [entry.link for entry, _ in entries[2:]] == [b"b", b"a/b"]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b"./a", b"a"),
        (b"/a", b"a"),
        (b"a//b", b"a/b"),
        (b"a/./b", b"a/b"),
        (b"./", b""),
        (b".", b""),
        (b"/", b""),
        (b".hidden", b".hidden"),
        (b"..a/b..", b"..a/b.."),
        (b"a/...", b"a/..."),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_names_are_made_relative(raw: bytes, clean: bytes) -> None:
    assert read(header(raw, b"5") + END)[0][0].name == clean


@pytest.mark.parametrize("end", [b"", bytes(512), END, END + b"what follows is passed over"])
def test_ends(end: bytes) -> None:
    assert len(read(file(b"a", b"1") + end)) == 1


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (header(b"b", prefix=b"a"), b"a/b"),
        (header(b"b", prefix=b"a", magic=GNU), b"b"),
        (header(b"b", prefix=b"a", magic=bytes(8)), b"b"),
        (file(b"././@LongLink", LONG + b"\0", kind=b"L", magic=GNU) + header(b"short"), LONG),
        (pax((b"path", LONG)) + header(b"short"), LONG),
        (pax((b"path", b"first"), (b"path", LONG)) + header(b"short"), LONG),
        (pax((b"comment", b"nothing")) + header(b"short"), b"short"),
        (pax((b"comment", b"nothing"), kind=b"g") + header(b"b", prefix=b"a"), b"a/b"),
        (file(b"label", kind=b"V") + header(b"short"), b"short"),
    ],
)
def test_long_names(data: bytes, name: bytes) -> None:
    assert [entry.name for entry, _ in read(data + END)] == [name]


def test_long_links() -> None:
    ((entry, _),) = read(file(b"././@LongLink", LONG, kind=b"K", magic=GNU) + symlink(b"s", b"cut"))
    assert entry.link == LONG
    ((entry, _),) = read(pax((b"linkpath", LONG)) + symlink(b"s", b"cut"))
    assert entry.link == LONG


def test_pax_records_win_over_fields_and_are_for_one_entry() -> None:
    records = (
        (b"size", b"3"),
        (b"uid", b"70000"),
        (b"gid", b"3000000000"),
        (b"mtime", b"-1.5"),
        (b"atime", b"7.000000001"),
    )
    data = pax(*records) + header(b"a", size=0, uid=1) + padded(b"abc") + file(b"b", uid=1, mtime=9)
    (first, content), (second, _) = read(data)
    assert content == b"abc"
    assert (first.uid, first.gid, first.mtime_ns, first.atime_ns) == (
        70000,
        3_000_000_000,
        -1_500_000_000,
        7_000_000_001,
    )
    assert (second.uid, second.mtime_ns, second.atime_ns) == (1, 9_000_000_000, None)


def test_a_global_header_sets_owners_and_times_until_it_is_overruled() -> None:
    data = pax((b"uid", b"5"), (b"mtime", b"8"), kind=b"g") + file(b"a") + pax((b"uid", b"6")) + file(b"b")
    (first, _), (second, _) = read(data)
    assert (first.uid, first.mtime_ns, second.uid, second.mtime_ns) == (5, 8 * 10**9, 6, 8 * 10**9)


def test_numbers_in_base_256() -> None:
    big = (1 << 95 | 8 << 30).to_bytes(12, "big")
    entry, _ = read(file(b"a", uid=b"\x80" + (3_000_000_000).to_bytes(7, "big"), mtime=b"\xff" * 11 + b"\xfe"))[0]
    assert (entry.uid, entry.mtime_ns) == (3_000_000_000, -2 * 10**9)
    with pytest.raises(BadImage, match="middle of an entry"):
        read(header(b"a", size=big))


def test_a_checksum_of_signed_bytes() -> None:
    block = header(b"\xe4\xf6")
    said = sum(block[:148] + b" " * 8 + block[156:]) - 2 * 256
    assert read(signed(block, b"%06o\0 " % said))[0][0].name == b"\xe4\xf6"


def test_xattrs_of_both_writers() -> None:
    value = bytes(range(256))
    encoded = base64.b64encode(value).rstrip(b"=")
    ((entry, _),) = read(pax((b"SCHILY.xattr.user.a=b", b"1")) + file(b"a"))
    assert entry.xattrs == {b"user.a": b"b=1"}  # the first = ends a key: POSIX
    ((entry, _),) = read(pax((b"SCHILY.xattr.user.a", value), (b"LIBARCHIVE.xattr.user.%62", encoded)) + file(b"a"))
    assert entry.xattrs == {b"user.a": value, b"user.b": value}


def test_links_and_directories_have_no_bytes_whatever_they_say() -> None:
    for kind in (b"1", b"2", b"5", b"6"):
        entries = read(header(b"a", kind, size=512, link=b"x") + file(b"b", b"1"))
        assert [entry.name for entry, _ in entries] == [b"a", b"b"]


def test_a_file_whose_name_ends_like_a_directorys() -> None:
    assert read(header(b"a/", b"\0", magic=bytes(8)))[0][0].kind == DIRECTORY


# Sparse files: three forms of one file of 10000 bytes with "abc" at 4096 and "de" at 9000

MAP = Sparse(10000, ((4096, 3), (9000, 2)))
FLAT = [4096, 3, 9000, 2]


def _old(flat: list[int], real: int, stored: int) -> bytes:
    block = bytearray(header(b"s", b"S", size=stored, magic=GNU))
    numbers = [octal(value, 12) for value in flat]
    block[386 : 386 + 96] = b"".join(numbers[:8]).ljust(96, b"\0")
    block[482] = len(numbers) > 8
    block[483:495] = octal(real, 12)
    data = signed(bytes(block))
    rest = numbers[8:]
    while rest:
        part, rest = rest[:42], rest[42:]
        data += (b"".join(part).ljust(504, b"\0") + bytes([bool(rest)])).ljust(512, b"\0")
    return data


SPARSE = {
    "gnu": _old(FLAT, 10000, 5),
    "pax 0.0": pax(
        (b"GNU.sparse.size", b"10000"),
        (b"GNU.sparse.numblocks", b"2"),
        (b"GNU.sparse.offset", b"4096"),
        (b"GNU.sparse.numbytes", b"3"),
        (b"GNU.sparse.offset", b"9000"),
        (b"GNU.sparse.numbytes", b"2"),
    )
    + header(b"s", size=5),
    "pax 0.1": pax((b"GNU.sparse.size", b"10000"), (b"GNU.sparse.map", b"4096,3,9000,2"), (b"GNU.sparse.name", b"s"))
    + header(b"GNUSparseFile.0/s", size=5),
    "pax 1.0": pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"s"),
        (b"GNU.sparse.realsize", b"10000"),
    )
    + header(b"GNUSparseFile.0/s", size=512 + 5)
    + padded(b"2\n4096\n3\n9000\n2\n"),
}


@pytest.mark.parametrize("form", SPARSE)
def test_sparse_files(form: str) -> None:
    entries = read(SPARSE[form] + padded(b"abcde") + file(b"after"))
    assert [(entry.name, entry.sparse, entry.stored, content) for entry, content in entries] == [
        (b"s", MAP, 5, b"abcde"),
        (b"after", None, 0, b""),
    ]


def test_a_sparse_file_with_blocks_of_pieces_behind_its_header() -> None:
    flat = [value for at in range(100) for value in (at * 100, 1)]
    ((entry, content),) = read(_old(flat, 10000, 100) + padded(b"x" * 100))
    assert entry.sparse is not None
    assert [*sum(entry.sparse.pieces, ())] == flat
    assert content == b"x" * 100


PAX_SPARSE = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"10000")

HOSTILE = {
    "no tar": b"hello" * 200,
    "half a header": file(b"a")[:300],
    "a file cut short": file(b"a", b"x" * 1000)[:1000],
    "a wrong checksum": header(b"a", checksum=b"000000\0 "),
    "a zero block in the middle": file(b"a") + bytes(512) + file(b"b"),
    "dot dot": file(b"../a"),
    "dot dot inside": file(b"a/../../b"),
    "dot dot at the end": file(b"a/.."),
    "dot dot by pax": pax((b"path", b"../a")) + file(b"b"),
    "dot dot by a long name": file(b"l", b"../a", kind=b"L") + file(b"b"),
    "dot dot by prefix": header(b"b", prefix=b".."),
    "a hardlink out": hardlink(b"a", b"../../etc/passwd"),
    "no name": header(b""),
    "a nul in a name": pax((b"path", b"a\0b")) + file(b"b"),
    "a link to nothing": symlink(b"a", b""),
    "a nul in a link": pax((b"linkpath", b"a\0b")) + symlink(b"a", b"b"),
    "too long a name": pax((b"path", b"a/" * 2100)) + file(b"b"),
    "too long a link": pax((b"linkpath", b"a" * 4096)) + symlink(b"a", b"b"),
    "too deep": pax((b"path", b"a/" * 300 + b"b")) + file(b"b"),
    "an unknown type": header(b"a", b"Z"),
    "a multi-volume part": header(b"a", b"M"),
    "a negative size": header(b"a", size=b"\xff" * 12),
    "a huge size": header(b"a", size=b"\x80\x00\x00\x00" + b"\x7f" + b"\xff" * 7),
    "a size that is no number": header(b"a", size=b"0o17"),
    "a size with a sign": header(b"a", size=b"+17"),
    "a size with an underscore": header(b"a", size=b"1_7"),
    "a size of nines": header(b"a", size=b"99"),
    "an owner that means none": header(b"a", uid=b"\x80\0\0\0" + b"\xff" * 4),
    "an owner beyond": pax((b"gid", b"4294967296")) + file(b"a"),
    "a negative owner": header(b"a", uid=b"\xff" * 8),
    "a device beyond": header(b"a", b"3", major=1 << 12),
    "a huge pax header": header(b"a", b"x", size=(1 << 20) + 1) + bytes(1 << 21),
    "a pax header that is cut": header(b"a", b"x", size=100) + b"30 path=",
    "a pax header and no entry": pax((b"path", b"a")) + END,
    "a pax record without a length": file(b"p", b"path=a\n", kind=b"x") + file(b"b"),
    "a pax record with a short length": file(b"p", b"6 path=a\n", kind=b"x") + file(b"b"),
    "a pax record with a long length": file(b"p", b"60 path=a\n", kind=b"x") + file(b"b"),
    "a pax record with a length of zero": file(b"p", b"0 path=a\n", kind=b"x") + file(b"b"),
    "a pax record without a value": file(b"p", record(b"path", b"")[:-2] + b"\n", kind=b"x") + file(b"b"),
    "a pax size that is none": pax((b"size", b"-1")) + file(b"a"),
    "a pax size with a sign": pax((b"size", b"+1")) + file(b"a", b"1"),
    "a pax time that is none": pax((b"mtime", b"1e9")) + file(b"a"),
    "a global name": pax((b"path", b"a"), kind=b"g") + file(b"b"),
    "a global size": pax((b"size", b"512"), kind=b"g") + file(b"b", b"1"),
    "a global xattr": pax((b"SCHILY.xattr.user.a", b"1"), kind=b"g") + file(b"b"),
    "xattrs beyond measure": pax((b"SCHILY.xattr.user.a", b"x" * (1 << 18))) + file(b"b"),
    "an xattr whose base64 is none": pax((b"LIBARCHIVE.xattr.user.a", b"!")) + file(b"b"),
    "sparse pieces that overlap": _old([0, 10, 5, 10], 100, 20) + padded(b"x" * 20),
    "sparse pieces out of order": _old([50, 10, 0, 10], 100, 20) + padded(b"x" * 20),
    "sparse pieces beyond the end": _old([95, 10], 100, 10) + padded(b"x" * 10),
    "sparse pieces that are not stored": _old([0, 10], 100, 5) + padded(b"x" * 5),
    "half a sparse piece": pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,1,2")) + file(b"a", b"x"),
    "two sparse offsets": pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.offset", b"1"), (b"GNU.sparse.offset", b"1")),
    "a sparse file of endless pieces": _old([0, 0] * 4, 100, 0)[:482] + b"\1" + bytes(29),
    "a sparse map that does not end": pax(*PAX_SPARSE) + header(b"a", size=2048) + b"1" * 2048,
    "a sparse map of too many": pax(*PAX_SPARSE) + header(b"a", size=512) + padded(b"99999999999\n"),
    "a sparse map that is no number": pax(*PAX_SPARSE) + header(b"a", size=512) + padded(b"x\n"),
    "a sparse form of the future": pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + file(b"a"),
    "a sparse file without a size": pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")) + file(b"a", b"0\n"),
    "a sparse file that is huge": pax((b"GNU.sparse.size", b"9" * 19), (b"GNU.sparse.map", b"")) + file(b"a"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused(case: str) -> None:
    with pytest.raises(BadImage) as caught:
        read(HOSTILE[case])
    assert caught.value.deed == "read layer"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [1, 100, 512])
@pytest.mark.parametrize("case", HOSTILE)
def test_refused_in_chunks_of_any_size(case: str, size: int) -> None:
    with pytest.raises(BadImage):
        read(HOSTILE[case][: 1 << 15] if "huge" not in case else HOSTILE[case], size=size)


def test_the_number_of_entries_is_bounded() -> None:
    data = b"".join(file(b"%d" % n) for n in range(11))
    assert len(read(data, Limits(entries=11))) == 11
    with pytest.raises(BadImage, match="more than 10 entries"):
        read(data, Limits(entries=10))
