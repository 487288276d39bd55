"""A container's log on disk: what it wrote to each stream, raw, and an index of when what came.

    stdout, stderr   the bytes, at their offsets in the stream, for ever
    index            16 bytes per arrival (INDEX: time in ns since 1970, length, stream number), in their order
    marks            only with a bound: where index, stdout and stderr begin now (MARKS)

A bound counts all three. When an arrival would exceed it, the oldest arrivals go, down to three quarters: their marks
move on, then holes are punched into the files (fallocate(2), FALLOC_FL_PUNCH_HOLE). So no offset ever changes and no
file is replaced: who has one open, or has attached, goes on. Where a file system punches no holes (NFS before 4.2), all
that there is goes at once. Files are made when there is something to write; a container that is started again goes on
where its log ended.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from shimd.linux import files

INDEX = struct.Struct("<QIB3x")
MARKS = struct.Struct("<QQQ")
NAMES = {1: "stdout", 2: "stderr"}
CHUNK = 1 << 20  # bytes per splice; the kernel moves at most what the pipe holds
PAGE = 4096  # holes begin and end on these
EDGES = 4 * PAGE  # what the files hold beyond what is kept: at both ends of their holes, and the marks
WALK = INDEX.size * 1024  # bytes of the index that are looked at at once
NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS)


class Log:
    """Both streams of one container, by number. OSError where the disk refuses: then nothing has been taken."""

    __slots__ = (
        "bound",
        "chunk",
        "directory",
        "files",
        "firsts",
        "index",
        "index_first",
        "index_size",
        "marks",
        "owed",
        "sizes",
    )

    def __init__(self, directory: str, bound: int = 0) -> None:
        self.directory = directory
        self.bound = max(bound - EDGES, 0)
        self.chunk = min(CHUNK, self.bound // 4) if bound else CHUNK
        self.files = {1: -1, 2: -1}
        self.sizes = {1: 0, 2: 0}
        """Where each stream has got to, in bytes."""
        self.firsts = {1: 0, 2: 0}
        """Its first byte that is kept."""
        self.index = self.marks = -1
        self.index_first = self.index_size = 0
        self.owed = b""
        """The index record of bytes that are in the log already."""

    def exists(self, number: int) -> bool:
        """Is there, or was there in an earlier run, anything of the stream?"""
        return self.files[number] >= 0 or os.path.exists(f"{self.directory}/{NAMES[number]}")

    def open(self, number: int) -> None:
        """Have the stream's file; safe to repeat."""
        if self.index < 0:
            self._open_index()
            for other in NAMES:  # of an earlier run: they count, too
                if other != number and self.exists(other):
                    self.open(other)
        if self.files[number] < 0:
            fd = self._file(NAMES[number])
            self.sizes[number] = max(os.fstat(fd).st_size, self.firsts[number])
            self.files[number] = fd

    def splice(self, pipe: int, number: int) -> int:
        """Take what the pipe has, at most `chunk` bytes; 0 at its end. BlockingIOError while it is empty."""
        self._prepare(number)
        size = self.sizes[number]
        moved = os.splice(pipe, self.files[number], self.chunk, offset_dst=size, flags=os.SPLICE_F_NONBLOCK)
        if moved:
            self._took(number, moved)
        return moved

    def write(self, data: bytes, number: int) -> int:
        """Take the beginning of `data`, at most `chunk` bytes."""
        self._prepare(number)
        written = os.pwrite(self.files[number], data[: self.chunk], self.sizes[number])
        self._took(number, written)
        return written

    def _prepare(self, number: int) -> None:
        self.open(number)
        self._pay()
        if self.bound and self._kept() + self.chunk + INDEX.size > self.bound:
            self._drop_to(self.bound - self.bound // 4 - self.chunk)

    def _took(self, number: int, count: int) -> None:
        self.sizes[number] += count
        self.owed = INDEX.pack(time.time_ns(), count, number)
        self._pay()

    def _pay(self) -> None:
        """The index record that is owed; records do not straddle a block, so it is written whole or not at all."""
        if self.owed:
            os.pwrite(self.index, self.owed, self.index_size)
            self.index_size += INDEX.size
            self.owed = b""

    def _open_index(self) -> None:
        if self.bound:
            self.marks = self._file("marks")
            data = os.pread(self.marks, MARKS.size, 0)
            if len(data) == MARKS.size:
                self.index_first, self.firsts[1], self.firsts[2] = MARKS.unpack(data)
        index = self._file("index")
        size = os.fstat(index).st_size
        self.index_size = size - size % INDEX.size
        self.index = index

    def _file(self, name: str) -> int:
        return os.open(f"{self.directory}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    # the bound

    def _kept(self) -> int:
        streams = sum(self.sizes.values()) - sum(self.firsts.values())
        return streams + self.index_size - self.index_first

    def _drop_to(self, target: int) -> None:
        """Let the oldest arrivals go until `target` bytes are left."""
        excess = self._kept() - target
        while excess > 0 and self.index_first < self.index_size:
            records = os.pread(self.index, min(WALK, self.index_size - self.index_first), self.index_first)
            for _, length, number in INDEX.iter_unpack(records):
                if excess <= 0:
                    break
                self.index_first += INDEX.size
                self.firsts[number] += length
                excess -= INDEX.size + length
        self._punch()

    def _punch(self) -> None:
        """Marks first: who reads behind our back looks at them afterwards."""
        self._mark()
        try:
            for fd, first in ((self.index, self.index_first), *((self.files[n], self.firsts[n]) for n in NAMES)):
                if fd >= 0 and first >= PAGE:
                    files.punch_hole(fd, 0, first - first % PAGE)
        except OSError as error:
            if error.errno not in NO_HOLES:
                raise
            self._empty()

    def _empty(self) -> None:
        """No holes here: the files are cut off at 0 and written on at their offsets."""
        self.firsts = dict(self.sizes)
        self.index_first = self.index_size
        self._mark()
        for fd in (self.index, *self.files.values()):
            if fd >= 0:
                os.ftruncate(fd, 0)

    def _mark(self) -> None:
        os.pwrite(self.marks, MARKS.pack(self.index_first, self.firsts[1], self.firsts[2]), 0)
