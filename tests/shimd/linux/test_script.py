"""The machine that runs scripts, by itself: calls, cells, jumps, and how a failure is told."""

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shimd.linux import script
from shimd.linux.script import Cell, Failure, Label, Program, Script

pytestmark = pytest.mark.skipif(not script.usable(), reason="script.c is not built for this machine")
AT_FDCWD = -100


def run(code: Script, entry: Label | None = None) -> tuple[Program, Failure | None]:
    program = code.finish()
    return program, program.run(entry or code.beginning)


def done(code: Script) -> Program:
    """Run it; it must not fail."""
    program, failure = run(code)
    assert failure is None
    return program


def test_a_result_goes_to_its_cell(tmp_path: Path) -> None:
    code = Script()
    fd = code.opened("openat", AT_FDCWD, code.text(str(tmp_path)), os.O_PATH | os.O_CLOEXEC)
    program = done(code)
    found = program.cells[fd.number]
    assert os.readlink(f"/proc/self/fd/{found}") == str(tmp_path)
    os.close(found)


def test_cells_are_arguments(tmp_path: Path) -> None:
    code = Script()
    path = code.text(str(tmp_path / "file"))
    fd = code.opened("openat", AT_FDCWD, path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    written = code.cell()
    code.call("write", fd, code.blob(b"hello"), 5, out=written)
    code.close(fd)
    assert done(code).cells[written.number] == 5
    assert (tmp_path / "file").read_bytes() == b"hello"


def test_a_failure_names_errno_step_and_place() -> None:
    code = Script()
    code.copy(1, code.cell())
    code.step = 7
    code.call("chdir", code.text("/no/such/directory"))
    _, failure = run(code)
    assert failure == Failure(errno.ENOENT, 7, 1)


def test_after_a_failure_nothing_is_done() -> None:
    code = Script()
    never = code.cell(5)
    code.fail(errno.EDOM)
    code.copy(6, never)
    program, failure = run(code)
    assert failure is not None
    assert failure.errno == errno.EDOM
    assert program.cells[never.number] == 5


@pytest.mark.parametrize("errors", [(errno.ENOENT,), (errno.ENOTDIR, errno.ENOENT), (script.ANY_ERROR,)])
def test_an_expected_errno_goes_on_at_its_label(errors: tuple[int, ...]) -> None:
    code = Script()
    way, there, fd = code.cell(), Label(), code.cell(-7)
    code.call("openat", AT_FDCWD, code.text("/no/such/file"), os.O_PATH, out=fd, expect=(errors, there))
    code.copy(1, way)
    code.end()
    code.here(there)
    code.copy(2, way)
    program = done(code)
    assert program.cells[way.number] == 2
    assert program.cells[fd.number] == -7, "a failed call leaves its cell alone"


def test_another_errno_is_a_failure() -> None:
    code = Script()
    there = Label()
    code.call("chdir", code.text("/no/such/file"), expect=((errno.EACCES, errno.ENOTDIR), there))
    code.here(there)
    _, failure = run(code)
    assert failure is not None
    assert failure.errno == errno.ENOENT


def test_an_attempt_may_fail() -> None:
    code = Script()
    code.attempt("chdir", code.text("/no/such/file"))
    code.attempt("chdir", code.text("/no/such/file"), errors=(errno.ENOENT,))
    done(code)


def test_match_and_require(tmp_path: Path) -> None:
    def look(wanted: int) -> Failure | None:
        code = Script()
        status = code.room(256)
        mode = code.offset(status, 28)  # stx_mode
        code.call("statx", AT_FDCWD, code.text(str(tmp_path)), 0, 1, status)
        code.require(mode, 0o170000, wanted, errno.EPERM)
        return run(code)[1]

    assert look(stat.S_IFDIR) is None
    refused = look(stat.S_IFREG)
    assert refused is not None
    assert refused.errno == errno.EPERM


@pytest.mark.parametrize(("value", "taken"), [(0, 0), (1, 9), (-1, 9), (1 << 40, 9)])
def test_unless_empty(value: int, taken: int) -> None:
    code = Script()
    cell, out = code.cell(value), code.cell()
    with code.unless_empty(cell):
        code.copy(9, out)
    assert done(code).cells[out.number] == taken


def test_load_store_and_copy() -> None:
    code = Script()
    room = code.room(8)
    first, second, copied = code.cell(), code.cell(), code.cell()
    code.store(room, 0x12345678)
    code.store(code.offset(room, 4), 77)
    code.load(room, first)
    code.load(code.offset(room, 4), second)
    code.copy(-errno.ENOENT, copied)  # looks like a call's error, and is none
    cells = done(code).cells
    assert (cells[first.number], cells[second.number], cells[copied.number]) == (0x12345678, 77, -errno.ENOENT)


def test_stamp() -> None:
    code = Script()
    first, second = code.cell(), code.cell()
    code.stamp(first)
    code.stamp(second)
    before = time.monotonic_ns()
    cells = done(code).cells
    assert before <= cells[first.number] <= cells[second.number] <= time.monotonic_ns()


def test_pipe2_fills_a_room() -> None:
    code = Script()
    pair, read, write = code.room(8), code.cell(), code.cell()
    code.call("pipe2", pair, os.O_CLOEXEC)
    code.load(pair, read)
    code.load(code.offset(pair, 4), write)
    cells = done(code).cells
    os.write(cells[write.number], b"x")
    assert os.read(cells[read.number], 1) == b"x"
    os.close(cells[read.number])
    os.close(cells[write.number])


def test_equal_texts_records_and_constants_are_kept_once() -> None:
    code = Script()
    assert code.text("a") == code.text("a")
    assert code.text("a") != code.text("b")
    assert code.record("Q", 1) == code.record("Q", 1)
    assert code.constant(5) == code.constant(5)
    assert code.room(8) != code.room(8), "a room is written to"


def test_rows_end_with_a_null() -> None:
    code = Script()
    words = [code.text("one"), code.text("two")]
    head, places = code.row(words, spare=2)
    cells = code.finish().cells
    assert len(places) == 2 + 2 + 1
    assert places == list(range(places[0], places[0] + 5)), "side by side, or execve would read something else"
    assert cells[head.number] == cells.buffer_info()[0] + places[0] * 8
    assert [cells[place] for place in places[:2]] == [cells[word.number] for word in words]
    assert [cells[place] for place in places[2:]] == [0, 0, 0]


def test_entries_of_one_program_share_cells() -> None:
    code = Script()
    first, second, cell = Label(), Label(), code.cell()
    code.here(first)
    code.copy(4, cell)
    code.end()
    code.here(second)
    code.store(code.room(4), cell)
    with code.unless_empty(cell):
        code.fail(errno.EBADF)
    program = code.finish()
    assert program.run(second) is None
    assert program.run(first) is None
    failure = program.run(second)
    assert failure is not None
    assert failure.errno == errno.EBADF


def test_a_string_with_a_nul_or_of_bytes_comes_as_it_is() -> None:
    code = Script()
    cell = code.blob(b"a\0b")
    program = code.finish()
    at = program.cells[cell.number] - program.data.buffer_info()[0]
    assert program.data[at : at + 3].tobytes() == b"a\0b"


def test_an_unknown_call_is_none() -> None:
    code = Script()
    with pytest.raises(KeyError):
        code.call("reboot")


def test_the_numbers_are_the_kernels() -> None:
    """Against the machine's own headers, where there are some."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    lines = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    known = {words[1].removeprefix("__NR_"): int(words[2]) for words in lines}
    assert {name: known.get(name, number) for name, number in script.NUMBERS.items()} == script.NUMBERS


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCRT_SCRIPTS", "off")
    assert not script.usable()
    monkeypatch.setenv("ASYNCRT_SCRIPTS", "on")
    assert script.usable()


def test_a_machine_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_place", lambda: None)
    script.library.cache_clear()
    try:
        assert not script.usable()
        with pytest.raises(OSError, match="not built"):
            script.library()
    finally:
        script.library.cache_clear()


def test_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.platform, "machine", lambda: "riscv64")
    assert not script.usable()


def test_the_nursery_has_a_child_for_each_ticket() -> None:
    """Two children say 0 (CHILD), the parent hears the end of the pipe (OVER)."""
    program = """
import os
from shimd.linux import script, signals
signals.block((17,))
children = signals.signalfd((17,))
tickets, write = os.pipe()
control, other = os.pipe()
os.write(write, b"..")
os.close(write)
event = script.nursery(tickets, children, control)
os.write(1, b"%d\\n" % event)
if event == script.CHILD:
    os._exit(0)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert sorted(said.stdout.split()) == ["0", "0", "2"]


def test_the_nursery_comes_back_for_the_control() -> None:
    program = """
import os
from shimd.linux import script, signals
signals.block((17,))
children = signals.signalfd((17,))
tickets, write = os.pipe()
control, other = os.pipe()
os.close(other)
print(script.nursery(tickets, children, control))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert int(said.stdout) == script.CONTROL


def test_a_cell_is_a_number() -> None:
    code = Script()
    steps: list[Callable[[], Cell]] = [code.cell, lambda: code.constant(3), lambda: code.text("x")]
    assert len({step().number for step in steps}) == 3
    assert all(step().number for step in steps), "cell 0 is nobody's"
