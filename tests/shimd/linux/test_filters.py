"""The short program decides as the long one, for every number and for arguments on both sides of each comparison."""

import itertools
import random

import pytest

from shimd.linux import filters, seccomp
from shimd.linux.seccomp import Argument, Rule
from tests.shimd.filter_machine import AARCH64, ALLOW, I386, KILL_THREAD, X32_BIT, X86_64, errno, verdict

END = filters.LAST_NUMBER
CALLS = ("read", "write", "openat", "close", "mmap", "clone", "socket", "personality", "ioctl", "bpf", "mount", "futex")
ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
VALUES = (0, 1, 8, 0xFF, 0xFFFFFFFF, 0x1_0000_0000, 0x1_0000_0008, (1 << 64) - 1)


def compiled(default: int, architectures: tuple[str, ...], rules: list[Rule]) -> bytes:
    try:
        return seccomp.compile_filter(default, architectures, rules)
    except seccomp.Unavailable as error:
        pytest.skip(f"no libseccomp: {error}")


def squeezed(program: bytes) -> bytes:
    return filters.pack(filters.assemble(filters.decide(filters.unpack(program))))


def same(one: bytes, other: bytes, numbers: list[int]) -> None:
    for architecture in (X86_64, I386, AARCH64, 7):
        for number in numbers:
            for first in VALUES:
                for second in (0, 9, 16):
                    call = (number, (first, second, second), architecture)
                    assert verdict(one, *call) == verdict(other, *call), call


def drawn(random_: random.Random) -> tuple[int, list[Rule]]:
    default = random_.choice((ALLOW, KILL_THREAD, errno(1), errno(38)))
    rules: list[Rule] = []
    for call in random_.sample(CALLS, random_.randrange(1, len(CALLS))):
        returns = random_.choice([value for value in (ALLOW, errno(1), errno(22), KILL_THREAD) if value != default])
        for _ in range(random_.randrange(1, 3)):
            arguments = tuple(
                Argument(place, random_.choice(list(seccomp.OPERATORS)), random_.choice(VALUES), random_.choice(VALUES))
                for place in random_.sample(range(3), random_.randrange(0, 3))
            )
            rules.append(Rule(call, returns, arguments))
    return default, rules


@pytest.mark.parametrize("seed", range(25))
def test_any_profile_decides_the_same(seed: int) -> None:
    random_ = random.Random(seed)
    default, rules = drawn(random_)
    architectures = ARCHITECTURES[: random_.randrange(1, 4)]
    try:
        long = compiled(default, architectures, rules)
    except OSError:
        pytest.skip("libseccomp refuses this mixture")
    base = [*range(0, 480, 3), *(seccomp.resolve_on("SCMP_ARCH_X86_64", call) for call in CALLS)]
    base += [seccomp.resolve_on("SCMP_ARCH_X86", call) for call in CALLS]
    numbers = [number for number in base if number >= 0]
    same(long, squeezed(long), [*numbers, *(number | X32_BIT for number in numbers[::7]), 0xFFFFFFFF])


def test_a_long_allow_list_gets_short() -> None:
    names = [
        f"{verb}{what}" for verb in ("get", "set") for what in ("uid", "gid", "sid", "rlimit", "priority", "itimer")
    ]
    names += ["read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap", "mprotect", "munmap"]
    known = [name for name in names if seccomp.resolve(name) != -1]
    long = compiled(errno(1), ARCHITECTURES, [Rule(name, ALLOW, ()) for name in known])
    short = squeezed(long)
    assert len(short) < len(long)
    same(long, short, list(range(480)))


def test_far_jumps() -> None:
    """Every other call: more ranges than a conditional jump reaches over."""
    ranges = [
        filters.Range(number, number, filters.Verdict(ALLOW if number % 2 else errno(number % 100)))
        for number in range(900)
    ]
    ranges.append(filters.Range(900, filters.LAST_NUMBER, filters.Verdict(KILL_THREAD)))
    program = filters.pack(filters.assemble(filters.Decisions({X86_64: ranges}, KILL_THREAD, [])))
    for number in (*range(901), filters.LAST_NUMBER):
        wanted = KILL_THREAD if number >= 900 else ALLOW if number % 2 else errno(number % 100)
        assert verdict(program, number) == wanted
    assert verdict(program, 1, architecture=I386) == KILL_THREAD


def test_too_long_for_the_kernel() -> None:
    ranges = [filters.Range(number, number, filters.Verdict(number % 7 << 16)) for number in range(5000)]
    ranges.append(filters.Range(5000, filters.LAST_NUMBER, filters.Verdict(ALLOW)))
    with pytest.raises(filters.Unreadable, match=r"more than the kernel takes \(4096\)"):
        filters.assemble(filters.Decisions({X86_64: ranges}, KILL_THREAD, []))


def test_what_is_no_filter_of_libseccomps() -> None:
    with pytest.raises(filters.Unreadable, match="instruction 0 is 0x80"):
        filters.decide([filters.Instruction(0x80, 0, 0, 0), filters.Instruction(filters.RET, 0, 0, 0)])


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (3, 9), (5, 5), (0, filters.LAST_NUMBER), (10, filters.LAST_NUMBER)]
)
def test_overlay(first: int, last: int) -> None:
    yes, no, new = filters.Verdict(ALLOW), filters.Verdict(errno(1)), filters.Verdict(errno(38))
    ranges = [filters.Range(0, 4, yes), filters.Range(5, 9, no), filters.Range(10, filters.LAST_NUMBER, yes)]
    made = filters.overlay(ranges, first, last, new)
    assert (made[0].first, made[-1].last) == (0, filters.LAST_NUMBER)
    for before, after in itertools.pairwise(made):
        assert after.first == before.last + 1
        assert after.verdict != before.verdict
    for number in (0, 3, 4, 5, 9, 10, 11, filters.LAST_NUMBER):
        [now] = [one.verdict for one in made if one.first <= number <= one.last]
        [then] = [one.verdict for one in ranges if one.first <= number <= one.last]
        assert now == (new if first <= number <= last else then)
