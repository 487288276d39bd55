"""Small grammars that several properties share: CPU and node lists, id mappings."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from shimd.spec.errors import Finding
from shimd.spec.linux import IdMapping

ID_SPACE = 2**32 - 1  # the last id, (uid_t)-1, is no id
MAX_MAPPINGS = 340  # user_namespaces(7), since Linux 4.15


def is_cpu_list(text: str) -> bool:
    """Whether this is a list as cpuset(7) has it: ``0-3,7``, also with a stride, ``0-15:2/4``."""
    return all(_is_range(part.strip()) for part in text.strip().split(","))


def _is_range(part: str) -> bool:
    span, colon, stride = part.partition(":")
    first, dash, last = span.partition("-")
    if not _is_number(first) or (dash and not (_is_number(last) and int(first) <= int(last))):
        return False
    used, _, group = stride.partition("/")
    return not colon or (bool(dash) and _is_number(used) and _is_number(group) and 0 < int(used) <= int(group))


def _is_number(text: str) -> bool:
    # Six digits: no machine has as many CPUs, and int() stays cheap and within its limit.
    return text.isascii() and text.isdigit() and len(text) <= 6


def bad_mappings(mappings: Sequence[IdMapping], at: str) -> Iterator[Finding]:
    """What user_namespaces(7), "Defining user and group ID mappings", does not take."""
    if len(mappings) > MAX_MAPPINGS:
        yield Finding(at, f"{len(mappings)} entries, the kernel takes {MAX_MAPPINGS}")
        return
    for place, (inside, outside, size) in enumerate(mappings):
        if size == 0:
            yield Finding(f"{at}[{place}].size", "maps no id")
        if inside + size > ID_SPACE or outside + size > ID_SPACE:
            yield Finding(f"{at}[{place}].size", f"{size} reaches past the last id, {ID_SPACE - 1}")
    for name, column in (("containerID", 0), ("hostID", 1)):
        # Sorted by start, an overlap is always between neighbours.
        spans = sorted((entry[column], entry[2], place) for place, entry in enumerate(mappings))
        for (start, size, _), (following, _, place) in pairwise(spans):
            if following < start + size:
                yield Finding(f"{at}[{place}].{name}", f"{following} is mapped by another entry already")


def outside_id(mappings: Sequence[IdMapping], inside: int) -> int:
    """The machine's id of one inside a user namespace; -1 where it has none. No mappings: it is the same."""
    if not mappings:
        return inside
    for first, outside, size in mappings:
        if first <= inside < first + size:
            return outside + inside - first
    return -1
