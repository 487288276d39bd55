"""Terminals as a person has them: programs that paint, sizes, detach keys, and a sane shell behind every way out."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import Engine
from tests.patience import until
from tests.tmux import Tmux

pytestmark = pytest.mark.root


@pytest.fixture
def screen(shared: Engine) -> Iterator[Tmux]:
    with Tmux(shared.base, shared.env) as made:
        yield made


def command_pid(words: str) -> int:
    """The one `asyncrt` command that has these among its words; not its guardian, which is a session's leader."""

    def found() -> list[int]:
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if "-m asyncrt" in line and words in line and os.getsid(int(entry.name)) != int(entry.name):
                    pids.append(int(entry.name))
        return pids

    return until(found, f"a command with {words}")[0]


def test_a_shell_resize_and_exit_code(screen: Tmux, shared: Engine) -> None:
    before = screen.modes()
    screen.type("asyncrt run -it --name box host: sh\n")
    screen.shows("\n#")
    screen.type("stty size; tty; echo $TERM\n")
    shown = screen.shows("\nxterm")
    assert "\n30 100\n/dev/pts/0\n" in shown
    screen.resize(80, 24)
    until(lambda: "24 80" in _asked(screen, "stty size"), "the new size arrives")
    screen.type("sleep 50\n")
    screen.press("C-c")  # a key like any other: the container's terminal makes a signal of it
    screen.type("exit 5\n")
    screen.prompt()
    screen.type("echo code=$?\n")
    screen.shows("code=5")
    screen.is_sane(before)
    screen.type("asyncrt attach box; echo code=$?\n")  # it ended: its log and its exit code
    screen.shows("exit 5")
    screen.shows("code=5")


def _asked(screen: Tmux, line: str) -> str:
    screen.type(f"{line}\n")
    return screen.screen()


def test_detach_keys_leave_it_and_attach_comes_back(screen: Tmux, shared: Engine) -> None:
    before = screen.modes()
    screen.type("asyncrt run -it --name box host: sh\n")
    screen.shows("\n#")
    screen.type("x=remembered\n")
    screen.press("C-p", "C-q")
    screen.shows("left box running")
    screen.prompt()
    screen.is_sane(before)
    screen.clear()
    screen.type("asyncrt attach --detach-keys ctrl-x,x box\n")
    screen.type("echo it is $x\n")
    screen.shows("it is remembered")
    screen.press("C-p", "C-q")  # not the keys of this one
    screen.type("\necho still $((40+2))\n")
    screen.shows("still 42")
    screen.press("C-x", "x")
    screen.shows("left box running")
    screen.prompt()
    assert shared.inspect("box")["state"] == "running"
    screen.clear()
    screen.type("asyncrt attach --no-stdin --since-offset 0 box\n")
    screen.shows("it is remembered")


def test_detach_keys_leave_an_exec_running(screen: Tmux, shared: Engine) -> None:
    before = screen.modes()
    shared.cli("run", "-d", "--name", "box", "host:", "sleep", "600", check=True)
    screen.type("asyncrt exec -it box sh\n")
    screen.shows("\n#")
    screen.type("sleep 4321\n")
    until(lambda: "sleep 4321" in shared.cli("top", "box").stdout, "it runs")
    screen.press("C-p", "C-q")
    screen.shows("left the exec running")
    screen.prompt()
    screen.is_sane(before)
    assert "sleep 4321" in shared.cli("top", "box").stdout


@pytest.mark.parametrize("verb", ["run -it host:", "exec -it box"])
def test_programs_that_paint(screen: Tmux, shared: Engine, verb: str) -> None:
    if verb.startswith("exec"):
        shared.cli("run", "-d", "--name", "box", "host:", "sleep", "600", check=True)
    before = screen.modes()
    screen.type(f"asyncrt {verb} vi /tmp/text\n")
    screen.shows("~")
    screen.type("ihello there")
    screen.press("Escape")
    screen.resize(90, 20)
    screen.type(":wq\n")
    screen.prompt()
    screen.clear()
    screen.type(f"asyncrt {verb} sh -c 'seq 500 | less'\n")
    screen.shows(":")
    screen.type("G")
    screen.shows("500")
    screen.type("g")
    screen.shows("\n2\n")
    screen.type("q")
    screen.prompt()
    screen.clear()
    screen.type(f"asyncrt {verb} top\n")
    screen.shows("PID")
    screen.type("q")
    screen.prompt()
    screen.is_sane(before)


def test_exec_follows_the_size_and_gives_the_exit_code(screen: Tmux, shared: Engine) -> None:
    shared.cli("run", "-d", "--name", "box", "host:", "sleep", "600", check=True)
    before = screen.modes()
    screen.type("asyncrt exec -it box sh\n")
    screen.shows("\n#")
    screen.resize(77, 21)
    until(lambda: "21 77" in _asked(screen, "stty size"), "the new size arrives")
    screen.type("exit 7\n")
    screen.prompt()
    screen.type("echo code=$?\n")
    screen.shows("code=7")
    screen.is_sane(before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGTSTP])
def test_a_command_that_is_killed_leaves_the_terminal_sane(screen: Tmux, shared: Engine, number: int) -> None:
    shared.cli("run", "-d", "--name", "box", "host:", "sleep", "600", check=True)
    before = screen.modes()
    screen.type("asyncrt exec -it box sh\n")
    screen.shows("\n#")
    pid = command_pid("exec -it box sh")
    os.kill(pid, number)
    if number == signal.SIGTSTP:
        screen.shows("Stopped")
    screen.prompt()
    screen.is_sane(before)
    if number == signal.SIGTSTP:
        screen.clear()
        screen.type("fg\n")
        screen.type("echo back $((40+2))\n")
        screen.shows("back 42")
        screen.type("exit\n")
        screen.prompt()
        screen.is_sane(before)


def test_run_that_is_killed_leaves_terminal_and_container(screen: Tmux, shared: Engine) -> None:
    before = screen.modes()
    screen.type("asyncrt run -it --name box host: sh\n")
    screen.shows("\n#")
    os.kill(command_pid("run -it --name box"), signal.SIGKILL)
    screen.shows("Killed")
    screen.prompt()
    screen.is_sane(before)
    assert shared.inspect("box")["state"] == "running"
    screen.clear()
    screen.type("asyncrt attach box\n")
    screen.type("echo here $((40+2))\n")
    screen.shows("here 42")
    screen.type("exit 3\n")
    screen.prompt()
    screen.type("echo code=$?\n")
    screen.shows("code=3")


def test_the_supervisor_dies_behind_a_terminal_and_nobody_sees_it(engine: Engine) -> None:
    engine.cli("run", "-d", "--name", "other", "host:", "sleep", "600", check=True)
    with Tmux(engine.base, engine.env) as screen:
        before = screen.modes()
        for verb, code in (("run -it --name box", 5), ("exec -it", 6)):
            screen.clear()
            screen.type(f"asyncrt {verb} {'host:' if verb.startswith('run') else 'other'} sh\n")
            screen.shows("\n#")
            os.kill(engine.supervisor_pid(), signal.SIGKILL)
            screen.type("echo still $((40+2))\n")
            screen.shows("still 42")
            screen.type(f"exit {code}\n")
            screen.prompt()
            screen.type("echo code=$?\n")
            screen.shows(f"code={code}")
            screen.is_sane(before)


def test_the_shim_dies_behind_a_terminal(screen: Tmux, shared: Engine) -> None:
    before = screen.modes()
    screen.type("asyncrt run -it --name box host: sh\n")
    screen.shows("\n#")
    os.kill(shared.inspect("box")["shim_pid"], signal.SIGKILL)
    screen.prompt()
    screen.type("echo code=$?\n")
    screen.shows("code=137")
    screen.is_sane(before)


def test_without_a_terminal_of_ours(shared: Engine, image: str) -> None:
    for words in (["run", "-it", image, "sh"], ["exec", "-it", "box", "sh"]):
        done = shared.cli(*words)
        assert (done.returncode, "the input device is not a TTY" in done.stderr) == (1, True)
    done = shared.cli("run", "-t", image, "sh", "-c", "tty; exit 4")
    assert (done.returncode, done.stdout) == (4, "/dev/pts/0\n"), "text mode makes of \\r\\n a line end"


def test_attach_in_pipes(shared: Engine, image: str) -> None:
    shared.cli(
        "run", "-d", "-i", "--name", "box", image, "sh", "-c", "echo first; cat; echo bye >&2; exit 9", check=True
    )
    until(lambda: shared.cli("logs", "box").stdout, "it has spoken")
    done = shared.cli("attach", "box", input="hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (9, "hello\n", "bye\n"), "from now on"
    done = shared.cli("attach", "box")
    assert (done.returncode, done.stdout, done.stderr) == (9, "first\nhello\n", "bye\n"), "it ended: its log"
    done = shared.cli("attach", "--since-offset", "3", "box")
    assert (done.stdout, done.stderr) == ("st\nhello\n", "\n")
    shared.cli("create", "--name", "made", image, "true", check=True)
    done = shared.cli("attach", "made")
    assert (done.returncode, "it was not started" in done.stderr) == (1, True)


def test_attach_sends_signals_on(shared: Engine, image: str) -> None:
    script = "trap 'echo got; exit 3' USR1; while :; do sleep 0.05; done"
    shared.cli("run", "-d", "--name", "box", image, "sh", "-c", script, check=True)
    attached = shared.popen("attach", "--since-offset", "0", "box")
    pid = attached.pid
    until(lambda: b"SigCgt" in Path(f"/proc/{pid}/status").read_bytes() and _catches(pid, signal.SIGUSR1), "it listens")
    attached.send_signal(signal.SIGUSR1)
    out, _ = attached.communicate(timeout=20)
    assert (attached.returncode, out) == (3, b"got\n")


def _catches(pid: int, number: int) -> bool:
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("SigCgt"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
