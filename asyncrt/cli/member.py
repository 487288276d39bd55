"""One container of a crowd: what is known of it, and its two streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from asyncrt.cli.lines import Lines

if TYPE_CHECKING:
    from asyncrt.model.container import Exit

ATTEMPTS = 3  # subscriptions of one container's output; more than one only where a supervisor died


class Stream:
    """One of them: `target` is our fd, `fd` the pipe's read end or -1."""

    def __init__(self, name: str, target: int) -> None:
        self.lines = Lines(name)
        self.target = target
        self.fd = -1


class Member:
    """`code` is -1 until it is known how it ended or why it did not start."""

    def __init__(self, id: str, name: str, index: int) -> None:
        self.id = id
        self.name = name
        self.index = index
        self.started = False
        self.exit: Exit | None = None
        self.code = -1
        self.attempts = 0
        self.quiet_since = 0.0
        self.streams = (Stream(name, 1), Stream(name, 2))

    def open(self) -> tuple[list[int], list[Stream]]:
        """New pipes for both streams: write ends to send and then close, and the streams to read."""
        self.attempts += 1
        writes = []
        for stream in self.streams:
            stream.fd, write_end = os.pipe2(os.O_CLOEXEC)
            writes.append(write_end)
        return writes, list(self.streams)

    @property
    def flows(self) -> bool:
        return any(stream.fd >= 0 for stream in self.streams)

    @property
    def over(self) -> bool:
        """Ended or never started, and its output is out."""
        return self.code >= 0 and not self.flows

    @property
    def missing(self) -> bool:
        """Whether it wrote more than came, as after a supervisor's death between request and subscription."""
        if self.exit is None or self.flows or self.attempts >= ATTEMPTS:
            return False
        out, err = self.streams
        return out.lines.taken < self.exit.stdout_bytes or err.lines.taken < self.exit.stderr_bytes
