"""Labels: which mounts take one, and what is said where no security module reads them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shimd.container import labels
from shimd.container.plan import compile_plan
from shimd.linux import procfs
from shimd.spec.config import Mount
from shimd.spec.validate import load
from tests.shimd.configs import config
from tests.shimd.stage import Stage, StartFailed

CONTEXT = "system_u:object_r:container_file_t:s0:c1,c2"


@pytest.mark.parametrize("kind", ["tmpfs", "devpts", "overlay"])
def test_file_systems_that_take_a_context(kind: str) -> None:
    mount = labels.labelled(Mount("/x", kind, kind, ("nosuid",)), CONTEXT)
    assert mount.options == ("nosuid", f"context={CONTEXT}")


@pytest.mark.parametrize(
    "mount",
    [Mount("/proc", "proc"), Mount("/sys", "sysfs"), Mount("/x", "", "/y", ("rbind",)), Mount("/q", "mqueue")],
)
def test_file_systems_that_do_not(mount: Mount) -> None:
    assert labels.labelled(mount, CONTEXT) == mount


def test_without_a_label_nothing_changes() -> None:
    mount = Mount("/x", "tmpfs")
    assert labels.labelled(mount, "") is mount


def test_labels_are_set_before_the_root_changes() -> None:
    process = {"apparmorProfile": "p", "selinuxLabel": "l"}
    plan = compile_plan(load(config("sh", process=process, linux={"mountLabel": "m"})), [], stdin=False)
    lines = plan.describe()
    for line in ("birth: set AppArmor profile p", "birth: set SELinux label l", "rooting: label mounts m"):
        assert lines.index(line) < lines.index("rooting: mount proc on /proc")


@pytest.mark.root
@pytest.mark.parametrize(
    ("module", "place", "wish", "deed"),
    [
        ("apparmor", "process", {"apparmorProfile": "p"}, "set AppArmor profile p"),
        ("selinux", "process", {"selinuxLabel": "l"}, "set SELinux label l"),
        ("selinux", "linux", {"mountLabel": "m"}, "label mounts m"),
    ],
)
def test_a_kernel_without_it_says_so(stage: Stage, module: str, place: str, wish: dict[str, Any], deed: str) -> None:
    if getattr(labels, f"has_{module}")():
        pytest.skip("this kernel has the module")
    with pytest.raises(StartFailed, match=f"{deed}: this kernel has no {module}, or it is not enabled"):
        stage.start(config("true", **{place: wish}))


@pytest.mark.root
def test_an_apparmor_profile(stage: Stage) -> None:
    if not labels.has_apparmor():
        pytest.skip("this kernel has no AppArmor")
    document = config("cat", "/proc/self/attr/current", process={"apparmorProfile": "unconfined"})
    assert stage.output(document).strip() == "unconfined"
    with pytest.raises(StartFailed, match=r"set AppArmor profile no-such-profile: |run cat: "):
        stage.start(config("cat", "/x", process={"apparmorProfile": "no-such-profile"}))
    container = stage.start(config("sleep", "60"))
    assert container.run_inside("cat", "/proc/self/attr/current", apparmorProfile="unconfined").strip() == "unconfined"


INSIDE_A_TMPFS = """
import os, sys
sys.path[:0] = {path!r}
from shimd.linux import mounts, processes, procfs
processes.unshare(processes.CLONE_NEWNS)
mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
os.makedirs({trap!r} + "/self/attr")
open({trap!r} + "/self/attr/exec", "w").close()
mounts.mount({trap!r}, {target!r}, None, mounts.MS_BIND)
try:
    procfs.write("self/attr/exec", "exec unconfined")
except OSError as error:
    print(error.strerror)
print(open({trap!r} + "/self/attr/exec").read() == "")
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("target", "said"),
    [("/proc", "it is not the root of a procfs"), ("/proc/tty", ""), ("/proc/self/attr", "Invalid cross-device link")],
)
def test_a_proc_that_was_swapped_catches_nothing(tmp_path: Path, target: str, said: str) -> None:
    """CVE-2019-19921, CVE-2025-52881: a label written into somebody's directory would be no label."""
    trap = str(tmp_path / "trap")
    # A name below /proc/self is per process: the trap is laid on the writer's own.
    script = INSIDE_A_TMPFS.format(path=[str(Path(procfs.__file__).parents[2])], trap=trap, target=target)
    if target.startswith("/proc/self"):
        script = script.replace("/self/attr/exec", "/exec").replace('+ "/self/attr")', '+ "")')
        script = script.replace('procfs.write("/exec"', 'procfs.write("self/attr/exec"')
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *errors, untouched = done.stdout.splitlines()
    assert untouched == "True", done.stdout + done.stderr
    assert not said or said in errors
    assert os.path.exists("/proc/self/attr/exec")


def test_the_label_reaches_the_mounts_of_a_plan() -> None:
    plan = compile_plan(load(config("sh", linux={"mountLabel": CONTEXT})), [], stdin=False)
    labelled = [step.describe()[1] for step in plan.rooting if f"context', '{CONTEXT}'" in repr(step)]
    assert labelled == ["tmpfs on /dev", "devpts on /dev/pts", "tmpfs on /dev/shm"]
