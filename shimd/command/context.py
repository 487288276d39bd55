"""What main hands to a verb."""

from shimd.command.flags import Values
from shimd.command.journal import Journal
from shimd.command.shelf import Shelf


class Context:
    """The global flags' outcome, the verb's own flags, its arguments."""

    __slots__ = ("arguments", "journal", "root", "values")

    def __init__(self, root: str, journal: Journal, values: Values, arguments: list[str]) -> None:
        self.root = root
        self.journal = journal
        self.values = values
        self.arguments = arguments

    def shelf(self) -> Shelf:
        """Of the container that the first argument names."""
        return Shelf(self.root, self.arguments[0])
