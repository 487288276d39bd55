"""--cap-add and --cap-drop to the five sets of a process (capabilities(7))."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrt.engine import defaults
from asyncrt.errors import BadRequest
from shimd.linux.identity import NUMBER_OF
from shimd.spec.config import Capabilities

_ALL = "ALL"


def names(add: Sequence[str], drop: Sequence[str]) -> tuple[str, ...]:
    """The capabilities of a container, in the kernel's order. BadRequest for a name that is none.

    As moby's TweakCapabilities (daemon/pkg/oci/caps/utils.go): names in any case, with or without CAP_; an
    added ALL is all but the dropped, a dropped ALL only the added, else an addition wins over a drop. ALL
    is every capability that exists: those that this kernel or the engine itself has not are left out, and
    told, by the runtime.
    """
    added, dropped = _read("--cap-add", add), _read("--cap-drop", drop)
    if _ALL in added:
        held = NUMBER_OF.keys() - dropped
    elif _ALL in dropped:
        held = added
    else:
        held = (set(defaults.CAPABILITIES) - dropped) | added
    return tuple(sorted(held, key=NUMBER_OF.__getitem__))


def _read(flag: str, wished: Sequence[str]) -> set[str]:
    found = set()
    for wish in wished:
        name = wish.upper()
        if name != _ALL and not name.startswith("CAP_"):
            name = f"CAP_{name}"
        if name != _ALL and name not in NUMBER_OF:
            raise BadRequest("read", flag, f'"{wish}" is no capability', "capabilities(7) lists them; ALL is all")
        found.add(name)
    return found


def sets(held: tuple[str, ...], uid: int) -> Capabilities:
    """The sets of a process of `uid` in a container that holds `held`.

    Inheritable and ambient are empty for everybody (CVE-2022-29162). Who is not root has none, and the
    bounding set lets a set-uid program or file capabilities give them back, as execve(2) would leave it
    after setuid.
    """
    effective = held if uid == 0 else ()
    return Capabilities(bounding=held, effective=effective, permitted=effective)
