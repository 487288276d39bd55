"""Pictures of blobs on their way."""

from asyncrt.cli.fetching import picture
from asyncrt.model.image import BlobProgress


def step(number: int, state: str, done: int = 0) -> BlobProgress:
    return BlobProgress(f"sha256:{number:064x}", "layer", state, done, 1000)


def test_a_line_a_blob() -> None:
    lines = picture([step(1, "done"), step(2, "running", 500), step(3, "waiting")], 10)
    assert lines == [
        "000000000000  done",
        "000000000000  [===============               ] 500B / 0.9766KiB  running",
        "000000000000  [                              ] 0B / 0.9766KiB  waiting",
    ]


def test_more_blobs_than_lines() -> None:
    """127 layers on a small terminal: what moves is seen, however many ended before it or wait behind it."""
    steps = [step(n, "done") for n in range(60)] + [step(n, "waiting") for n in range(60, 120)]
    steps += [step(n, "running", n) for n in range(120, 127)]
    lines = picture(steps, 12)
    assert (len(lines), lines[0]) == (12, "60 of 127 done")
    assert [line.rpartition(" ")[2] for line in lines[1:]] == ["running"] * 7 + ["waiting"] * 4
    assert picture([step(n, "done") for n in range(30)], 5) == ["30 of 30 done"]
