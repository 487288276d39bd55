"""What holds a container when nobody asked otherwise, from inside; and the words that loosen or tighten it."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from shimd.linux import seccomp as kernel
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root
try:
    kernel.resolve("read")
except kernel.Unavailable as missing:
    pytest.skip(f"no libseccomp: {missing}", allow_module_level=True)

KILLED = 137
STATUS = ("grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status")


def status(text: str) -> tuple[int, int]:
    """(Seccomp, NoNewPrivs)."""
    found = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}
    return found["Seccomp"], found["NoNewPrivs"]


def test_everybody_is_filtered(shared: Engine, image: str) -> None:
    name = shared.cli("run", "-d", image, "sleep", "600", check=True).stdout.strip()
    assert status(shared.cli("run", image, *STATUS, check=True).stdout) == (2, 0)
    assert status(shared.cli("run", "-u", "app", image, *STATUS, check=True).stdout) == (2, 0)
    assert status(shared.cli("exec", name, *STATUS, check=True).stdout) == (2, 0)
    assert status(shared.cli("exec", "-u", "app", name, *STATUS, check=True).stdout) == (2, 0)


@pytest.mark.parametrize(
    "words",
    [
        ("unshare", "-U", "true"),  # the way to capabilities of one's own
        ("unshare", "-m", "true"),
        ("mount", "-t", "tmpfs", "x", "/tmp"),
        ("swapoff", "/x"),
    ],
)
@pytest.mark.busybox
def test_a_call_that_is_not_allowed_fails_with_eperm(shared: Engine, image: str, words: tuple[str, ...]) -> None:
    done = shared.cli("run", image, *words)
    assert done.returncode not in (0, 125)
    assert "not permitted" in done.stderr or "must be superuser" in done.stderr or "permission denied" in done.stderr


@pytest.mark.busybox
def test_unconfined(shared: Engine, image: str) -> None:
    asked = ("--security-opt", "seccomp=unconfined")
    assert status(shared.cli("run", *asked, image, *STATUS, check=True).stdout) == (0, 0)
    assert shared.cli("run", *asked, image, "unshare", "-U", "true").returncode == 0


def test_a_capability_opens_its_calls(shared: Engine, image: str) -> None:
    shared.cli("run", "--cap-add", "SYS_ADMIN", image, "mount", "-t", "tmpfs", "x", "/tmp", check=True)


@pytest.mark.busybox
def test_a_profile_of_ones_own(shared: Engine, image: str, tmp_path: Path) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    (tmp_path / "profile").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    asked = ("--security-opt", f"seccomp={tmp_path}/profile")
    done = shared.cli("run", "--name", "guest", *asked, image, "mkdir", "/tmp/x")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    shared.cli("run", *asked, image, "unshare", "-U", "true", check=True)
    (tmp_path / "profile").unlink()  # the container has it
    assert shared.cli("start", "guest").returncode in (0, 1)


def test_a_profile_that_is_none(shared: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text('{"defaultAction": "SCMP_ACT_NONE"}')
    done = shared.cli("run", "--security-opt", f"seccomp={tmp_path}/profile", image, "true")
    assert done.returncode == 125
    said = "read --security-opt seccomp: $.defaultAction: unknown action 'SCMP_ACT_NONE'"
    assert done.stderr == f"asyncrt: {said}\n"


def test_no_new_privileges(shared: Engine, image: str) -> None:
    asked = ("--security-opt", "no-new-privileges")
    assert status(shared.cli("run", *asked, image, *STATUS, check=True).stdout) == (2, 1)
    name = shared.cli("run", "-d", *asked, image, "sleep", "600", check=True).stdout.strip()
    assert status(shared.cli("exec", name, *STATUS, check=True).stdout) == (2, 1)


def test_a_set_uid_program_does_not_outlive_its_shim(shared: Engine, tmp_path: Path) -> None:
    """Its exec clears the parent death signal (PR_SET_PDEATHSIG(2const)): the supervisor kills by cgroup."""
    shutil.copy("/bin/sleep", tmp_path / "sleep")  # busybox's own would drop what it was given
    (tmp_path / "sleep").chmod(0o4755)
    tmp_path.chmod(0o755)
    asked = ("-u", "1000:1000", "-v", f"{tmp_path}:/opt")
    name = shared.cli("run", "-d", *asked, "host:", "/opt/sleep", "600", check=True).stdout.strip()
    running = shared.inspect(name)
    uids = [line.split() for line in Path(f"/proc/{running['pid']}/status").read_text().splitlines() if "Uid:" in line]
    assert uids == [["Uid:", "1000", "0", "0", "0"]]
    os.kill(running["shim_pid"], signal.SIGKILL)
    assert shared.cli("wait", name).stdout == f"{KILLED}\n"
    until(lambda: not os.path.exists(f"/proc/{running['pid']}"), "the set-uid program is dead")
    assert shared.inspect(name)["exit"]["lost"]


def test_the_interpreter_of_the_runtime_cannot_be_written(shared: Engine, image: str) -> None:
    """CVE-2019-5736: who gets hold of a shim's or an init's program has it on a read-only mount, its end included."""
    name = shared.cli("run", "-d", image, "sleep", "600", check=True).stdout.strip()
    held = os.open(f"/proc/{shared.inspect(name)['shim_pid']}/exe", os.O_PATH)
    try:
        shared.cli("kill", name, check=True)
        assert os.fstatvfs(held).f_flag & os.ST_RDONLY
        with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
            os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
    finally:
        os.close(held)
    done = shared.cli("run", "--rm", image, "/proc/self/exe", "-c", "print(1)")
    assert done.returncode in (126, 127)
