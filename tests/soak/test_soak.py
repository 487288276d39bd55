"""The short form of the soak: enough kills to meet a run in each of its moments."""

import pytest

from tests.soak.__main__ import soak

pytestmark = [pytest.mark.root, pytest.mark.slow]


def test_no_byte_and_no_code_is_lost() -> None:
    reckoning = soak(runs=400, workers=3, pause=0.8, seed=20)
    assert reckoning.faults == 0, reckoning.stories
    assert reckoning.counts["kills"] >= 3
    for way in ("attached", "detached", "executed"):
        assert reckoning.counts[way] > 10
