"""The containers in memory: found by id, by name, by an unambiguous beginning of the id."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator

from asyncrt.errors import BadRequest, Conflict, NoSuchObject
from asyncrt.model.container import Container

_MOODS = ("amber", "brisk", "calm", "deft", "eager", "frank", "gentle", "hardy", "keen", "lucid", "merry", "nimble")
_THINGS = ("anchor", "beacon", "cedar", "delta", "ember", "falcon", "garnet", "harbor", "islet", "juniper", "lagoon")


class Table:
    """Frozen records by id; put() replaces one. Names are reserved from create on."""

    def __init__(self, containers: Iterable[Container] = ()) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, str] = {}
        for container in containers:
            self.put(container)

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id: str) -> bool:
        return id in self._by_id

    def put(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id

    def get(self, id: str) -> Container | None:
        return self._by_id.get(id)

    def drop(self, id: str) -> None:
        container = self._by_id.pop(id, None)
        if container is not None and self._by_name.get(container.name) == id:
            del self._by_name[container.name]

    def find(self, ref: str, deed: str) -> Container:
        """By whole id, name, or beginning of an id. NoSuchObject, or BadRequest if it is ambiguous."""
        known = self._by_id.get(ref) or self._by_id.get(self._by_name.get(ref, ""))
        if known is not None:
            return known
        found = [id for id in self._by_id if id.startswith(ref)] if ref else []
        if len(found) > 1:
            raise BadRequest(deed, ref, f"{len(found)} containers begin with it", "give more of the id")
        if not found:
            raise NoSuchObject(deed, ref or '""', "there is no such container", "see asyncrt ps -a")
        return self._by_id[found[0]]

    def new_ids(self, count: int) -> list[str]:
        """Fresh ids, 64 hex digits."""
        return [secrets.token_hex(32) for _ in range(count)]

    def claim_names(self, ids: list[str], wish: str) -> list[str]:
        """A name for each id: the wish, with -1, -2 ... behind if there are several; reserved. Conflict if taken."""
        base = wish or self._invent()
        names = [base] if len(ids) == 1 else [f"{base}-{number}" for number in range(1, len(ids) + 1)]
        for name in names:
            holder = self._by_name.get(name)
            if holder is not None:
                raise Conflict("create", f'container "{name}"', f"the name is used by {holder[:12]}", "choose another")
        self._by_name.update(zip(names, ids, strict=True))
        return names

    def release_names(self, names: Iterable[str]) -> None:
        """Give back what claim_names reserved and no record took."""
        for name in names:
            id = self._by_name.get(name)
            if id is not None and id not in self._by_id:
                del self._by_name[name]

    def _invent(self) -> str:
        while True:
            name = f"{random.choice(_MOODS)}-{random.choice(_THINGS)}-{secrets.token_hex(2)}"
            if name not in self._by_name and f"{name}-1" not in self._by_name:
                return name
