"""config.md, "POSIX-platform Hooks", and their places in the lifecycle of runtime.md."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.bundle import Bundle, read

pytestmark = pytest.mark.root

# moment: (namespace in which it is executed, the states that its stdin may say)
MOMENTS = {
    "prestart": ("runtime", {"creating", "created"}),
    "createRuntime": ("runtime", {"creating", "created"}),
    "createContainer": ("container", {"creating", "created"}),
    "startContainer": ("container", {"created"}),
    "poststart": ("runtime", {"running", "stopped"}),
    "poststop": ("runtime", {"stopped"}),
}
AT_CREATE = ("prestart", "createRuntime", "createContainer")


def hook(bundle: Bundle, moment: str, *words: str, **more: Any) -> dict[str, Any]:
    """A hook that runs the witness: from the container's root for startContainer, else by its path outside."""
    path = "/witness" if moment == "startContainer" else str(bundle.rootfs / "witness")
    return {"path": path, "args": ["witness", *words], **more}


def add(bundle: Bundle, moment: str, *words: str, **more: Any) -> None:
    bundle.config.setdefault("hooks", {}).setdefault(moment, []).append(hook(bundle, moment, *words, **more))


def place(bundle: Bundle, moment: str, name: str) -> str:
    """A file for a hook to write: as it sees it, below the bundle's root file system on the machine."""
    return f"/tmp/{name}" if moment == "startContainer" else str(bundle.rootfs / "tmp" / name)


def through(bundle: Bundle) -> None:
    """A whole life."""
    bundle.does("trace", "/tmp/order", "program").started().ended().delete().ok()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_state_is_on_stdin(bundle: Bundle, moment: str) -> None:
    """config.md, Hooks: the state MUST be passed over stdin."""
    bundle.config["annotations"] = {"org.example.key": "value"}
    add(bundle, moment, "stdin", place(bundle, moment, "state"))
    container = bundle.does("fail", "0").started().ended()
    container.delete().ok()
    state = json.loads((bundle.rootfs / "tmp/state").read_text())
    assert (state["id"], state["bundle"]) == (container.id, str(bundle.path))
    assert state["ociVersion"]
    assert state["status"] in MOMENTS[moment][1]
    assert state["annotations"]["org.example.key"] == "value"
    if moment != "poststop":
        assert state["pid"] > 0


def test_order_of_the_moments(bundle: Bundle) -> None:
    """runtime.md, Lifecycle: prestart, createRuntime, createContainer, startContainer, the program, poststop."""
    moments = [moment for moment in MOMENTS if moment != "poststart"]  # that one runs beside the program
    for moment in moments:
        add(bundle, moment, "trace", place(bundle, moment, "order"), moment)
    through(bundle)
    wanted = [*moments[:-1], "program", "poststop"]
    assert (bundle.rootfs / "tmp/order").read_text().split() == wanted


@pytest.mark.parametrize("moment", MOMENTS)
def test_listed_order(bundle: Bundle, moment: str) -> None:
    """config.md, Hooks: MUST be called in the listed order."""
    for number in range(3):
        add(bundle, moment, "trace", place(bundle, moment, "calls"), str(number))
    through(bundle)
    assert (bundle.rootfs / "tmp/calls").read_text().split() == ["0", "1", "2"]


def test_hooks_of_create_are_called_at_create(bundle: Bundle) -> None:
    """config.md, Hooks: three moments are part of create, the others are not."""
    for moment in MOMENTS:
        add(bundle, moment, "trace", place(bundle, moment, "calls"), moment)
    bundle.create()
    assert (bundle.rootfs / "tmp/calls").read_text().split() == list(AT_CREATE)


def test_poststart_is_called_before_start_returns(bundle: Bundle) -> None:
    """config.md, Poststart: after the program is executed, but before start returns."""
    add(bundle, "poststart", "trace", place(bundle, "poststart", "calls"), "poststart")
    container = bundle.does("pause").create()
    assert not (bundle.rootfs / "tmp/calls").exists()
    container.start().ok()
    assert (bundle.rootfs / "tmp/calls").exists()


def test_poststop_is_called_after_the_container_is_gone(bundle: Bundle) -> None:
    """config.md, Poststop: after the container is deleted, but before delete returns."""
    add(bundle, "poststop", "trace", place(bundle, "poststop", "calls"), "poststop")
    container = bundle.does("fail", "0").started().ended()
    assert not (bundle.rootfs / "tmp/calls").exists()
    container.delete().ok()
    assert (bundle.rootfs / "tmp/calls").exists()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_namespace(bundle: Bundle, moment: str) -> None:
    """config.md, Hooks, Summary: where each is executed."""
    where = MOMENTS[moment][0]
    add(bundle, moment, "into", place(bundle, moment, "seen"), ",", "report")
    container = bundle.does("report").started().ended()
    inside = container.facts()
    container.delete().ok()
    seen = read((bundle.rootfs / "tmp/seen").read_text())
    for kind in ("net", "uts", "ipc"):
        assert seen[f"ns {kind}"] == (
            bundle.runtime.room.namespace(kind) if where == "runtime" else inside[f"ns {kind}"]
        )


def test_create_container_sees_the_mounts(bundle: Bundle) -> None:
    """config.md, CreateContainer Hooks: in the container's mount namespace, before pivot_root."""
    add(bundle, "createContainer", "into", place(bundle, "createContainer", "seen"), ",", "report")
    bundle.mount("/mnt", "tmpfs", "of-this-test").create()
    assert f" {bundle.rootfs}/mnt " in (bundle.rootfs / "tmp/seen").read_text()


def test_hooks_see_the_containers_network_at_create_runtime(bundle: Bundle) -> None:
    """config.md, Prestart: called after the namespaces are created, so that they can be customised."""
    script = (
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); "
        f'readlink /proc/$pid/ns/net >{bundle.path}/seen; test -n "$pid"'
    )
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    inside = bundle.report()["ns net"]
    assert (bundle.path / "seen").read_text().strip() == inside


def test_args_and_env(bundle: Bundle) -> None:
    """config.md, Hooks, args and env: execv's argv and the environment, as they stand."""
    script = f'printf "%s %s %s" "$0" "$1" "$KEY" >{bundle.path}/seen; env >>{bundle.path}/seen'
    entry = {"path": "/bin/sh", "args": ["any name", "-c", script, "zero", "one"], "env": ["KEY=value"]}
    bundle.config["hooks"] = {"createRuntime": [entry]}
    bundle.create(env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LEAKED": "yes"})
    seen = (bundle.path / "seen").read_text()
    assert seen.startswith("zero one value")


def test_path_must_be_absolute(bundle: Bundle) -> None:
    """config.md, Hooks, path: MUST be absolute."""
    bundle.config["hooks"] = {"createRuntime": [{"path": "true"}]}
    bundle.refused()


def test_timeout_must_be_positive(bundle: Bundle) -> None:
    """config.md, Hooks, timeout: MUST be greater than zero."""
    add(bundle, "createRuntime", "fail", "0", timeout=0)
    bundle.refused()


@pytest.mark.parametrize("moment", [*AT_CREATE, "startContainer"])
def test_timeout(bundle: Bundle, moment: str) -> None:
    """config.md, Hooks, timeout: seconds before the hook is aborted."""
    add(bundle, moment, "pause", timeout=1)
    started = time.monotonic()
    container = bundle.attempt()
    if moment == "startContainer":
        assert container.created.code == 0
        container.start().refused()
    else:
        container.created.refused()
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("moment", AT_CREATE)
def test_a_hook_of_create_that_fails(bundle: Bundle, moment: str) -> None:
    """runtime.md, Lifecycle, 3 to 5: an error; the container is stopped and destroyed, poststop is called."""
    add(bundle, moment, "fail", "1")
    add(bundle, moment, "trace", place(bundle, moment, "calls"), "next")
    add(bundle, "poststop", "trace", place(bundle, "poststop", "calls"), "poststop")
    bundle.refused()
    calls = Path(bundle.rootfs / "tmp/calls")
    assert calls.exists(), "poststop was not called"
    assert calls.read_text() == "poststop\n"


def test_a_start_container_hook_that_fails(bundle: Bundle) -> None:
    """runtime.md, Lifecycle, 7, 12 and 13: an error, no program, the container is destroyed, poststop is called."""
    add(bundle, "startContainer", "fail", "1")
    add(bundle, "poststop", "trace", place(bundle, "poststop", "calls"), "poststop")
    container = bundle.does("touch", "/tmp/ran").create()
    container.start().refused()
    assert not (bundle.rootfs / "tmp/ran").exists()
    assert not container.exists()
    assert (bundle.rootfs / "tmp/calls").read_text() == "poststop\n"


def test_a_poststart_hook_that_fails(bundle: Bundle) -> None:
    """runtime.md, Lifecycle, 9, 12 and 13 (1.3): an error, the container is destroyed, poststop is called."""
    add(bundle, "poststart", "fail", "1")
    add(bundle, "poststop", "trace", place(bundle, "poststop", "calls"), "poststop")
    container = bundle.does("pause").create()
    container.start().refused()
    assert not container.exists()
    assert (bundle.rootfs / "tmp/calls").read_text() == "poststop\n"


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "poststart", "poststop"])
def test_a_hook_without_env(bundle: Bundle, moment: str) -> None:
    """Not of the spec, but of runc and crun: it has the environment that the runtime was started with."""
    add(bundle, moment, "into", place(bundle, moment, "seen"), ",", "report")
    bundle.config["hooks"][moment][0].pop("env", None)
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MARK": "runtimes"}
    bundle.does("fail", "0").run(env=environment).ok()
    assert read((bundle.rootfs / "tmp/seen").read_text())["env MARK"] == "runtimes"


def test_a_poststop_hook_that_fails(bundle: Bundle) -> None:
    """runtime.md, Lifecycle, 13: a warning; the remaining hooks are called, the container is deleted."""
    add(bundle, "poststop", "fail", "1")
    add(bundle, "poststop", "trace", place(bundle, "poststop", "calls"), "second")
    container = bundle.does("fail", "0").started().ended()
    container.delete().ok()
    assert not container.exists()
    assert (bundle.rootfs / "tmp/calls").read_text() == "second\n"
