"""pidfds and signal numbers by the C half of the standard library's `signal`, whose Python half is enums.

`processes` has pidfds, too, by ctypes; a short command that sends one signal does without both.
"""

import _signal  # type: ignore[import-not-found] # typeshed knows its Python half only

SIGKILL = 9
LAST = 64
REALTIME = {"RTMIN": 34, "RTMAX": 64}  # signal(7): glibc keeps 32 and 33


def send(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2). ProcessLookupError: it ended."""
    _signal.pidfd_send_signal(pidfd, number)


def number_of(word: str) -> int:
    """A signal by number or name, with or without SIG, in either case, RTMIN+1 too; -1 if there is none.

    0 is none either, but may be sent: it asks whether it could be (kill(2)).
    """
    name = word.upper().removeprefix("SIG")
    base, sign, distance = name.partition("-" if name.startswith("RTMAX") else "+")
    if word.isascii() and word.isdigit() and len(word) < 4:
        number = int(word)
    elif base in REALTIME and (not sign or (distance.isascii() and distance.isdigit() and len(distance) < 4)):
        step = int(distance or 0)
        number = REALTIME[base] + (-step if base == "RTMAX" else step)
    else:
        found = getattr(_signal, f"SIG{name}", None) if name.isalnum() else None
        number = int(found) if isinstance(found, int) else -1
    return number if 0 <= number <= LAST else -1
