"""Classic BPF programs of seccomp filters (seccomp(2)): what one decides for each call, and a short one that does so.

A filter is loaded for each container anew, and the kernel's work grows with its length: it translates the program,
compiles it, and runs it once for every number of a call to find those that are always allowed (its cache since Linux
5.11). What libseccomp writes has one comparison a call; but calls that are treated alike lie side by side, so that
the same filter fits into a search over a few dozen ranges.

    decide()    program to decisions: for each architecture ranges of numbers, each with its verdict
    assemble()  decisions to program
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

LD_ABS, JA, JEQ, JGT, JGE, JSET, AND, RET = 0x20, 0x05, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
CONDITIONS = (JEQ, JGT, JGE, JSET)
NUMBER_AT, ARCHITECTURE_AT = 0, 4  # struct seccomp_data
LAST_NUMBER = 0xFFFFFFFF
SHORT = 255  # as far as a conditional jump reaches
INSTRUCTION_BYTES = 8  # sizeof(struct sock_filter)
LONGEST = 4096  # BPF_MAXINSNS


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


class Verdict(NamedTuple):
    """`returns` is the filter's return value, or -1: then the arguments decide, from `place` of the program on."""

    returns: int
    place: int = -1


class Range(NamedTuple):
    """The calls `first` to `last` (both included)."""

    first: int
    last: int
    verdict: Verdict


class Decisions(NamedTuple):
    """Ranges by AUDIT_ARCH value, in order and without a gap; `elsewhere` is for any other architecture.

    `program` is what the places of verdicts belong to.
    """

    ranges: dict[int, list[Range]]
    elsewhere: int
    program: list[Instruction]


class Unreadable(ValueError):
    """A program of another kind than libseccomp writes."""


def unpack(program: bytes) -> list[Instruction]:
    """struct sock_filter[] to instructions."""
    return [Instruction(*words) for words in struct.iter_unpack("=HBBI", program)]


def pack(program: list[Instruction]) -> bytes:
    """The inverse of unpack."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def decide(program: list[Instruction]) -> Decisions:
    """What a program decides. Unreadable if it does more than to compare, mask and return."""
    known = _architectures(program)
    stranger = next(value for value in range(len(known) + 1) if value not in known)
    ranges = {value: _joined(_walk(program, value)) for value in sorted(known)}
    elsewhere = {found.verdict.returns for found in _walk(program, stranger)}
    if len(elsewhere) != 1 or -1 in elsewhere:
        raise Unreadable("unknown architectures are not treated alike")
    return Decisions(ranges, elsewhere.pop(), program)


def _architectures(program: list[Instruction]) -> set[int]:
    """The AUDIT_ARCH values that a program compares with."""
    found: set[int] = set()
    seen: set[tuple[int, int]] = set()
    waiting = [(0, -1)]  # (place, what the accumulator holds: an offset)
    while waiting:
        place, held = waiting.pop()
        if (place, held) in seen:
            continue
        seen.add((place, held))
        code, jt, jf, k = program[place]
        if code == LD_ABS:
            waiting.append((place + 1, k))
        elif code == JA:
            waiting.append((place + 1 + k, held))
        elif code in CONDITIONS:
            if held == ARCHITECTURE_AT:
                found.add(k)
            waiting += [(place + 1 + jt, held), (place + 1 + jf, held)]
        elif code == AND:
            waiting.append((place + 1, -1))
    return found


def _walk(program: list[Instruction], architecture: int) -> Iterator[Range]:
    """The verdicts on every number, in no order: the range of numbers is cut at each comparison."""
    waiting = [(0, 0, LAST_NUMBER, -1)]  # (place, first, last, what the accumulator holds: an offset)
    while waiting:
        place, first, last, held = waiting.pop()
        code, jt, jf, k = program[place]
        place += 1
        if code == RET:
            yield Range(first, last, Verdict(k))
        elif code == LD_ABS and k > ARCHITECTURE_AT:
            yield Range(first, last, Verdict(-1, place - 1))
        elif code == LD_ABS:
            waiting.append((place, first, last, k))
        elif code == JA:
            waiting.append((place + k, first, last, held))
        elif code in (JEQ, JGT, JGE) and held == ARCHITECTURE_AT:
            true = architecture == k if code == JEQ else architecture > k if code == JGT else architecture >= k
            waiting.append((place + (jt if true else jf), first, last, held))
        elif code in (JEQ, JGT, JGE) and held == NUMBER_AT:
            low, high = (k, k) if code == JEQ else (k + 1 if code == JGT else k, LAST_NUMBER)
            for start, end, jump in ((first, min(last, low - 1), jf), (max(first, low), min(last, high), jt)):
                if start <= end:
                    waiting.append((place + jump, start, end, held))
            if code == JEQ and max(first, k + 1) <= last:
                waiting.append((place + jf, max(first, k + 1), last, held))
        else:
            raise Unreadable(f"instruction {place - 1} is {code:#x}")


def _joined(found: Iterator[Range]) -> list[Range]:
    """In order, and neighbours of one verdict made one."""
    joined: list[Range] = []
    for one in sorted(found):
        if joined and joined[-1].verdict == one.verdict:
            joined[-1] = joined[-1]._replace(last=one.last)
        else:
            joined.append(one)
    return joined


def overlay(ranges: list[Range], first: int, last: int, verdict: Verdict) -> list[Range]:
    """`ranges` with `verdict` on the calls from `first` to `last`."""
    kept = [Range(first, last, verdict)]
    for one in ranges:
        if one.first < first:
            kept.append(one._replace(last=min(one.last, first - 1)))
        if one.last > last:
            kept.append(one._replace(first=max(one.first, last + 1)))
    return _joined(iter(kept))


def assemble(decisions: Decisions) -> list[Instruction]:
    """A program that decides so: the architecture, then a search over its ranges, then what the arguments decide.

    Architectures in the order of `ranges`: the machine's own should be the first. Unreadable if it gets too long.
    """
    code = _Code(decisions.program)
    code.put(LD_ABS, ARCHITECTURE_AT)
    for architecture in decisions.ranges:
        code.put(JEQ, architecture, f"architecture {architecture}")
    code.put(RET, decisions.elsewhere)
    for architecture, ranges in decisions.ranges.items():
        code.label(f"architecture {architecture}")
        code.put(LD_ABS, NUMBER_AT)
        if len(ranges) == 1:
            code.put(JA, 0, _leaf(architecture, ranges[0].verdict))
        else:
            _search(code, architecture, ranges)
        for returns in sorted({one.verdict.returns for one in ranges} - {-1}):
            code.label(_leaf(architecture, Verdict(returns)))
            code.put(RET, returns)
    return code.finish()


def _leaf(architecture: int, verdict: Verdict) -> str:
    """Each architecture has returns of its own: a conditional jump does not reach far."""
    return f"old {verdict.place}" if verdict.returns < 0 else f"{architecture} returns {verdict.returns}"


def _search(code: _Code, architecture: int, ranges: list[Range]) -> None:
    middle = len(ranges) // 2
    left, right = ranges[:middle], ranges[middle:]
    names = [
        _leaf(architecture, half[0].verdict) if len(half) == 1 else f"{architecture} from {half[0].first}, {len(half)}"
        for half in (right, left)
    ]
    code.put(JGE, right[0].first, *names)
    for half, name in ((left, names[1]), (right, names[0])):
        if len(half) > 1:
            code.label(name)
            _search(code, architecture, half)


class _Line(NamedTuple):
    """An instruction with named targets; "" is the next line. A JA's is `true`."""

    code: int
    k: int
    true: str
    false: str


class _Code:
    """Instructions with named targets, and at their end the parts of the old program that they lead to."""

    def __init__(self, program: list[Instruction]) -> None:
        self.program = program
        self.lines: list[_Line] = []
        self.labels: dict[str, int] = {}

    def put(self, code: int, k: int, true: str = "", false: str = "") -> None:
        self.lines.append(_Line(code, k, true, false))

    def label(self, name: str) -> None:
        """The next line is called so."""
        self.labels[name] = len(self.lines)

    def finish(self) -> list[Instruction]:
        for place in sorted(self._reachable()):
            code, jt, jf, k = self.program[place]
            self.label(f"old {place}")
            if code == JA:
                self.put(JA, 0, f"old {place + 1 + k}")
            elif code in CONDITIONS:
                self.put(code, k, f"old {place + 1 + jt}", f"old {place + 1 + jf}")
            else:
                self.put(code, k)
        return self._linked()

    def _reachable(self) -> set[int]:
        """Places of the old program that are still needed."""
        found: set[int] = set()
        waiting = [int(name[4:]) for line in self.lines for name in (line.true, line.false) if name.startswith("old ")]
        while waiting:
            place = waiting.pop()
            if place in found:
                continue
            found.add(place)
            code, jt, jf, k = self.program[place]
            if code in CONDITIONS:
                waiting += [place + 1 + jt, place + 1 + jf]
            elif code != RET:
                waiting.append(place + 1 + (k if code == JA else 0))
        return found

    def _linked(self) -> list[Instruction]:
        """Distances for names. A conditional jump that does not reach goes by way of a JA behind it, or two."""
        far: set[tuple[int, int]] = set()  # (line, 0 for its true target or 1 for its false one)
        while True:
            gaps, size = self._gaps(far)
            more = {
                (number, side)
                for number, line in enumerate(self.lines)
                for side in (0, 1)
                if line.code in CONDITIONS and gaps[number][side] > SHORT and (number, side) not in far
            }
            if not more:
                break
            far |= more
        if size > LONGEST:
            raise Unreadable(f"{size} instructions are more than the kernel takes ({LONGEST})")
        program: list[Instruction] = []
        for number, (line, gap) in enumerate(zip(self.lines, gaps, strict=True)):
            if line.code not in CONDITIONS:
                program.append(Instruction(line.code, 0, 0, gap[0] if line.code == JA else line.k))
                continue
            ways = [side for side in (0, 1) if (number, side) in far]
            jumps = [ways.index(side) if side in ways else gap[side] for side in (0, 1)]
            program.append(Instruction(line.code, jumps[0], jumps[1], line.k))
            program += [Instruction(JA, 0, 0, gap[side] - place - 1) for place, side in enumerate(ways)]
        return program

    def _gaps(self, far: set[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
        """How far each line's targets are from the instruction behind it, and the program's length."""
        starts = [0]
        for number in range(len(self.lines)):
            starts.append(starts[-1] + 1 + ((number, 0) in far) + ((number, 1) in far))

        def gap(number: int, target: str) -> int:
            return starts[self.labels[target] if target else number + 1] - starts[number] - 1

        return [(gap(number, line.true), gap(number, line.false)) for number, line in enumerate(self.lines)], starts[-1]
