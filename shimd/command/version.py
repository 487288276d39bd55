"""The version that was installed."""

from importlib import metadata


def version() -> str:
    """As pyproject.toml has it; "0" for a tree that was never installed."""
    try:
        return metadata.version("asyncrt")
    except metadata.PackageNotFoundError:
        return "0"
