"""The version that was installed, and what --version says of it."""

from importlib import metadata

from shimd.spec.config import OCI_VERSION

RUNC = "1.1.5"
"""The runc whose command line this is: its own tests of it pass (docs/foreign-suites.md)."""


def version() -> str:
    """As pyproject.toml has it; "0" for a tree that was never installed."""
    try:
        return metadata.version("asyncrt")
    except metadata.PackageNotFoundError:
        return "0"


def told() -> str:
    """In runc's form, for who reads it line by line, without being taken for runc.

    Callers look for `runc version N` in the first line, people for who it is. docker takes the name and the number
    beside the last `version` that it meets (`docker version`), so the last line is ours alone. `commit` is the
    release, as in Debian's runc.
    """
    number = version()
    lines = (
        f"asyncrt-oci version {number}, in place of runc version {RUNC}",
        f"commit: {number}",
        f"spec: {OCI_VERSION}",
        f"asyncrt-oci version {number}",
    )
    return "".join(f"{line}\n" for line in lines)
