"""What runtimes are known not to keep: file::test (fnmatch patterns) to the reason, per runtime.

A test that is listed must fail (xfail, strict).
"""

from fnmatch import fnmatchcase

KNOWN: dict[str, dict[str, str]] = {
    "crun": {},
    "runc": {},
}


def of(runtime: str) -> dict[str, str]:
    """The table of a runtime; empty for one that is not listed."""
    return KNOWN.get(runtime, {})


def reason(known: dict[str, str], test: str) -> str | None:
    """Why this test is known to fail, None where it has to pass."""
    test = test.replace("[", "<").replace("]", ">")
    for pattern, why in known.items():
        if fnmatchcase(test, pattern.replace("[", "<").replace("]", ">")):
            return why
    return None
