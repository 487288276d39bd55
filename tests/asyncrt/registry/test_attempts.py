"""What is tried again and when, in virtual time."""

import email.utils

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.registry.attempts import Policy, insist, retry_after
from asyncrt.registry.failures import Passing


def test_waits_grow_and_are_random() -> None:
    policy = Policy(base=1.0, longest=8.0)
    waits = [policy.wait(n) for n in (0, 1, 2, 3, 9, 10_000)]
    for wait, ceiling in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert ceiling / 2 <= wait <= ceiling
    assert len({policy.wait(5) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        (email.utils.formatdate(1_000_030, usegmt=True), 30.0),
        (email.utils.formatdate(999_000, usegmt=True), 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("9" * 30, None),
        ("Fri, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(text, 1_000_000.0) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_read(text: str) -> None:
    assert (retry_after(text) or 0.0) >= 0.0


class Failing:
    """Fails so often, each time asking to wait so long."""

    def __init__(self, times: int, after: float | None = None) -> None:
        self.times = times
        self.after = after
        self.moments: list[float] = []

    async def __call__(self) -> str:
        self.moments.append(trio.current_time())
        if len(self.moments) > self.times:
            return "done"
        error = Passing("do", "it", "not yet")
        error.after = self.after
        raise error


async def test_it_is_tried_until_it_works(autojump_clock: trio.testing.MockClock) -> None:
    deed = Failing(3)
    assert await insist(deed, Policy(attempts=5, base=1.0)) == "done"
    gaps = [after - before for before, after in zip(deed.moments, deed.moments[1:], strict=False)]
    assert all(low <= gap <= high for gap, (low, high) in zip(gaps, ((0.5, 1), (1, 2), (2, 4)), strict=True))


async def test_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    deed = Failing(99)
    with pytest.raises(Passing, match="do it: not yet"):
        await insist(deed, Policy(attempts=5))
    assert len(deed.moments) == 5


async def test_what_is_asked_for_is_kept_to_within_reason(autojump_clock: trio.testing.MockClock) -> None:
    deed = Failing(1, after=59.0)
    assert await insist(deed, Policy(longest=1.0)) == "done"
    assert deed.moments[1] - deed.moments[0] == pytest.approx(59.0)
    deed = Failing(1, after=61.0)
    with pytest.raises(Passing):
        await insist(deed, Policy())
    assert len(deed.moments) == 1
