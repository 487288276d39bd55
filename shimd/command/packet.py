"""What the planner answers: a container's script, and the bytes of its files, as `struct plan` of front.h has it."""

from __future__ import annotations

import array
import os
import secrets
from collections.abc import Sequence

from shimd.command import birth, plain
from shimd.command.record import Record
from shimd.command.request import KEPT_KEYRING, Request
from shimd.container import bundle, standalone
from shimd.errors import RuntimeTrouble
from shimd.linux import cgroups
from shimd.spec import text

HEAD_WORDS = 40  # of struct plan
ERRNOS = 134


class Packets:
    """Compiles; `look` is due when mounts were changed."""

    def __init__(self) -> None:
        self.causes = b"".join(os.strerror(number).lower().encode() + b"\0" for number in range(ERRNOS))
        self.look()

    def look(self) -> None:
        """Which cgroup hierarchies there are."""
        self.hierarchies = cgroups.hierarchies()

    def of(self, request: Request) -> bytes | None:
        """The packet; None where the reference has to do it, or has something to say."""
        try:
            os.chdir(request.bundle)
            return self._of(request)
        except (RuntimeTrouble, OSError):
            return None
        finally:
            os.chdir("/")

    def _of(self, request: Request) -> bytes | None:
        findings: list[object] = []
        config, document = bundle.read(request.bundle, findings.append)
        process = config.process
        if findings or process is None or process.terminal:
            return None
        wish = bundle.Wish(keyring=not request.flags & KEPT_KEYRING)
        plan = bundle.compile(config, self.hierarchies, wish)
        record = birth.record_of(request.id, request.bundle, config, document, plan)
        made = standalone.compile_standalone(plan, record.id, record.cgroup, record.rootfs)
        if made is None:
            return None
        packet = Layout(request.base, made)
        creating = text.write(record.document())
        packet.put([creating, *_with_holes(record), text.write(document), plain.tail(record), self.causes])
        return packet.finish(request.room)


def _with_holes(record: Record) -> Sequence[str]:
    """The record as it is once init waits, around its pid and start time."""
    record.ready = True
    while True:
        record.pid, record.start = (10**15 + secrets.randbits(48) for _ in range(2))
        whole = text.write(record.document())
        pid, start = str(record.pid), str(record.start)
        if pid != start and whole.count(pid) == whole.count(start) == 1:
            before, _, rest = whole.partition(pid)
            return before, *rest.split(start)


class Layout:
    """Bytes on their way to an address: the head, the script, strings."""

    def __init__(self, base: int, made: standalone.Standing) -> None:
        self.made = made
        self.base = base
        self.image = made.image(base + 8 * HEAD_WORDS)
        self.parts = [self.image.data]
        self.end = base + 8 * HEAD_WORDS + len(self.image.data)
        self.texts: list[int] = []

    def put(self, texts: Sequence[str | bytes]) -> None:
        """Texts of the head, in its order."""
        for one in texts:
            self.texts += self._place(one)

    def _place(self, one: str | bytes) -> tuple[int, int]:
        """struct text: address and bytes; behind it there is a NUL."""
        encoded = one.encode(errors="surrogateescape") if isinstance(one, str) else one
        return self._keep(encoded + b"\0"), len(encoded)

    def _keep(self, data: bytes) -> int:
        place = self.end
        self.parts.append(data)
        self.end += len(data)
        return place

    def _rows(self, rows: Sequence[Sequence[int]]) -> tuple[int, int]:
        """An array of structs: address and count."""
        self._keep(bytes(-self.end % 8))
        return self._keep(array.array("q", [word for row in rows for word in row]).tobytes()), len(rows)

    def finish(self, room: int) -> bytes | None:
        made, image = self.made, self.image
        made_rows = [(step, *self._place(path)) for step, path in made.made]
        word_rows = [(row.step, *self._place(row.head), *self._place(row.cause), row.code) for row in made.words]
        rows = (*self._rows(made_rows), *self._rows(word_rows))
        held = made.held.lock.number
        head = array.array(
            "q",
            [
                self.end - self.base,
                *image.entered(made.prepare),
                *image.entered(made.init),
                made.clone_flags,
                made.cgroup.number,
                held,
                *self.texts,
                *rows,
            ],
        )
        assert len(head) == HEAD_WORDS - 4, len(head)
        head.extend([0] * 4)
        whole = head.tobytes() + b"".join(self.parts)
        return whole if len(whole) <= room else None
