"""Plans: each distinct config is compiled once, few are kept, and none is forgotten while a start needs it."""

from pathlib import Path

import pytest

from asyncrt.model.options import Options
from asyncrt.model.protocol import Run
from asyncrt.sdk.blocking import Client
from asyncrt.supervisor.zygote import MOST_TEMPLATES
from tests.engine import Engine

pytestmark = pytest.mark.root


@pytest.mark.slow
def test_more_different_configs_at_once_than_plans_are_kept(engine: Engine, image: str) -> None:
    count = MOST_TEMPLATES + 100
    engine.cli("info", check=True)
    with Client(str(engine.socket), timeout=60) as client:
        wishes = [Options(image, args=("sleep", "600"), env=(f"NUMBER={n}",)) for n in range(count)]
        answers = [client.call(Run(wish)) for wish in wishes]
        for answer in answers:
            answer.result()
        # The first ones' plans are forgotten by now: they are compiled anew.
        for wish in wishes[:3]:
            client.call(Run(wish)).result()
    rows = engine.json("ps")
    assert len(rows) == count + 3
    assert {row["state"] for row in rows} == {"running"}


def test_different_configs_while_others_start(shared: Engine, image: str) -> None:
    """A shim that was forked before a plan was compiled may read a Spawn of it: it sends it back."""
    for turn in range(3):
        commands = [shared.popen("run", "--rm", image, "sh", "-c", f"exit {n}; : {turn}") for n in range(40)]
        for n, command in enumerate(commands):
            _, err = command.communicate(timeout=60)
            assert command.returncode == n, err


def test_a_config_that_the_runtime_refuses_fails_alone(shared: Engine, image: str) -> None:
    """One start is refused in the container's set-up, another with the same image is not harmed."""
    done = shared.cli("run", "-v", "/etc/passwd:/bin/sh/x", image, "true")
    assert done.returncode in (125, 126), shared.story(done)
    assert shared.cli("run", image, "true").returncode == 0


@pytest.mark.parametrize("switch", ["off", "on", None])
def test_the_switch_for_scripts_reaches_the_zygote(engine: Engine, image: str, switch: str | None) -> None:
    """ASYNCRT_SCRIPTS is all of the supervisor's environment that the zygote gets; containers start either way."""
    if switch is None:
        engine.env.pop("ASYNCRT_SCRIPTS", None)
    else:
        engine.env["ASYNCRT_SCRIPTS"] = switch
    assert engine.cli("run", image, "sh", "-c", "exit 7").returncode == 7
    pid = int((engine.state / "zygote.pid").read_text().split()[0])
    found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1]
    assert sorted(found) == sorted([b"LC_ALL=C.UTF-8", *([f"ASYNCRT_SCRIPTS={switch}".encode()] if switch else [])])
