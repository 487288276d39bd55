"""--security-opt, as docker reads it: seccomp=FILE, seccomp=unconfined, no-new-privileges[:true|false]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from asyncrt.errors import BadRequest

FLAG = "--security-opt"
KNOWN = "seccomp=FILE, seccomp=unconfined and no-new-privileges are known"
OWN_PROFILE = ("", "default", "builtin")
UNCONFINED = "unconfined"
_BOOLEANS = {"": True, "true": True, "false": False}


class Security(TypedDict, total=False):
    """The fields of Options that the flag sets."""

    seccomp: str
    no_new_privileges: bool


def options(texts: Sequence[str]) -> Security:
    """What was asked for; the last word on a subject wins. A profile is read here, where its path means something."""
    found: Security = {}
    for text in texts:
        # Docker took a colon before it took an equals sign, and still does.
        name, _, value = text.partition("=") if "=" in text else text.partition(":")
        if name == "seccomp" and value in OWN_PROFILE[1:]:
            found["seccomp"] = ""
        elif name == "seccomp" and value:
            found["seccomp"] = value if value == UNCONFINED else _profile(value)
        elif name == "no-new-privileges" and value in _BOOLEANS:
            found["no_new_privileges"] = _BOOLEANS[value]
        else:
            raise BadRequest("read", FLAG, f'"{text}" is not known', KNOWN)
    return found


def _profile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
    except OSError as error:
        raise BadRequest("read", f"{FLAG} seccomp={path}", (error.strerror or str(error)).lower()) from error
    except UnicodeDecodeError as error:
        raise BadRequest("read", f"{FLAG} seccomp={path}", "it is not UTF-8") from error
    if not text.strip():
        raise BadRequest("read", f"{FLAG} seccomp={path}", "it is empty")
    return text
