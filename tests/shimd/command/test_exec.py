"""exec: joins everything, is nobody's prey, and says what became of it."""

import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.patience import until
from tests.shimd.command.runtime import Runtime
from tests.shimd.configs import config, process_of, shell

pytestmark = pytest.mark.root

C = f"asyncrt-oci-{os.getpid()}-exec"
SLEEP = config("sleep", "100")


@pytest.fixture
def running(oci: Runtime) -> Runtime:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    return oci


def test_output_and_exit_code(running: Runtime) -> None:
    result = running("exec", C, "sh", "-c", "echo out; echo err >&2; exit 9")
    assert (result.code, result.stdout, result.stderr) == (9, "out\n", "err\n")


def test_it_joins_every_namespace_and_cgroup(running: Runtime) -> None:
    pid = running.state(C)["pid"]
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    out = running.must("exec", C, "sh", "-c", script + "; cat /proc/self/cgroup").stdout.split()
    assert out[: len(kinds)] == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]
    # Seen from the container's own cgroup namespace both are in its root.
    assert {line.rpartition(":")[2] for line in out[len(kinds) :] if ":pids:" in line or ":memory:" in line} <= {"/"}


def test_flags_change_the_process(running: Runtime) -> None:
    words = ("-u", "1000:1001", "--additional-gids", "50", "--cwd", "/tmp", "-e", "A=b", "--env=C=d")
    script = "id -u; id -g; id -G; pwd; echo $A$C"
    out = running.must("exec", *words, C, "sh", "-c", script).stdout.split()
    assert out == ["1000", "1001", "1001", "50", "/tmp", "bd"]


def test_a_process_document(running: Runtime) -> None:
    path = running.folder / "process.json"
    path.write_text(json.dumps(process_of("sh", "-c", "id -u; echo $X", user={"uid": 7, "gid": 7}, env=["X=y"])))
    path.write_text(path.read_text().replace('"X=y"', '"X=y", "PATH=/bin"'))
    assert running.must("exec", "--process", str(path), C).stdout.split() == ["7", "y"]


def test_no_inheritable_capabilities(running: Runtime) -> None:
    """CVE-2022-29162."""
    out = running.must("exec", "--cap", "CAP_SYS_TIME", C, "grep", "Cap", "/proc/self/status").stdout
    sets = dict(line.split() for line in out.splitlines())
    assert int(sets["CapInh:"], 16) == 0
    assert int(sets["CapAmb:"], 16) == 0
    assert int(sets["CapEff:"], 16) >> 25 & 1 == 1


def test_nothing_of_ours_is_open_inside(running: Runtime) -> None:
    """CVE-2024-21626: a leaked directory fd is a way out."""
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        out = running.must("exec", C, "ls", "/proc/self/fd", fds=(write,)).stdout.split()
    finally:
        os.close(read)
        os.close(write)
    assert set(out) <= {"0", "1", "2", "3"}  # 3 is ls's own, of the folder that it lists


def test_preserved_fds_and_listen_fds(running: Runtime) -> None:
    read, write = os.pipe()
    script = "import os,sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
    command = running.command("exec", "--preserve-fds", "1", C, "sh", "-c", "echo through >&3")
    wrapped = [command[0], "-c", script, str(write), *command]
    subprocess.run(wrapped, pass_fds=(write,), check=True, timeout=30, stdin=subprocess.DEVNULL)
    assert os.read(read, 100) == b"through\n"
    command = running.command("exec", C, "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID >&3")
    wrapped = [command[0], "-c", script, str(write), *command]
    env = {**os.environ, "LISTEN_FDS": "1"}
    subprocess.run(wrapped, pass_fds=(write,), check=True, timeout=30, stdin=subprocess.DEVNULL, env=env)
    assert os.read(read, 100) == b"1 1\n"
    os.close(read)
    os.close(write)


def test_a_gap_among_preserved_fds_stays_one(running: Runtime) -> None:
    """And a number that one of our own files has got by then is not passed on (CVE-2024-21626)."""
    with open("/dev/null") as null:
        high = fcntl.fcntl(null, fcntl.F_DUPFD, 30)
    try:
        listing = "for fd in /proc/self/fd/*; do readlink $fd; done"
        words = ("exec", "--preserve-fds", "400000", C, "sh", "-c", listing)
        out = running.must(*words, fds=(high,)).stdout.split()
    finally:
        os.close(high)
    assert out.count("/dev/null") == 2  # stdin and ours
    assert not [path for path in out if str(running.root) in path or "socket" in path or "memfd" in path], out


def test_home_is_the_containers_own(running: Runtime) -> None:
    """Of its passwd, and / for who is not in it."""
    document = running.folder / "process.json"
    for uid, env, home in (
        (0, ["PATH=/bin"], "/root"),
        (0, ["PATH=/bin", "HOME="], "/root"),
        (0, ["PATH=/bin", "HOME=/elsewhere"], "/elsewhere"),
        (4711, ["PATH=/bin"], "/"),
    ):
        process = process_of("sh", "-c", "echo $HOME", user={"uid": uid, "gid": 0}, env=env)
        document.write_text(json.dumps(process))
        assert running.must("exec", "--process", str(document), C).stdout == f"{home}\n"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc", 'exec: "/etc": is a directory'),
        ("/bin/notexec", 'exec: "/bin/notexec": permission denied'),
        ("/bin/garbage", "exec format error"),
    ],
)
def test_what_cannot_be_executed(running: Runtime, program: str, words: str) -> None:
    assert words in running.fails("exec", C, program, code=255)


def test_detached_it_goes_on_and_its_pid_is_written(running: Runtime) -> None:
    path = running.folder / "exec.pid"
    running.must("exec", "-d", "--pid-file", str(path), C, "sleep", "90")
    pid = int(path.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0090\x00"
    pids = json.loads(running.must("ps", "-f", "json", C).stdout)
    assert sorted(pids) == sorted([pid, running.state(C)["pid"]])


def test_a_user_that_is_no_number(running: Runtime) -> None:
    """CVE-2026-30892: what is no number is refused, never 0."""
    for word in ("root", "-1", "0x0", "1:", ""):
        result = running("exec", f"--user={word}", C, "id", "-u")
        assert result.code == (255 if word else 0)


def test_a_sub_cgroup(running: Runtime) -> None:
    version_2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    for folder in [""] if version_2 else ["pids", "memory"]:
        (Path("/sys/fs/cgroup") / folder / C / "below").mkdir()
    word = "below" if version_2 else "pids,memory:below"  # not every: an empty cpuset takes nobody
    out = running.must("exec", "--cgroup", word, C, "cat", "/proc/self/cgroup").stdout
    assert "/below" in out
    assert ".. is not a sub cgroup path" in running.fails("exec", "--cgroup", "..", C, "true", code=255)
    if not version_2:
        words = running.fails("exec", "--cgroup", "nowhere:below", C, "true", code=255)
        assert "unknown controller nowhere" in words
    missing = running.fails("exec", "--cgroup", "not/there", C, "true", code=255)
    assert f"{C}/not/there/cgroup.procs: no such file or directory" in missing


def test_a_new_user_namespace_is_joined(oci: Runtime) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    kinds = ("mount", "pid", "ipc", "uts", "user")
    document = config("sleep", "100", namespaces=kinds, linux={"uidMappings": mapping, "gidMappings": mapping})
    document["mounts"] = [mount for mount in document["mounts"] if mount["type"] in ("proc", "tmpfs")]
    oci.must("run", "-d", "-b", str(oci.bundle(document)), C)
    out = oci.must("exec", C, "sh", "-c", "id -u; cat /proc/self/uid_map").stdout.split()
    assert out == ["0", "0", "100000", "65536"]


def test_it_ends_with_its_container(running: Runtime) -> None:
    with subprocess.Popen(running.command("exec", C, "sleep", "90"), stdin=subprocess.DEVNULL) as execution:
        until(lambda: len(json.loads(running.must("ps", "-f", "json", C).stdout)) == 2, "it runs")
        running.must("kill", C, "KILL")
        assert execution.wait(10) == 128 + 9


def take_master(listener: socket.socket) -> int:
    line, _ = listener.accept()
    with line:
        name, fds, _, _ = socket.recv_fds(line, 100, 1)
    assert name == b"/dev/ptmx"
    return fds[0]


@pytest.mark.busybox
def test_a_terminal_by_the_console_socket(running: Runtime) -> None:
    path = running.folder / "console.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        script = "stty size 2>/dev/null; test -t 0 && tty; sleep 0.2"
        document = process_of("sh", "-c", script, terminal=True, consoleSize={"height": 11, "width": 22})
        (running.folder / "p.json").write_text(json.dumps(document))
        words = ("--process", str(running.folder / "p.json"), "--console-socket", str(path))
        running.must("exec", "-d", *words, C)
        master = take_master(listener)
        read = b""
        try:
            while part := os.read(master, 1000):
                read += part
        except OSError:  # EIO: it ended
            pass
        os.close(master)
    assert b"/dev/pts/0" in read
    assert b"11 22" in read


def test_a_terminal_needs_somebody_to_take_it(running: Runtime) -> None:
    assert "--console-socket is missing" in running.fails("exec", "-d", "-t", C, "true", code=255)
    assert "--console-socket" in running.fails("exec", "--console-socket", "/x", C, "true", code=255)


@pytest.mark.busybox
def test_a_containers_console(oci: Runtime) -> None:
    """config.md, `terminal`: its console is /dev/console, and our socket gets the master."""
    document = shell("ls -l /dev/console; tty; stty size; sleep 0.2")
    document["process"] |= {"terminal": True, "consoleSize": {"height": 12, "width": 34}}
    path = oci.folder / "console.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        oci.must("create", "-b", str(oci.bundle(document)), "--console-socket", str(path), C)
        master = take_master(listener)
        oci.must("start", C)
        read = b""
        try:
            while part := os.read(master, 1000):
                read += part
        except OSError:
            pass
        os.close(master)
    assert b"12 34" in read
    assert b"/dev/pts/0" in read
    assert read.startswith(b"crw--w----")


@pytest.mark.busybox
def test_a_foreground_terminal_is_carried(running: Runtime) -> None:
    """`script` gives us a terminal of our own: its size comes through, its keys arrive, the code comes back."""
    pytest.importorskip("pty")
    import fcntl
    import pty
    import struct
    import termios

    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 43, 0, 0))
        command = running.command("exec", "-t", C, "sh", "-c", "stty size; read word; echo got=$word; exit 5")
        os.execv(command[0], command)
    read = b""
    sent = False
    try:
        while part := os.read(master, 1000):
            read += part
            if not sent and b"\n" in read:
                os.write(master, b"key\r")
                sent = True
    except OSError:
        pass
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert b"21 43" in read
    assert b"got=key" in read


def test_an_init_that_waits_cannot_be_looked_into(oci: Runtime) -> None:
    """CVE-2019-5736: until its program runs, /proc/1/exe is the runtime's own (PR_SET_DUMPABLE)."""
    oci.must("create", "-b", str(oci.bundle(config("sleep", "100"))), C)
    script = "readlink /proc/1/exe || ls /proc/1/cwd/ || cat /proc/1/environ || echo closed"
    done = oci.must("exec", C, "sh", "-c", script)
    assert done.stdout == "closed\n", done.stderr
    oci.must("start", C)
    assert oci.must("exec", C, "readlink", "/proc/1/exe").stdout.startswith("/bin/")
    oci.must("delete", "--force", C)
