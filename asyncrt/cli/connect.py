"""The door to the supervisor, from a command line: sdk/door.py, and a word on stderr when one was started."""

from __future__ import annotations

from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.sdk import door
from asyncrt.sdk.blocking import Client


def connect(places: Places, timeout: float | None = None) -> Client:
    """A connected client; starts a supervisor where none listens. The caller closes it.

    Raises Unavailable, StorageFailed, and AsyncrtError for who is not root.
    """
    return Client(places.socket, timeout, door.open_door(places, say))


def knock(places: Places, timeout: float | None = None) -> Client | None:
    """A connected client, or None where nobody listens. Raises Unavailable for every other refusal."""
    link = door.knock(places)
    return None if link is None else Client(places.socket, timeout, link)
