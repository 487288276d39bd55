"""Device rules: v1's writes and v2's program, against a reading of the list that is too simple to be wrong."""

import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shimd.linux import bpf
from shimd.linux.device_rules import ANY, DEFAULT, Rule, Unrepresentable, allows_by_default, program, writes

BITS = {"r": 2, "w": 4, "m": 1}
KINDS = {"b": 1, "c": 2}


def judged(rules: Sequence[Rule], kind: str, major: int, minor: int, access: str) -> bool:
    """For each letter the last rule that fits decides; with none it is no."""

    def fits(rule: Rule, letter: str) -> bool:
        numbers = rule.major in (ANY, major) and rule.minor in (ANY, minor)
        return rule.kind in ("a", kind) and numbers and letter in rule.access

    return all(next((rule.allow for rule in reversed(rules) if fits(rule, letter)), False) for letter in access)


def run(code: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """A BPF machine of the instructions that we use; it knows no loop, as the kernel allows none."""
    words = list(struct.iter_unpack("=BBhi", code))
    asked = sum(BITS[letter] for letter in access) << 16 | KINDS[kind]
    context = {0: asked, 4: major, 8: minor}
    registers: dict[int, int] = {}
    at = 0
    while True:
        opcode, pair, offset, number = words[at]
        to, source = pair & 15, pair >> 4
        at += 1
        match opcode:
            case 0x61:
                registers[to] = context[offset]
            case 0xBF:
                registers[to] = registers[source]
            case 0xB7:
                registers[to] = number
            case 0x77:
                registers[to] >>= number
            case 0x57:
                registers[to] &= number
            case 0x05:
                at += offset
            case 0x45:
                at += offset if registers[to] & number else 0
            case 0x55:
                at += offset if registers[to] != number else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"opcode {opcode:#x}")


def devices() -> Iterator[tuple[str, int, int, str]]:
    letters = ("r", "w", "m", "rw", "rwm", "rm")
    return itertools.product("bc", (0, 1, 5), (0, 3, 136), letters)


NUMBERS = st.sampled_from([ANY, 0, 1, 3, 5, 136])
ACCESS = st.sampled_from(["r", "w", "m", "rw", "rm", "rwm", "mwr"])
RULES = st.lists(st.builds(Rule, st.booleans(), st.sampled_from("abc"), NUMBERS, NUMBERS, ACCESS), max_size=6)


@settings(deadline=None, database=None)
@given(RULES)
def test_the_program_says_what_the_last_rule_that_fits_says(rules: list[Rule]) -> None:
    code = program(rules)
    for device in devices():
        assert run(code, *device) == judged(rules, *device), (device, rules)


@settings(deadline=None, database=None)
@given(RULES)
def test_v1_has_the_same_in_two_files(rules: list[Rule]) -> None:
    """As the kernel keeps them: a default, and exceptions from it (devices.rst)."""
    try:
        [(first, text), *exceptions] = writes(rules)
    except Unrepresentable:
        return
    assert text == "a"
    default = first == "devices.allow"
    assert default == allows_by_default(rules)
    assert {file for file, _ in exceptions} <= {"devices.deny" if default else "devices.allow"}
    kept: list[Rule] = [Rule(default)]
    for _, text in exceptions:
        kind, numbers, access = text.split()
        major, minor = (ANY if word == "*" else int(word) for word in numbers.split(":"))
        kept.append(Rule(not default, kind, major, minor, access))
    for device in devices():
        assert judged(kept, *device) == judged(rules, *device), (device, rules, kept)


def test_dockers_list() -> None:
    assert writes([Rule(False), *DEFAULT]) == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "b *:* m"),
        *(("devices.allow", f"c 1:{minor} rwm") for minor in (3, 5, 7, 8, 9)),
        *(("devices.allow", f"c 5:{minor} rwm") for minor in (0, 1, 2)),
        ("devices.allow", "c 136:* rwm"),
    ]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([Rule(True, "c", 1), Rule(False, "c", 1, 3)], 'take "c 1:3 rwm" out of "c 1:* rwm"'),
        ([Rule(True), Rule(False, "c", 1), Rule(True, "c", 1, 3, "r")], 'take "c 1:3 r" out of "c 1:* rwm"'),
        ([Rule(True, "b", ANY, 3), Rule(False, "b", 8)], r'take "b 8:\* rwm" out of "b \*:3 rwm"'),
    ],
)
def test_a_hole_is_refused_for_v1(rules: list[Rule], words: str) -> None:
    with pytest.raises(Unrepresentable, match=words.replace("c 1:*", r"c 1:\*")):
        writes(rules)
    assert program(rules)  # and no problem for v2


def test_what_covers_takes_out() -> None:
    rules = [Rule(True, "c", 1, 3), Rule(True, "c", 1, 5, "rw"), Rule(False, "c", 1, access="w")]
    assert writes(rules) == [("devices.deny", "a"), ("devices.allow", "c 1:3 rm"), ("devices.allow", "c 1:5 r")]


def test_a_number_that_no_device_has() -> None:
    rules = [Rule(True), Rule(False, "c", 1 << 40, 1)]
    assert program(rules) == program([Rule(True)])


def unified() -> Path:
    """Where v2 is mounted: with v1 beside it, its device programs are asked as well."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = [line.split()[4] for line in lines if " - cgroup2 " in line]
    if not places:
        pytest.skip("no cgroup2 is mounted")
    return Path(places[0])


@pytest.fixture
def group() -> Iterator[Path]:
    made = unified() / f"asyncrt-test-devices-{os.getpid()}"
    made.mkdir()
    yield made
    made.rmdir()


def inside(group: Path, path: str, flags: int) -> int:
    """The errno of opening a path in the cgroup, 0 if it opens."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            (group / "cgroup.procs").write_text("0")
            os.open(path, flags)
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.root
def test_the_kernel_takes_the_program(group: Path) -> None:
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(2):  # the second takes the place of the first
            bpf.install(fd, program([Rule(False), *DEFAULT, Rule(False, "c", 1, 5, "w")]))
            assert len(bpf.attached(fd)) == 1
        assert inside(group, "/dev/null", os.O_RDWR) == 0
        assert inside(group, "/dev/zero", os.O_RDONLY) == 0
        assert inside(group, "/dev/zero", os.O_RDWR) == 1
        assert inside(group, "/dev/kmsg", os.O_RDONLY) == 1
        bpf.install(fd, program([Rule(True)]))
        assert inside(group, "/dev/zero", os.O_RDWR) == 0
    finally:
        os.close(fd)


@pytest.mark.root
def test_a_cgroup_below_can_have_less_but_not_more(group: Path) -> None:
    below = group / "below"
    below.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (group, below)]
    try:
        bpf.install(fds[0], program([Rule(False), *DEFAULT]))
        bpf.install(fds[1], program([Rule(True), Rule(False, "c", 1, 5)]))
        assert inside(below, "/dev/null", os.O_RDWR) == 0
        assert inside(below, "/dev/zero", os.O_RDONLY) == 1
        assert inside(below, "/dev/kmsg", os.O_RDONLY) == 1
    finally:
        for fd in fds:
            os.close(fd)
        below.rmdir()


@pytest.mark.root
def test_programs_that_somebody_else_left_are_replaced(group: Path) -> None:
    fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for minor in (3, 5):
            other = bpf.load(program([Rule(True), Rule(False, "c", 1, minor)]))
            bpf.attach(fd, other)
            os.close(other)
        assert len(bpf.attached(fd)) == 2
        bpf.install(fd, program([Rule(True)]))
        assert len(bpf.attached(fd)) == 1
        assert inside(group, "/dev/null", os.O_RDWR) == 0
    finally:
        os.close(fd)


@pytest.mark.root
def test_a_program_that_is_none_is_refused() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        bpf.load(b"\0" * 8)
