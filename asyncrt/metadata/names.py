"""Which name belongs to which container: a copy of the table's unique index in memory, with undo.

Asking the database instead would need a savepoint per caller, and every statement that the worker thread runs
gives the interpreter lock away and waits up to sys.getswitchinterval() (5 ms) to get it back from a busy
event loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asyncrt.errors import Conflict
from asyncrt.metadata.changes import Change, DropContainer, PutContainer


class Names:
    """The names in use. `claim` is all or nothing; `settle` keeps what it did, `undo` takes it back."""

    def __init__(self, names: Iterable[tuple[str, str]] = ()) -> None:
        """`names`: (id, name) of what there is."""
        self._name_of = dict(names)
        self._id_of = {name: id for id, name in self._name_of.items()}
        self._undo: list[tuple[str, str | None]] = []  # (id, the name that it had before)

    def claim(self, changes: Sequence[Change]) -> None:
        """Enter the names of `changes`, in order; Conflict, and nothing entered, if one is another's."""
        mark = len(self._undo)
        for change in changes:
            if isinstance(change, PutContainer):
                id, name = change.container.id, change.container.name
                holder = self._id_of.get(name, id)
                if holder != id:
                    self.undo(mark)
                    raise Conflict(
                        "name container",
                        name,
                        f"the name is in use by {holder[:12]}",
                        "remove that one, or choose another name",
                    )
                self._set(id, name)
            elif isinstance(change, DropContainer):
                self._set(change.id, None)

    def settle(self) -> None:
        """What was claimed is in the database."""
        self._undo.clear()

    def undo(self, mark: int = 0) -> None:
        """Take the claims since `mark` back, last first."""
        while len(self._undo) > mark:
            self._enter(*self._undo.pop())

    def renames(self, id: str, name: str) -> bool:
        """Whether `id` holds another name than this one."""
        return self._name_of.get(id, name) != name

    def _set(self, id: str, name: str | None) -> None:
        before = self._name_of.get(id)
        if before != name:
            self._undo.append((id, before))
            self._enter(id, name)

    def _enter(self, id: str, name: str | None) -> None:
        before = self._name_of.pop(id, None)
        if before is not None and self._id_of.get(before) == id:
            del self._id_of[before]
        if name is not None:
            self._name_of[id] = name
            self._id_of[name] = id
