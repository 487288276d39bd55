"""The tree of errors that callers see, drawn once:

    AsyncrtError            deed, subject, cause, hint; code: what a command line returns for it
    |- BadRequest           what was asked makes no sense; nothing was changed
    |- NoSuchObject         the container or image is not there
    |- Conflict             a name in use, or a state that forbids the deed
    |- StartFailed          the container or exec could not be started (code 125, 126 or 127)
    |- StorageFailed        disk, database or mount refused
    |- BadImage             an image, layer or blob is not what it says, or what nobody should unpack
    |- RegistryFailed       a registry refused, or could not be reached, or broke off
    |- Unavailable          no supervisor, it went away, or it speaks another version
    |- TimedOut             the deadline that the caller gave is over; it is a TimeoutError, too

An error is one line: "DEED SUBJECT: CAUSE (HINT)", in lower case. Foreign errors are translated where they enter.
"""

from __future__ import annotations

from typing import ClassVar


class AsyncrtError(Exception):
    """A failure that names deed, subject and cause, and the mend where there is one."""

    kind: ClassVar[str] = "error"

    def __init__(self, deed: str, subject: str, cause: str, hint: str = "", code: int = 125) -> None:
        self.deed = deed
        self.subject = subject
        self.cause = cause
        self.hint = hint
        self.code = code
        line = f"{deed} {subject}: {cause}" if subject else f"{deed}: {cause}"
        super().__init__(f"{line} ({hint})" if hint else line)

    def to_dict(self) -> dict[str, str | int]:
        """The form that crosses the API."""
        return {
            "kind": self.kind,
            "deed": self.deed,
            "subject": self.subject,
            "cause": self.cause,
            "hint": self.hint,
            "code": self.code,
        }


class BadRequest(AsyncrtError):
    kind = "bad-request"


class NoSuchObject(AsyncrtError):
    kind = "no-such-object"


class Conflict(AsyncrtError):
    kind = "conflict"


class StartFailed(AsyncrtError):
    kind = "start-failed"


class StorageFailed(AsyncrtError):
    kind = "storage-failed"


class BadImage(AsyncrtError):
    kind = "bad-image"


class RegistryFailed(AsyncrtError):
    kind = "registry-failed"


class Unavailable(AsyncrtError):
    kind = "unavailable"


class TimedOut(AsyncrtError, TimeoutError):
    kind = "timed-out"


_KINDS: dict[str, type[AsyncrtError]] = {
    kind.kind: kind
    for kind in (
        BadRequest,
        NoSuchObject,
        Conflict,
        StartFailed,
        StorageFailed,
        BadImage,
        RegistryFailed,
        Unavailable,
        TimedOut,
    )
}


def from_dict(document: dict[str, str | int]) -> AsyncrtError:
    """The inverse of to_dict; an unknown kind becomes a plain AsyncrtError."""
    kind = _KINDS.get(str(document.get("kind")), AsyncrtError)
    deed, subject, cause, hint = (str(document.get(name, "")) for name in ("deed", "subject", "cause", "hint"))
    return kind(deed, subject, cause, hint, int(document.get("code", 125)))


def shown(text: str) -> str:
    """A stranger's text for a line of ours: short, and of printable letters."""
    short = text if len(text) <= 200 else text[:200] + "..."
    return "".join(letter if letter.isprintable() else "?" for letter in short)
