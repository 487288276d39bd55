"""Files to a tar: what `save` needs of the format, and no more. The same files give the same bytes.

Source: POSIX pax(1), "ustar Interchange Format" and "pax Extended Header": what does not fit into ustar (names over
100 bytes, files of 8 GiB) has a pax record before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

_BLOCK = 512
_LONGEST_NAME = 100
_LARGEST = 1 << 33
END = bytes(2 * _BLOCK)

Write = Callable[[bytes], object]


def add(write: Write, name: str, size: int, chunks: Iterator[bytes]) -> None:
    """One file. `chunks` has `size` bytes: the caller has checked that."""
    records = {}
    if len(name.encode()) > _LONGEST_NAME:
        records["path"] = name
    if size >= _LARGEST:
        records["size"] = str(size)
    if records:
        data = b"".join(_record(key, value) for key, value in records.items())
        write(_header("pax", len(data), b"x") + data + bytes(-len(data) % _BLOCK))
    write(_header(name[-_LONGEST_NAME:], size % _LARGEST if "size" in records else size, b"0"))
    for chunk in chunks:
        write(chunk)
    write(bytes(-size % _BLOCK))


def directory(write: Write, name: str) -> None:
    """One directory; some readers (oci-image-tool) want to see it before what is in it."""
    write(_header(f"{name}/", 0, b"5", b"0000755"))


def _record(key: str, value: str) -> bytes:
    """ "LENGTH KEY=VALUE\n", whose length counts its own digits."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _header(name: str, size: int, kind: bytes, mode: bytes = b"0000644") -> bytes:
    zero = b"0000000\0"
    head = name.encode().ljust(100, b"\0") + mode + b"\0" + zero + zero
    head += b"%011o\0" % size + b"00000000000\0"
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(64) + zero + zero + bytes(167)
    checksum = sum(head) + 8 * ord(" ") + sum(tail)
    return head + b"%06o\0 " % checksum + tail
