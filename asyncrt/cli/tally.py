"""What has become of N containers so far: Progress in, counts and timelines out. Knows no terminal."""

from __future__ import annotations

from typing import NamedTuple

from asyncrt.model.protocol import Progress


class Counts(NamedTuple):
    """At one moment. `elapsed` seconds since the request; `rate` containers started per second."""

    asked: int
    starting: int
    running: int
    ended: int
    failed: int
    elapsed: float
    rate: float

    @property
    def started(self) -> int:
        return self.running + self.ended

    @property
    def settled(self) -> bool:
        """Nothing is left to start."""
        return self.starting == 0


class Tally:
    """Counts the steps of one request; each container is in exactly one place.

    `begin` and the `now` of every call are seconds of one clock.
    """

    def __init__(self, asked: int, begin: float) -> None:
        self.asked = asked
        self.timelines: dict[str, tuple[tuple[str, int], ...]] = {}
        self._begin = begin
        self._last_start = begin
        self._place: dict[str, str] = {}

    def feed(self, progress: Progress, now: float) -> None:
        """Steps may come twice or late: an end is final, and a start after it changes nothing."""
        before = self._place.get(progress.id, "")
        if progress.timeline:
            self.timelines[progress.id] = progress.timeline
        if progress.step == "failed":
            # A start that failed before it had an id is one more that is not starting.
            self._place[progress.id or f"index {progress.index}"] = "failed"
        elif progress.step == "started" and before in ("", "created"):
            self._place[progress.id] = "running"
            self._last_start = now
        elif progress.step == "ended":
            if before in ("", "created"):
                self._last_start = now
            self._place[progress.id] = "ended"
        elif progress.step == "created" and not before:
            self._place[progress.id] = "created"

    def counts(self, now: float) -> Counts:
        places = list(self._place.values())
        running, ended, failed = (places.count(name) for name in ("running", "ended", "failed"))
        starting = max(0, self.asked - running - ended - failed)
        span = (now if starting else self._last_start) - self._begin
        rate = (running + ended) / span if span > 0 else 0.0
        return Counts(self.asked, starting, running, ended, failed, now - self._begin, rate)
