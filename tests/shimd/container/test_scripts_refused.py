"""What a script refuses is told in the reference's words, and nothing is left of it."""

import os
import re
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import script
from shimd.wire.messages import Failed, RootMount, Started
from tests.shimd.configs import MOUNTS, config
from tests.shimd.line import gone, until
from tests.shimd.pair import Pair, by_script
from tests.shimd.stage import Container, Stage, StartFailed, opened

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not script.usable(), reason="script.c is not built for this machine"),
]


def path_socket_taken(one: Stage) -> Container:
    first = one.start(config("sleep", "600"))
    second = one.prepare()
    one.spawn(second, one.template(config("true")), id=first.id)
    return second


def cgroup_taken(one: Stage) -> Container:
    first = one.start(config("sleep", "600"))
    second = one.prepare()
    one.spawn(second, one.template(config("true")), cgroup=first.cgroup)
    return second


def unlike(mounts_: list[dict[str, Any]] | None = None, **process: Any) -> dict[str, Any]:
    args = process.pop("args", ["true"])
    return config(*args, process=process, mounts=[*MOUNTS, *(mounts_ or [])])


FILES = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
TMPFS = {"type": "tmpfs", "source": "tmpfs", "options": []}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such program": (unlike(args=["nothing"]), {}, "run nothing: no such file or directory"),
    "no such path": (unlike(args=["/bin/nothing"]), {}, "run /bin/nothing: no such file or directory"),
    "not executable": (unlike(args=["/bin/notexec"]), {}, "run /bin/notexec: permission denied"),
    "not executable on PATH": (unlike(args=["notexec"]), {}, "run notexec: permission denied"),
    "no interpreter": (unlike(args=["nointerp"]), {}, "its interpreter is missing"),
    "garbage": (unlike(args=["garbage"]), {}, "run garbage: exec format error"),
    "a directory as program": (unlike(args=["/etc"]), {}, "run /etc: permission denied"),
    "a file as directory": (unlike(cwd="/etc/passwd"), {}, "/etc/passwd: not a directory"),
    "a limit above the kernel's": (
        unlike(rlimits=[{"type": "RLIMIT_NOFILE", "soft": FILES, "hard": FILES}]),
        {},
        "set RLIMIT_NOFILE to .*: operation not permitted",
    ),
    "a period that no scheduler has": (
        config("true", linux={"resources": {"cpu": {"period": 10}}}),
        {},
        "set limit .*: invalid argument",
    ),
    "a sysctl that is none": (
        config("true", linux={"sysctl": {"net.ipv4.no_such": "1"}}),
        {},
        "net.ipv4.no_such.*: no such file",
    ),
    "a mount on a file": (unlike([{"destination": "/etc/passwd", **TMPFS}]), {}, "not a directory"),
    "an unknown file system": (unlike([{"destination": "/x", "type": "nofs", "source": "x"}]), {}, "no such device"),
    "an option that is none": (
        unlike([{"destination": "/x", **TMPFS, "options": ["nonsense=1"]}]),
        {},
        "nonsense",
    ),
    "a bind of nothing": (
        unlike([{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}]),
        {},
        "no such file or directory",
    ),
    "PATH of its own": (unlike(args=["true"]), {"env": ["PATH=/nowhere"]}, "run true: no such file"),
    "an environment that is too long": (unlike(), {"env": ["X=" + "x" * 150_000]}, "argument list too long"),
    "a hostname that is too long": (unlike(), {"hostname": "x" * 65}, "invalid argument|name too long"),
    "a root that is missing": (unlike(), {"root": [RootMount("bind", ["/no/such/root"])]}, "no such file"),
    "a layer that is missing": (unlike(), {"root": [RootMount("overlay", ["/no/such", "/tmp"])]}, "root file system"),
    "an upper layer that is missing": (
        unlike(),
        {"root": [RootMount("overlay", ["/tmp"], "/no/upper", "/no/work")]},
        "root file system",
    ),
    "a cgroup below nothing": (unlike(), {"cgroup": "/no-such-parent/x"}, "create cgroup in .*: no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alike(pair: Pair, name: str) -> None:
    wanted, spawn, words = REFUSED[name]
    told = []
    for one in pair[:2]:
        container = one.prepare()
        one.spawn(container, one.template(wanted), **spawn)
        told.append(refusal(container))
        assert one.left_of(container) == []
    assert told[0] == told[1]
    assert re.search(words, told[0]), told[0]


@pytest.mark.parametrize("start", [path_socket_taken, cgroup_taken], ids=lambda start: start.__name__)
def test_what_is_anothers_stays(pair: Pair, start: Any) -> None:
    told = []
    for one in pair[:2]:
        told.append(refusal(start(one)))
        first = one.containers[0]
        assert first.query().state == "running"
        assert len(one.left_of(first)) > 1
    assert told[0] == told[1]


def refusal(container: Container) -> str:
    with pytest.raises(StartFailed) as refused:
        container.started()
    assert container.gone() == []
    trouble = refused.value.trouble
    text = f"{trouble} errno={trouble.errno} code={trouble.code}"
    return re.sub(r"[0-9a-f]{12,64}", "ID", text.replace(str(container.base), "BASE"))


def test_more_layers_than_a_script_takes(pair: Pair, tmp_path: Path, rootfs: Path) -> None:
    layers = []
    for number in range(130):
        (tmp_path / str(number)).mkdir()
        layers.append(str(tmp_path / str(number)))
    with opened(rootfs, [tmp_path]) as one:
        for count in (127, 128, 129):
            container = one.prepare()
            recipe = container.root._replace(lower=[*layers[: count - 1], str(rootfs)])
            one.spawn(container, one.template(config("sleep", "600")), root=[recipe])
            container.started()
            assert by_script(container) == (count <= 128)


def test_nothing_is_started_for_a_supervisor_that_is_gone(pair: Pair) -> None:
    for one in pair[:2]:
        container = one.prepare()
        one.spawn(container, one.template(config("sleep", "600")), ticket=False)
        container.end.close()
        one.ticket()
        assert until(lambda c=container: c.log("exit") != b"")
        assert until(lambda o=one, c=container: o.left_of(c) == [])
        assert b"the supervisor is gone" in container.log("exit")


def test_init_is_killed_while_it_is_set_up(pair: Pair) -> None:
    """A frozen parent cgroup holds it where it enters. What a script could not do the reference does once more."""
    freezer = next((tree for tree in pair.scripted.hierarchies if "freezer" in tree.controllers), None)
    if freezer is None:
        pytest.skip("the freezer of cgroup v1 is what holds init here")
    one = pair.scripted
    parent = Path(freezer.mount + one.cgroup)
    container = one.prepare()
    (parent / "freezer.state").write_text("FROZEN")
    try:
        one.spawn(container, one.template(config("sleep", "600")))
        tasks = Path(freezer.mount + container.cgroup) / "tasks"
        assert until(lambda: tasks.exists() and tasks.read_text().strip())
        assert container.silent(0.2)
        pid = int(tasks.read_text())
        os.kill(pid, 9)
    finally:
        (parent / "freezer.state").write_text("THAWED")
    assert gone(pid)
    assert container.started().pid != pid
    assert not by_script(container)
    container.kill()
    container.ended()
    assert container.gone() == []
    assert one.left_of(container) == []


def test_descriptors_run_out(pair: Pair) -> None:
    """Wherever that happens nothing is left of a start that is told, and the next one is as good as ever."""
    for one in pair[:2]:
        own = resource.prlimit(one.zygote.pid, resource.RLIMIT_NOFILE)
        key = one.template(config("sleep", "600"))
        outcomes = set()
        for most in range(10, 36):
            container = one.prepare()
            resource.prlimit(one.zygote.pid, resource.RLIMIT_NOFILE, (most, own[1]))
            try:
                one.spawn(container, key)
                outcomes.add(type(container.hear()))
            finally:
                resource.prlimit(one.zygote.pid, resource.RLIMIT_NOFILE, own)
            if container.heard:  # else its shim could not even do the reference's part: the supervisor clears for it
                if isinstance(container.heard[0], Started):
                    container.kill()
                container.gone()
                assert one.left_of(container) == [], most
            container.close()
            one.containers.remove(container)
        assert {Started, Failed} <= outcomes
        assert one.start(config("sleep", "600")).query().state == "running"
        one.complaints()  # a shim that could not even take its Spawn says so


def test_a_start_is_counted_once(pair: Pair) -> None:
    """Phases come in their order, as with the reference."""
    for one in pair[:2]:
        before = time.monotonic_ns()
        timeline = one.start(config("sleep", "600")).started().timeline
        assert [phase for phase, _ in timeline] == ["queue", "zygote", "cgroup", "namespaces", "mounts", "exec"]
        moments = [moment for _, moment in timeline]
        assert before <= moments[0]
        assert moments == sorted(moments)
