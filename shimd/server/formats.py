"""The log once more, as others read it: docker's json-file and the CRI's lines, beside the native log.

    json-file   {"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}, a file `json.log`
                (docker's driver of that name; a part of a long line has no \\n at its end)
    cri         2026-01-02T03:04:05.123456789Z stdout F text, a file `cri.log`; P for a part of a long line
                (Kubernetes: design proposal "CRI: Log management")

A file is written from the native log and its index, so it can fall behind, when its disk is full, and catch up later. A
line is written once it ends, or has LINE bytes, or the stream ends. `bound` rotates: NAME.1 is the file before, `files`
are kept in all, and with one it begins anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from _json import encode_basestring
from collections.abc import Callable

from shimd.server.log import INDEX, NAMES, Log
from shimd.wire.values import LogWish

LINE = 16 * 1024  # bytes of a line until it is broken in parts, as docker and containerd have it
BATCH = 64 * 1024  # bytes of the log that are looked at at once
RECORDS = INDEX.size * 256

Form = Callable[[bytes, str, str], bytes]


def json_file(text: bytes, stream: str, moment: str) -> bytes:
    """Bytes that are no UTF-8 become U+FFFD, as docker has it: JSON holds text."""
    line: str = encode_basestring(text.decode("utf-8", "replace"))
    return f'{{"log":{line},"stream":"{stream}","time":"{moment}"}}\n'.encode()


def cri(text: bytes, stream: str, moment: str) -> bytes:
    tag, text = ("F", text[:-1]) if text.endswith(b"\n") else ("P", text)
    return f"{moment} {stream} {tag} ".encode() + text + b"\n"


FORMS: dict[str, tuple[str, Form]] = {"json-file": ("json.log", json_file), "cri": ("cri.log", cri)}


def moment_of(time_ns: int) -> str:
    """RFC 3339 with nanoseconds, in UTC."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class Copy:
    """One file beside the log. caught_up() takes what is new, end() what no line end will follow."""

    __slots__ = ("at", "begun", "file", "form", "lines", "log", "offsets", "path", "said", "size", "wish")

    def __init__(self, log: Log, wish: LogWish) -> None:
        """Before anything of this run is in the log: what was before is in the file, or never came there."""
        name, self.form = FORMS[wish.form]
        self.path = f"{log.directory}/{name}"
        self.log = log
        self.wish = wish
        self.file = -1
        self.size = 0
        for number in NAMES:
            if log.exists(number):
                log.open(number)
        self.at = log.index_size
        """Where in the index."""
        self.offsets = dict(log.sizes)
        self.begun = dict.fromkeys(NAMES, b"")
        """Of each stream: a line without its end."""
        self.lines: list[bytes] = []
        """What the disk did not take yet."""
        self.said = False

    def caught_up(self) -> bool:
        """Write what has come; False if the disk refuses, and then it is tried again with the next bytes."""
        try:
            self._write()
            while self._advance():
                self._write()
        except OSError as error:
            if not self.said:
                self.said = True
                print(f"write {self.path}: {error.strerror} (the native log has it)", file=sys.stderr, flush=True)
            return False
        return True

    def end(self) -> None:
        """Both streams have ended: the lines without an end."""
        if self.caught_up():
            for number, text in self.begun.items():
                if text:
                    self.lines.append(self.form(text, NAMES[number], moment_of(time.time_ns())))
                self.begun[number] = b""
            self.caught_up()

    def _advance(self) -> bool:
        """Take some more arrivals; False if there are none."""
        if self.at < self.log.index_first:  # it has fallen behind what a bounded log keeps
            self.at, self.offsets = self.log.index_first, dict(self.log.firsts)
        if self.at >= self.log.index_size:
            return False
        records = os.pread(self.log.index, min(RECORDS, self.log.index_size - self.at), self.at)
        taken = 0
        for time_ns, length, number in INDEX.iter_unpack(records):
            self._take(number, length, moment_of(time_ns))
            self.at += INDEX.size
            taken += length
            if taken > BATCH:
                break
        return True

    def _take(self, number: int, length: int, moment: str) -> None:
        """One arrival, cut into lines."""
        stream = NAMES[number]
        text = self.begun[number] + os.pread(self.log.files[number], length, self.offsets[number])
        self.offsets[number] += length
        *whole, rest = text.split(b"\n")
        for line in whole:
            while len(line) >= LINE:
                self.lines.append(self.form(line[:LINE], stream, moment))
                line = line[LINE:]
            self.lines.append(self.form(line + b"\n", stream, moment))
        while len(rest) >= LINE:
            self.lines.append(self.form(rest[:LINE], stream, moment))
            rest = rest[LINE:]
        self.begun[number] = rest

    def _write(self) -> None:
        while self.lines:
            if self.file < 0:
                self._open()
            fitting = self._fitting()
            if not fitting:
                self._rotate()
                continue
            data = b"".join(self.lines[:fitting])
            written = os.write(self.file, data)
            self.size += written
            self.lines[:fitting] = [data[written:]] if written < len(data) else []

    def _fitting(self) -> int:
        """How many lines the file takes; one at least, if it is empty."""
        if not self.wish.bound:
            return len(self.lines)
        size = self.size
        for count, line in enumerate(self.lines):
            size += len(line)
            if size > self.wish.bound:
                return count or (0 if self.size else 1)
        return len(self.lines)

    def _open(self) -> None:
        self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self.size = os.fstat(self.file).st_size

    def _rotate(self) -> None:
        """NAME.1 becomes NAME.2 and so on; who has the old file open keeps it."""
        os.close(self.file)
        self.file = -1
        for number in range(self.wish.files - 1, 0, -1):
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, f"{self.path}.{number}")
        if self.wish.files == 1:
            os.unlink(self.path)
        self._open()
