"""Which device nodes a cgroup's processes may make and open: a list of rules, for v1's two files or as v2's program.

    rules = [*Rule lists, as they were asked for, *DEFAULT]
    devices.deny and devices.allow get writes(rules), in this order        (v1)
    the cgroup gets the program(rules)                                     (v2, shimd/linux/bpf.py)

A list begins with nothing allowed. For each kind of access (r, w, m for mknod) to a device the last rule that fits
decides. A rule for all types, numbers and accesses makes those before it void. This is what v1's files do with the
same writes, but for two things (Documentation/admin-guide/cgroup-v1/devices.rst). v1 keeps a default and exceptions
from it, and ignores in silence a rule that takes a part out of an exception: such a list is refused for v1. And v1 lets
one exception answer for the whole of an access: `rw` is not allowed by `c 1:* r` and `c 1:5 w` together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shimd.linux import bpf

ANY = -1
EVERY_ACCESS = "rwm"
_KINDS = {"b": bpf.BLOCK, "c": bpf.CHARACTER}
_BITS = {"r": bpf.READ, "w": bpf.WRITE, "m": bpf.MKNOD}
_LARGEST = (1 << 31) - 1  # what a comparison holds; a device has 12 and 20 bits


class Rule(NamedTuple):
    """`kind` is a, b or c; a number may be ANY; `access` is made of r, w and m."""

    allow: bool
    kind: str = "a"
    major: int = ANY
    minor: int = ANY
    access: str = EVERY_ACCESS

    def sweeping(self) -> bool:
        """Is it about all that there is?"""
        return self[1:4] == ("a", ANY, ANY) and set(self.access) == set(EVERY_ACCESS)

    def __str__(self) -> str:
        """As v1's files have it."""
        numbers = ("*" if number == ANY else str(number) for number in (self.major, self.minor))
        return f"{self.kind} {':'.join(numbers)} {self.access}"


# What runc, crun and docker give every container: any node may be made, but only null, zero, full, random, urandom,
# tty, console, ptmx and ptys opened.
DEFAULT = (
    Rule(True, "c", access="m"),
    Rule(True, "b", access="m"),
    *(Rule(True, "c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    *(Rule(True, "c", 5, minor) for minor in (0, 1, 2)),
    Rule(True, "c", 136),
)


class Unrepresentable(ValueError):
    """v1 cannot keep this list."""


def allows_by_default(rules: Iterable[Rule]) -> bool:
    """What becomes of a device that no particular rule fits."""
    return _relevant(rules)[0]


def _relevant(rules: Iterable[Rule]) -> tuple[bool, list[Rule]]:
    """(the default, the rules behind the last one that is about everything)."""
    default = False
    behind: list[Rule] = []
    for rule in rules:
        if rule.sweeping():
            default, behind = rule.allow, []
        else:
            behind.append(rule)
    return default, behind


def program(rules: Sequence[Rule]) -> bytes:
    """The v2 program: asks the rules from the last to the first."""
    default, behind = _relevant(rules)
    words = [bpf.begin()]
    for rule in reversed(behind):
        if max(rule.major, rule.minor) > _LARGEST:
            continue  # no device has such a number
        access = sum(_BITS[letter] for letter in set(rule.access))
        words.append(bpf.rule(rule.allow, _KINDS.get(rule.kind, ANY), rule.major, rule.minor, access))
    words.append(bpf.end(default))
    return b"".join(words)


def writes(rules: Sequence[Rule]) -> list[tuple[str, str]]:
    """(file, text) in order, for v1. Unrepresentable if a rule is about a part of what an earlier one is about."""
    default, behind = _relevant(rules)
    exceptions: dict[tuple[str, int, int], set[str]] = {}
    for rule in behind:
        for kind in "bc" if rule.kind == "a" else rule.kind:
            key = (kind, rule.major, rule.minor)
            if rule.allow == default:
                _take_out(exceptions, key, rule)
            else:
                exceptions.setdefault(key, set()).update(rule.access)
    files = ("devices.deny", "devices.allow")
    found = [(files[default], "a")]
    for (kind, major, minor), letters in exceptions.items():
        access = "".join(letter for letter in EVERY_ACCESS if letter in letters)
        found.append((files[not default], str(Rule(not default, kind, major, minor, access))))
    return found


def _take_out(exceptions: dict[tuple[str, int, int], set[str]], key: tuple[str, int, int], rule: Rule) -> None:
    for other in list(exceptions):
        if not exceptions[other] & set(rule.access) or not _meet(other, key):
            continue
        if not _covers(key, other):
            word = "".join(letter for letter in EVERY_ACCESS if letter in exceptions[other])
            wider = Rule(not rule.allow, *other, word)
            raise Unrepresentable(f'cgroup v1 cannot take "{rule}" out of "{wider}"')
        exceptions[other] -= set(rule.access)
        if not exceptions[other]:
            del exceptions[other]


def _meet(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and all(a == b or ANY in (a, b) for a, b in zip(one[1:], other[1:], strict=True))


def _covers(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and all(a in (b, ANY) for a, b in zip(one[1:], other[1:], strict=True))
