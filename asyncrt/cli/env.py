"""Environment variables: -e and --env-file, as docker reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncrt.errors import BadRequest


def variables(files: Iterable[str], words: Iterable[str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """NAME=VALUE, files first and words over them; NAME alone takes ours, and is left out where we have none.

    Raises BadRequest with file and line of what is no variable.
    """
    found: dict[str, str] = {}
    for file in files:
        for place, line in _lines(file):
            _put(found, line, ours, "--env-file", place)
    for word in words:
        _put(found, word, ours, "--env", "")
    return tuple(f"{name}={value}" for name, value in found.items())


def _put(found: dict[str, str], text: str, ours: Mapping[str, str], flag: str, place: str) -> None:
    name, equals, value = text.partition("=")
    where = f"{place}: " if place else ""
    if not name or "\0" in text:
        raise BadRequest("read", flag, f'{where}"{text}" has no name', "write it as NAME=VALUE")
    if place and any(space in name for space in " \t"):
        raise BadRequest("read", flag, f'{where}the name "{name}" has a blank in it', "write it as NAME=VALUE")
    if equals:
        found[name] = value
    elif name in ours:
        found[name] = ours[name]


def _lines(path: str) -> list[tuple[str, str]]:
    """Lines that say something, with their place; a # begins a comment line, a value keeps its blanks."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
    except OSError as error:
        raise BadRequest("read", f"--env-file {path}", (error.strerror or str(error)).lower()) from error
    except UnicodeDecodeError as error:
        raise BadRequest("read", f"--env-file {path}", "it is not UTF-8") from error
    lines = ((f"{path}:{n}", line.lstrip()) for n, line in enumerate(text.split("\n"), 1))
    return [(place, line.rstrip("\r")) for place, line in lines if line.strip() and not line.startswith("#")]
