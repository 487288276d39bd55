"""What every cgroup driver promises, on v1 and v2, and what each says where it cannot keep it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncrt.daemon import Settings
from asyncrt.errors import BadRequest, Conflict, StorageFailed
from asyncrt.supervisor.cgroups import Cgroups, path_of
from asyncrt.supervisor.systemd import Scope
from shimd.linux import bpf, cgroups, device_rules, freezer
from tests.engine import PROJECT, Engine
from tests.patience import until

pytestmark = pytest.mark.root
TREES = cgroups.hierarchies()
V2 = TREES[0].version == 2
PARENT = f"/asyncrt-c{os.getpid():015x}"
SLICE = f"asyncrt-s{os.getpid():015x}.slice"
CONFIG = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy>
</busconfig>"""


def reap(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


class Bus:
    """A dbus-daemon of our own and a systemd on it."""

    def __init__(self, place: Path, *words: str) -> None:
        self.address = f"unix:path={place}/bus"
        (place / "bus.conf").write_text(CONFIG.format(path=place / "bus"))
        self._daemon = subprocess.Popen(["dbus-daemon", f"--config-file={place}/bus.conf", "--nofork"])
        until((place / "bus").exists, "the bus")
        command = [sys.executable, "-m", "tests.asyncrt.supervisor.fake_systemd", self.address, SLICE, *words]
        self._systemd = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROJECT)
        assert self._systemd.stdout is not None
        assert self._systemd.stdout.readline() == b"ready\n"

    def close(self) -> None:
        reap(self._systemd)
        reap(self._daemon)


def has_bus() -> bool:
    return (
        subprocess.run(["sh", "-c", "command -v dbus-daemon"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    )


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Callable[..., Bus]]:
    if not has_bus():
        pytest.skip("needs dbus-daemon (Debian: dbus-daemon)")
    made: list[Bus] = []

    def make(*words: str) -> Bus:
        made.append(Bus(tmp_path, *words))
        return made[-1]

    yield make
    for one in made:
        one.close()
    for tree in TREES:
        cgroups.kill(tree, f"{tree.mount}/{SLICE}")
        cgroups.remove(f"{tree.mount}/{SLICE}")


@pytest.fixture(params=["cgroupfs", "systemd"])
def driver(request: pytest.FixtureRequest) -> Iterator[Cgroups]:
    """Opened. What is in a scope beside containers is a process that stands for the supervisor."""
    stand_in = subprocess.Popen(["sleep", "600"])
    made: Cgroups
    if request.param == "cgroupfs":
        made = Cgroups(PARENT)
    else:
        bus = request.getfixturevalue("bus")()
        made = Scope(f"{PARENT[1:]}.scope", [stand_in.pid], address=bus.address)
    made.open()
    yield made
    for id in made.ids():
        made.destroy(id)
    made.close()
    reap(stand_in)
    for tree in TREES:
        cgroups.remove(f"{tree.mount}{PARENT}-mine")
        assert not os.path.isdir(tree.mount + made.parent)


def inhabit(driver: Cgroups, id: str, script: str = "sleep 600 & sleep 600 & wait") -> subprocess.Popen[bytes]:
    """A container as a shim would make it."""
    for tree in TREES:
        os.mkdir(tree.mount + driver.of(id))
        if tree.version == 1 and "cpuset" in tree.controllers:
            cgroups.inherit_cpuset(os.path.dirname(tree.mount + driver.of(id)), tree.mount + driver.of(id))
    enter = "; ".join(f"echo 0 > {tree.mount}{driver.of(id)}/cgroup.procs" for tree in TREES)
    shell = subprocess.Popen(["sh", "-c", f"{enter}; {script}"])
    until(lambda: all(cgroups.processes(tree.mount + driver.of(id)) for tree in TREES), "it has entered")
    return shell


def members(driver: Cgroups, id: str) -> list[int]:
    return cgroups.all_processes(driver.directory(id))


def test_the_parent_stands_everywhere_and_hands_on_its_controllers(driver: Cgroups) -> None:
    assert driver.of("box") == f"{driver.parent}/box"
    for tree in TREES:
        assert os.path.isdir(tree.mount + driver.parent)
        assert not cgroups.processes(tree.mount + driver.parent)
    assert driver.ids() == set()
    shell = inhabit(driver, "box")
    files = ("memory.max", "pids.max") if V2 else ("memory.limit_in_bytes", "pids.max")
    for file in files:
        [tree] = [tree for tree in TREES if file.partition(".")[0] in tree.controllers]
        cgroups.write(tree.mount + driver.of("box"), file, "1000000000" if "mem" in file else "100")
    assert driver.ids() == {"box"}
    assert driver.destroy("box") == []
    assert shell.wait(10) == -signal.SIGKILL


def test_its_device_rules(driver: Cgroups) -> None:
    if V2:
        fd = os.open(TREES[0].mount + driver.parent, os.O_RDONLY | os.O_DIRECTORY)
        assert len(bpf.attached(fd)) == 1
        os.close(fd)
        return
    [mount] = [tree.mount for tree in TREES if "devices" in tree.controllers]
    rules = sorted(str(rule) for rule in device_rules.DEFAULT)
    assert sorted(cgroups.read(mount + driver.parent, "devices.list").splitlines()) == rules


def test_a_signal_for_all(driver: Cgroups) -> None:
    shell = inhabit(driver, "box", "trap 'kill -9 0' USR1; sleep 600 & sleep 600 & while :; do sleep 0.01; done")
    until(lambda: len(members(driver, "box")) >= 3, "it is inhabited")
    driver.signal_all("box", signal.SIGKILL)
    assert shell.wait(10) == -signal.SIGKILL
    until(lambda: members(driver, "box") == [], "all are gone")
    driver.signal_all("box", signal.SIGTERM)  # nobody is there: fine
    assert driver.destroy("box") == []
    driver.signal_all("box", signal.SIGKILL)


def test_another_signal_reaches_every_process(driver: Cgroups) -> None:
    shell = inhabit(driver, "box")
    until(lambda: len(members(driver, "box")) == 3, "it is inhabited")
    driver.signal_all("box", signal.SIGTERM)
    assert shell.wait(10) == -signal.SIGTERM
    until(lambda: members(driver, "box") == [], "all are gone")
    assert driver.destroy("box") == []


def test_what_is_busy_frozen_and_has_cgroups_below_goes(driver: Cgroups) -> None:
    shell = inhabit(driver, "box", "while :; do sleep 0.001 & wait; done")
    for tree in TREES:
        os.mkdir(f"{tree.mount}{driver.of('box')}/below")
    freezer.freeze(*driver.freezer("box"))
    assert driver.destroy("box") == []
    assert shell.wait(10) == -signal.SIGKILL
    assert driver.ids() == set()


def test_a_successor_finds_it(driver: Cgroups) -> None:
    shell = inhabit(driver, "box")
    again = type(driver).__new__(type(driver))
    again.__dict__.update(driver.__dict__, _held=[])
    again.open()
    assert (again.parent, again.ids()) == (driver.parent, {"box"})
    again.close()  # a container lives in it
    assert os.path.isdir(TREES[0].mount + driver.parent)
    assert driver.destroy("box") == []
    shell.wait(10)


def test_a_parent_of_its_own(driver: Cgroups) -> None:
    driver.make_parent(f"{PARENT}-mine")
    driver.put("box", f"{PARENT}-mine")
    shell = inhabit(driver, "box")
    until(lambda: len(members(driver, "box")) == 3, "it is inhabited")
    assert driver.of("box") == f"{PARENT}-mine/box"
    assert driver.destroy("box") == []
    shell.wait(10)
    driver.drop("box")
    assert driver.of("box") == f"{driver.parent}/box"
    assert os.path.isdir(f"{TREES[0].mount}{PARENT}-mine")


# what cannot be had


@pytest.mark.parametrize("text", ["/", "", "//", "/a/../b", "./a", "/a\0b"])
def test_no_path_of_a_cgroup(text: str) -> None:
    with pytest.raises(BadRequest, match="read --cgroup-parent"):
        path_of(text)


def test_paths() -> None:
    assert path_of("mine//below/") == "/mine/below"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings("openrc"), '"openrc" is none (cgroupfs or systemd)'),
        (Settings("systemd", "/mine"), '"/mine" is no slice'),
        (Settings("cgroupfs", "/a/../b"), "is no path of a cgroup"),
    ],
)
def test_settings_that_make_no_sense(settings: Settings, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        settings.cgroups(Path("/tmp/none"), [])
    assert said in str(caught.value)


def test_where_a_parent_was_chosen() -> None:
    assert Settings("cgroupfs", "mine").cgroups(Path("/run/asyncrt"), []).parent == "/mine/asyncrt"


def test_a_read_only_file_system_is_said_with_the_mend() -> None:
    script = f"""
import sys
from asyncrt.errors import StorageFailed
from asyncrt.supervisor.cgroups import Cgroups
try:
    Cgroups("{PARENT}-none").open()
except StorageFailed as error:
    print(error)
"""
    remount = "; ".join(f"mount -o remount,bind,ro {tree.mount}" for tree in TREES)
    command = ["unshare", "--mount", "sh", "-c", f'{remount}; exec "$0" -c "$1"', sys.executable, script]
    said = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True).stdout
    assert said.startswith(f"create cgroup {TREES[0].mount}{PARENT}-none: read-only file system (")
    assert "mount it rw" in said


@pytest.mark.skipif(not V2, reason="cgroup v1 has no leaf rule")
def test_a_parent_with_processes_is_said_with_the_mend() -> None:
    directory = f"{TREES[0].mount}{PARENT}"
    os.mkdir(directory)
    sleeper = subprocess.Popen(["sh", "-c", f"echo 0 > {directory}/cgroup.procs; exec sleep 600"])
    try:
        until(lambda: cgroups.processes(directory), "it lives there")
        with pytest.raises(StorageFailed, match=r"processes live in that cgroup"):
            Cgroups(f"{PARENT}/below").open()
        with pytest.raises(Conflict, match=r"name an empty one"):
            Cgroups("/unused").make_parent(f"{PARENT}/below")
    finally:
        reap(sleeper)
        cgroups.remove(directory)


def test_without_systemd() -> None:
    scope = Scope("asyncrt-none.scope", [], address="unix:path=/nowhere/bus")
    with pytest.raises(StorageFailed, match=r"reach systemd by unix:path=/nowhere/bus: no such file .*is systemd"):
        scope.open()


def test_a_bus_without_systemd(tmp_path: Path, bus: Callable[..., Bus]) -> None:
    with_one = bus()
    reap(with_one._systemd)
    with pytest.raises(StorageFailed, match=r"ask systemd for asyncrt-none.scope: .*\(StartTransientUnit: "):
        Scope("asyncrt-none.scope", [], address=with_one.address).open()


def test_a_systemd_that_refuses(bus: Callable[..., Bus]) -> None:
    with pytest.raises(StorageFailed, match="Permission denied"):
        Scope("asyncrt-none.scope", [os.getpid()], address=bus("refuse").address).open()


def test_without_jeepney(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jeepney.io.blocking", None)
    with pytest.raises(StorageFailed, match=r"jeepney is not installed \(pip install asyncrt\[systemd\]"):
        Scope("asyncrt-none.scope", []).open()


def test_an_engine_in_a_scope(bus: Callable[..., Bus], engine: Engine, image: str) -> None:
    engine.env |= {"ASYNCRT_CGROUP_DRIVER": "systemd", "DBUS_SYSTEM_BUS_ADDRESS": bus().address}
    script = "tail /dev/zero; exit 4"
    done = engine.cli("run", "--name", "box", "-m", "16m", "--pids-limit", "9", image, "sh", "-c", script)
    assert done.returncode == 4, engine.story(done)
    ended = engine.inspect("box")["exit"]
    parent = str(engine.json("info")["cgroup_parent"])
    assert parent.startswith(f"/{SLICE}/asyncrt-")
    assert parent.endswith(".scope/containers")
    assert ended["oom_cgroup"].startswith(parent)
    supervisor = engine.supervisor_pid()
    at = TREES[0].mount + os.path.dirname(parent)
    assert supervisor in cgroups.all_processes(at)
    os.kill(supervisor, signal.SIGKILL)
    assert engine.cli("run", "--rm", image, "echo", "again", check=True).stdout == "again\n"


def test_an_engine_that_cannot(engine: Engine, image: str) -> None:
    asked = {"ASYNCRT_CGROUP_DRIVER": "systemd", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere/bus"}
    engine.env |= asked
    refused = engine.cli("run", image, "true")
    for name in asked:
        del engine.env[name]  # the engine is asked once more, when it is closed
    assert refused.returncode == 125
    assert "reach systemd by unix:path=/nowhere/bus" in refused.stderr
