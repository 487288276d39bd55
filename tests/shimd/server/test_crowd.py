"""Many at once, and what each costs while it idles."""

from pathlib import Path

import pytest

from shimd.wire.messages import Ended
from tests.shimd.configs import config, shell
from tests.shimd.stage import Stage

pytestmark = pytest.mark.root
AT_ONCE = 50
MOST_KIB = 1000  # promised for those that idle
MOST_KIB_SPOKEN_TO = 1800  # 1450 to 1750 were seen: what a shim has to itself depends on what the zygote touched


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["Private_Clean"] + sizes["Private_Dirty"]


def test_fifty_at_once(stage: Stage) -> None:
    key = stage.template(shell("echo $NUMBER; exit $((NUMBER % 5))"))
    crowd = [stage.prepare() for _ in range(AT_ONCE)]
    for number, container in enumerate(crowd):
        stage.spawn(container, key, env=[f"NUMBER={number}"])
    for number, container in enumerate(crowd):
        record = container.expect(Ended).record
        assert (record.code, container.log("stdout")) == (number % 5, b"%d\n" % number)
        assert container.gone() == []
        assert stage.left_of(container) == []


def test_an_idle_shim_is_small(stage: Stage) -> None:
    shims = [stage.start(config("sleep", "60")).shim_pid for _ in range(5)]
    sizes = sorted(private_kib(pid) for pid in shims)
    assert sizes[len(sizes) // 2] <= MOST_KIB, sizes


def test_a_shim_that_was_spoken_to_is_small_too(stage: Stage) -> None:
    containers = [stage.start(shell("echo hello; sleep 60")) for _ in range(5)]
    for container in containers:
        container.query()
    sizes = sorted(private_kib(container.shim_pid) for container in containers)
    assert sizes[len(sizes) // 2] <= MOST_KIB_SPOKEN_TO, sizes
