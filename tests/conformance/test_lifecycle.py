"""runtime.md: state, create, start, kill, delete, errors."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conformance.bundle import Bundle, cgroup_mounts, until

pytestmark = pytest.mark.root


def test_state_of_a_created_container(bundle: Bundle) -> None:
    """runtime.md, State: ociVersion, id, status, pid, bundle."""
    container = bundle.create()
    state = container.state()
    assert state["ociVersion"].startswith("1.")
    assert (state["id"], state["status"], state["bundle"]) == (container.id, "created", str(bundle.path))
    assert Path(f"/proc/{state['pid']}").exists()


def test_bundle_in_the_state_is_absolute(bundle: Bundle) -> None:
    """runtime.md, State, bundle: the absolute path, also where the caller's was none."""
    bundle.write()
    id = bundle.id()
    words = (bundle.runtime.program, "--root", str(bundle.runtime.root), "create", "--bundle", ".", id)
    bundle.runtime.room.run("sh", "-c", 'cd "$0" && exec "$@" >/dev/null 2>&1', str(bundle.path), *words)
    assert json.loads(bundle.runtime("state", id).ok().out)["bundle"] == str(bundle.path)


def test_state_of_a_running_container(bundle: Bundle) -> None:
    """runtime.md, State, status: running, the pid being the container process."""
    state = bundle.does("pause").started().state()
    assert state["status"] == "running"
    until(lambda: Path(f"/proc/{state['pid']}/cmdline").read_bytes() == b"/witness\0pause\0", "the program runs")


def test_state_of_a_stopped_container(bundle: Bundle) -> None:
    """runtime.md, State, status: stopped, once the container process has exited."""
    bundle.does("fail", "3").started().ended()


def test_state_of_nothing_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Query State: of a container that does not exist."""
    bundle.runtime("state", "no-such-container").refused()


@pytest.mark.parametrize("operation", ["state", "create", "start", "kill", "delete"])
def test_operations_need_an_id(bundle: Bundle, operation: str) -> None:
    """runtime.md, Operations: MUST generate an error if it is not provided the ID."""
    bundle.runtime(operation).refused()


def test_create_does_not_run_the_program(bundle: Bundle) -> None:
    """runtime.md, Lifecycle, 2: the user-specified program MUST NOT be run at this time."""
    container = bundle.does("touch", "/tmp/ran").create()
    assert not (bundle.rootfs / "tmp/ran").exists()
    container.start().ok()
    container.wait("stopped")
    assert (bundle.rootfs / "tmp/ran").exists()


def test_config_is_read_once(bundle: Bundle) -> None:
    """runtime.md, Create: changes to config.json after it have no effect."""
    container = bundle.does("touch", "/tmp/first").create()
    bundle.does("touch", "/tmp/second").write()
    container.start().ok()
    container.wait("stopped")
    assert os.listdir(bundle.rootfs / "tmp") == ["first"]


def test_the_environment_is_made_at_create(bundle: Bundle) -> None:
    """runtime.md, Create: all properties except process MUST be applied."""
    state = bundle.create().state()
    assert os.readlink(f"/proc/{state['pid']}/ns/uts") != bundle.runtime.room.namespace("uts")
    assert " /dev/shm " in Path(f"/proc/{state['pid']}/mountinfo").read_text()


def test_ids_are_unique(bundle: Bundle) -> None:
    """runtime.md, Create: a second container of the ID MUST NOT be created, and the first is as it was."""
    container = bundle.does("pause").create()
    before = container.state()
    bundle.runtime("create", "--bundle", str(bundle.path), container.id).refused()
    assert container.state() == before
    container.start().ok()


@pytest.mark.parametrize("id", ["../evil", "a/b", "", ".."])
def test_ids_are_valid(bundle: Bundle, id: str) -> None:
    """runtime.md, Create: an ID that is not valid in any other way MUST generate an error."""
    bundle.write()
    before = sorted(os.listdir(bundle.runtime.root.parent))
    bundle.runtime("create", "--bundle", str(bundle.path), id).refused()
    assert sorted(os.listdir(bundle.runtime.root.parent)) == before


def test_a_bundle_without_config(bundle: Bundle) -> None:
    """runtime.md, Create: what cannot be created is an error."""
    bundle.runtime("create", "--bundle", str(bundle.path / "nowhere"), bundle.id()).refused()
    bundle.runtime("create", "--bundle", str(bundle.rootfs), bundle.id()).refused()


def test_a_failed_create_leaves_nothing(bundle: Bundle) -> None:
    """runtime.md, Errors: the environment MUST be left as if the operation were never attempted."""
    bundle.mount("/data", "bind", "/no/such/source", "bind").refused()
    assert os.listdir(bundle.runtime.root) == []
    name = bundle.path.name
    assert not [place for place in cgroup_mounts().values() if (place / bundle.cgroup.lstrip("/") / name).exists()]
    bundle.config["mounts"].pop()
    bundle.report()


def test_start_needs_a_process(bundle: Bundle) -> None:
    """config.md, Process: REQUIRED when start is called, not before."""
    del bundle.config["process"]
    container = bundle.create()
    container.start().refused()
    container.ended()


def test_start_of_nothing_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Start: of a container that does not exist."""
    bundle.runtime("start", "no-such-container").refused()


def test_start_twice(bundle: Bundle) -> None:
    """runtime.md, Start: of a container that is not created MUST be an error, without effect."""
    container = bundle.does("pause").started()
    before = container.state()
    container.start().refused()
    assert container.state() == before


def test_start_of_a_stopped_container(bundle: Bundle) -> None:
    """runtime.md, Start: nor of one that has ended."""
    bundle.does("trace", "/tmp/runs", "once").started().ended().start().refused()
    assert (bundle.rootfs / "tmp/runs").read_text() == "once\n"


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", str(int(signal.SIGUSR1))])
def test_kill_sends_the_signal(bundle: Bundle, name: str) -> None:
    """runtime.md, Kill: the specified signal to the container process."""
    number = str(int(signal.SIGUSR1))
    container = bundle.does("trap", number, "/tmp/word", ",", "touch", "/tmp/ready", ",", "pause").started()
    until((bundle.rootfs / "tmp/ready").exists, "the trap is set")
    container.kill(name).ok()
    container.wait("stopped")
    assert (bundle.rootfs / "tmp/word").read_text() == "caught"


def test_kill_of_an_unknown_signal(bundle: Bundle) -> None:
    """runtime.md, Kill: what is no signal is an error, without effect."""
    container = bundle.does("pause").started()
    container.kill("NOTHING").refused()
    assert container.state()["status"] == "running"


def test_kill_of_a_created_container(bundle: Bundle) -> None:
    """runtime.md, Kill: created is one of the two states that take a signal."""
    container = bundle.create()
    container.kill("KILL").ok()
    container.wait("stopped")


def test_kill_of_a_stopped_container(bundle: Bundle) -> None:
    """runtime.md, Kill: neither created nor running MUST be an error."""
    bundle.does("fail", "0").started().ended().kill("KILL").refused()


def test_kill_of_nothing_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Kill: of a container that does not exist."""
    bundle.runtime("kill", "no-such-container", "KILL").refused()


def test_delete(bundle: Bundle) -> None:
    """runtime.md, Delete: a stopped container, with the resources that create made."""
    container = bundle.does("fail", "0").started().ended()
    container.delete().ok()
    assert not container.exists()
    name = bundle.path.name
    assert not [place for place in cgroup_mounts().values() if (place / bundle.cgroup.lstrip("/") / name).exists()]
    assert os.listdir(bundle.runtime.root) == []


def test_delete_of_a_running_container(bundle: Bundle) -> None:
    """runtime.md, Delete: of one that is not stopped MUST be an error, without effect."""
    container = bundle.does("pause").started()
    before = container.state()
    container.delete().refused()
    assert container.state() == before


def test_delete_of_a_created_container(bundle: Bundle) -> None:
    """runtime.md, Delete: created is not stopped. (runc's callers rely on the opposite, which all runtimes do.)"""
    container = bundle.create()
    container.delete().ok()
    assert not container.exists()


def test_delete_of_nothing_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Delete: of a container that does not exist."""
    bundle.runtime("delete", "no-such-container").refused()


def test_delete_leaves_what_it_did_not_make(bundle: Bundle) -> None:
    """runtime.md, Delete: resources that this container did not create MUST NOT be deleted."""
    (bundle.path / "source").mkdir()
    (bundle.path / "source/file").touch()
    bundle.mount("/data", "bind", "source", "bind").does("fail", "0").started().ended().delete().ok()
    assert (bundle.path / "source/file").exists()
    assert (bundle.rootfs / "witness").exists()
    assert (bundle.path / "config.json").exists()


def test_an_id_can_be_used_again(bundle: Bundle) -> None:
    """runtime.md, Delete: once deleted, the ID MAY be used by a subsequent container."""
    container = bundle.does("fail", "0").started().ended()
    container.delete().ok()
    again = bundle.attempt(id=container.id)
    assert again.created.code == 0, again.output()
    again.start().ok()


def test_the_exit_status_of_run(bundle: Bundle) -> None:
    """Not of the spec, and what every caller of the command line has: run ends as the program does."""
    assert bundle.does("fail", "42").run().code == 42


def test_only_three_descriptors(bundle: Bundle) -> None:
    """runtime-linux.md, File descriptors: only stdin, stdout and stderr are kept open."""
    held = os.open("/dev/null", os.O_RDONLY)
    try:
        facts = bundle.report(fds=(held,))
    finally:
        os.close(held)
    assert set(facts["fds"].split()) == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ],
)
def test_dev_symbolic_links(bundle: Bundle, link: str, target: str) -> None:
    """runtime-linux.md, Dev symbolic links: MUST be created if the source exists after the mounts."""
    assert bundle.does("readlink", link).report()[f"readlink {link}"] == target
