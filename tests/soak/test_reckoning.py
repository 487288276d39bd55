"""The soak's judge: would it notice?"""

import pytest

from tests.soak.reckoning import Reckoning


@pytest.mark.parametrize(
    ("found", "fault", "by"),
    [
        (b"0123456789", "", 0),
        (b"01234567", "lost bytes", 2),
        (b"", "lost bytes", 10),
        (b"012345678956789", "doubled bytes", 5),
        (b"0123456788", "wrong bytes", 1),
    ],
)
def test_judge(found: bytes, fault: str, by: int) -> None:
    reckoning = Reckoning()
    reckoning.judge("run 1", "stdout", b"0123456789", found)
    assert reckoning.counts["bytes"] == len(found)
    assert reckoning.faults == by
    assert len(reckoning.stories) == (1 if fault else 0)
    if fault:
        assert reckoning.counts[fault] == by
        assert fault in reckoning.table()
