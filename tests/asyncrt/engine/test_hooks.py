"""Hooks of the engine's containers: who runs what where and when, and what their failures and lateness mean."""

import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

import asyncrt
from asyncrt.daemon import Settings, running
from asyncrt.errors import StartFailed
from tests.engine import Engine, closed
from tests.patience import until

pytestmark = pytest.mark.root

MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# Says which moment it was, in which mount namespace it ran, and what the state said.
NOTE = """#!/bin/sh
state=$(cat)
printf '%s %s %s\\n' "$1" "$(readlink /proc/self/ns/mnt)" "$state" >> {notes}
echo "said by $1"
"""


class House:
    """An engine with a directory of hooks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.directory = engine.base / "hooks"
        self.directory.mkdir(0o755)
        self.notes = engine.base / "notes"
        self.program("note", NOTE.format(notes=self.notes))
        engine.env["ASYNCRT_HOOKS_DIR"] = str(self.directory)

    def program(self, name: str, text: str) -> Path:
        path = self.engine.base / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def put(self, moment: str, program: Path | None = None, **more: Any) -> None:
        path = str(program or self.engine.base / "note")
        hook = {"path": path, "args": ["note", moment], **more}
        document = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [moment]}
        (self.directory / f"{moment}.json").write_text(json.dumps(document))

    def told(self) -> list[tuple[str, str, dict[str, Any]]]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [(words[0], words[1], json.loads(words[2])) for words in (line.split(" ", 2) for line in lines)]

    def log(self) -> str:
        return (self.engine.state / "daemon.log").read_text()


@pytest.fixture
def house(engine: Engine) -> House:
    return House(engine)


def test_each_at_its_moment_and_place(house: House, image: str) -> None:
    own = os.readlink("/proc/self/ns/mnt")
    for moment in MOMENTS:
        if moment != "startContainer":  # its path is the container's
            house.put(moment)
    house.put("startContainer", Path("/bin/sh"), args=["sh", "-c", "cat > /state; echo from inside >> /state"])
    wish = ("--annotation", "org.example.a=b", image, "cat", "/state")
    done = house.engine.cli("run", "--name", "box", *wish, check=True)
    state, inside = done.stdout.rsplit("}", 1)
    assert inside.strip() == "from inside"
    id = house.engine.inspect("box")["id"]
    until(lambda: len(house.told()) == 5, "all but the container's own")
    told = house.told()
    assert [moment for moment, _, _ in told] == [moment for moment in MOMENTS if moment != "startContainer"]
    assert [namespace == own for _, namespace, _ in told] == [True, True, False, True, True]
    assert [state["status"] for _, _, state in told] == ["creating", "creating", "creating", "running", "stopped"]
    for _, _, found in told:
        assert (found["id"], found["annotations"]) == (id, {"org.example.a": "b"})
        assert json.loads(Path(found["bundle"], "config.json").read_text())["process"]["args"] == ["cat", "/state"]
    assert (json.loads(state + "}")["status"], json.loads(state + "}")["pid"]) == ("created", 1)
    assert told[0][2]["pid"] == told[3][2]["pid"] > 1
    assert '"said": "said by createRuntime"' in house.log()
    assert not house.engine.inspect("box").get("poststop_due")


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer", "poststart"])
def test_a_failure_ends_the_start(house: House, image: str, moment: str) -> None:
    house.put(moment, house.program("fail", "#!/bin/sh\necho no luck >&2\nexit 3\n"))
    house.put("poststop")
    done = house.engine.cli("run", "--name", "box", image, "sleep", "600")
    assert done.returncode != 0
    assert f"{moment} hook failed with exit code 3: no luck" in done.stderr
    until(lambda: house.told(), "poststop")
    assert [told for told, _, _ in house.told()] == ["poststop"]
    if moment == "poststart":
        house.engine.cli("rm", "-f", "--all", check=True)
    assert house.engine.ids() == []


def test_a_hook_inside_that_fails(house: House, image: str) -> None:
    house.put("startContainer", Path("/bin/sh"), args=["sh", "-c", "echo bad; exit 9"])
    done = house.engine.cli("run", image, "true")
    assert done.returncode != 0
    assert "startContainer hook failed with exit code 9: bad" in done.stderr


def test_one_that_takes_too_long_is_killed_with_what_it_started(house: House, image: str) -> None:
    pid = house.engine.base / "pid"
    house.put("createRuntime", house.program("slow", f"#!/bin/sh\nsleep 600 & echo $! > {pid}\nwait\n"), timeout=1)
    begun = time.monotonic()
    done = house.engine.cli("run", image, "true")
    assert "createRuntime hook took longer than 1 s" in done.stderr
    assert time.monotonic() - begun < 20
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "its child is gone")


def test_what_is_no_hook_fails_the_start_by_its_name(house: House, image: str) -> None:
    (house.directory / "bad.json").write_text("{")
    done = house.engine.cli("run", image, "true")
    assert done.returncode == 125
    assert "bad.json" in done.stderr
    house.put("poststart", Path("/nowhere/at/all"))
    (house.directory / "bad.json").unlink()
    assert "/nowhere/at/all: no such file or directory" in house.engine.cli("run", image, "true").stderr


def test_many_run_at_once(house: House, image: str) -> None:
    """Eight hooks of half a second each, in much less than four."""
    house.put("createRuntime", house.program("nap", "#!/bin/sh\nsleep 0.5\n"))
    begun = time.monotonic()
    house.engine.cli("run", "-d", "--count", "8", image, "sleep", "600", check=True)
    assert time.monotonic() - begun < 3.5


def test_a_supervisor_that_dies_at_hooks_leaves_nothing(house: House, image: str) -> None:
    waits = house.program("waits", f"#!/bin/sh\necho > {house.notes}\nsleep 600\n")
    house.put("createRuntime", waits)
    with house.engine.popen("run", "-d", "--name", "box", image, "sleep", "600") as command:
        until(house.notes.exists, "the hook runs")
        os.kill(int((house.engine.state / "lock").read_text()), signal.SIGKILL)
        command.wait(30)
        command.communicate()
    (house.directory / "createRuntime.json").unlink()
    (record,) = house.engine.json("ps", "--all")
    assert record["state"] in ("created", "stopped")
    for pid in filter(str.isdigit, os.listdir("/proc")):  # the hook is nobody's now
        try:
            if str(waits) in Path(f"/proc/{pid}/cmdline").read_text():
                os.killpg(int(pid), signal.SIGKILL)
        except OSError:
            continue


def test_the_next_supervisor_runs_poststop(house: House, image: str) -> None:
    house.put("poststop")
    house.engine.cli("run", "-d", "--name", "box", image, "sleep", "600", check=True)
    record = house.engine.inspect("box")
    os.kill(house.engine.supervisor_pid(), signal.SIGKILL)
    os.kill(record["pid"], signal.SIGKILL)
    assert house.engine.cli("wait", "box", check=True).stdout == "137\n"
    until(lambda: [moment for moment, _, _ in house.told()] == ["poststop"], "poststop")


async def test_functions_of_an_embedder(image: str) -> None:
    made = Engine()
    told: list[tuple[str, str]] = []

    async def note(state: Any) -> None:
        await trio.lowlevel.checkpoint()
        told.append((state["status"], state["id"]))

    async def refuse(state: Any) -> None:
        raise ValueError(f"not {state['annotations']['who']}")

    try:
        hooks = {moment: [note] for moment in ("createRuntime", "poststart", "poststop")}
        async with running(made.root, made.state, str(made.socket), Settings(hooks=hooks)) as socket:
            async with asyncrt.connect(socket, start=False) as rt, rt.run(image, ["sleep", "600"]) as container:
                assert told == [("creating", container.id), ("running", container.id)]
            with trio.fail_after(20):
                while len(told) < 3:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        assert told[2][0] == "stopped"
        settings = Settings(hooks={"createRuntime": [refuse]})
        async with running(made.root, made.state, str(made.socket), settings) as socket:
            async with asyncrt.connect(socket, start=False) as rt:
                with pytest.raises(StartFailed, match="createRuntime hook failed: ValueError: not me"):
                    async with rt.run(image, ["true"], annotations={"who": "me"}):
                        pass
    finally:
        await trio.to_thread.run_sync(closed, made)
