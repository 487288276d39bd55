"""The documents a runtime writes: the state, and what a seccomp listener is told."""

from typing import NamedTuple

from shimd.spec.scalars import NO_STRINGS, Int32, StringMap


class State(NamedTuple):
    """runtime.md, "State": printed by ``state``, given to hooks on stdin.

    ``status`` is creating, created, running or stopped, or this runtime's own ``paused``; ``pid`` is as seen
    outside, and 0 (absent from the JSON) once stopped; ``bundle`` is absolute.
    """

    oci_version: str
    id: str
    status: str
    bundle: str
    pid: Int32 = 0
    annotations: StringMap = NO_STRINGS


class ContainerProcessState(NamedTuple):
    """config-linux.md, "Container Process State": tells a seccomp listener whose the passed fds are."""

    oci_version: str
    fds: tuple[str, ...]
    pid: Int32
    state: State
    metadata: str = ""
