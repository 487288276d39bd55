"""What went well and what did not; one for all workers."""

import threading
from collections import Counter

FAULTS = ("lost bytes", "doubled bytes", "wrong bytes", "wrong code", "hang", "error")


class Reckoning:
    """Counts by name, and the first stories of what went wrong."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.stories: list[str] = []

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self.counts[name] += by

    def fault(self, name: str, story: str, by: int = 1) -> None:
        assert name in FAULTS
        with self._lock:
            self.counts[name] += by
            if len(self.stories) < 20:
                self.stories.append(f"{name}: {story}")

    def judge(self, what: str, stream: str, wanted: bytes, found: bytes) -> None:
        """Compare one stream."""
        self.count("bytes", len(found))
        if found == wanted:
            return
        agree = next((at for at, (one, other) in enumerate(zip(wanted, found, strict=False)) if one != other), None)
        agree = min(len(wanted), len(found)) if agree is None else agree
        story = f"{what} {stream}: {len(found)} of {len(wanted)} bytes, alike up to {agree}"
        if len(found) < len(wanted):
            self.fault("lost bytes", story, len(wanted) - len(found))
        elif len(found) > len(wanted):
            self.fault("doubled bytes", story, len(found) - len(wanted))
        else:
            self.fault("wrong bytes", story, sum(one != other for one, other in zip(wanted, found, strict=True)))

    @property
    def faults(self) -> int:
        return sum(self.counts[name] for name in FAULTS)

    def table(self) -> str:
        rows = [*sorted(set(self.counts) - set(FAULTS)), *FAULTS]
        return "\n".join(f"{name:<16}{self.counts[name]:>14}" for name in rows)
