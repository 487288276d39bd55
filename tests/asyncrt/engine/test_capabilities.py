"""Capabilities: Docker's default, and --cap-add and --cap-drop as Docker reads them."""

import pytest

from asyncrt.engine import capabilities
from asyncrt.errors import BadRequest
from shimd.linux.identity import NUMBER_OF

# moby, oci/caps/defaults.go (commit 1086671; now daemon/pkg/oci/caps), typed off in its order.
DOCKER = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
]
OURS = set(DOCKER)
ALL = set(NUMBER_OF)


def test_the_default_is_dockers() -> None:
    assert len(DOCKER) == 14
    assert set(capabilities.names((), ())) == OURS


# The cases of TweakCapabilities, moby daemon/pkg/oci/caps/utils.go.
@pytest.mark.parametrize(
    ("add", "drop", "held"),
    [
        (("NET_ADMIN",), (), OURS | {"CAP_NET_ADMIN"}),
        (("cap_net_admin", "Sys_Time"), (), OURS | {"CAP_NET_ADMIN", "CAP_SYS_TIME"}),
        (("MKNOD",), (), OURS),
        ((), ("CHOWN", "CAP_KILL"), OURS - {"CAP_CHOWN", "CAP_KILL"}),
        ((), ("SYS_ADMIN", "MKNOD"), OURS - {"CAP_MKNOD"}),
        (("ALL",), (), ALL),
        (("all",), ("SYS_ADMIN",), ALL - {"CAP_SYS_ADMIN"}),
        ((), ("ALL",), set()),
        (("CHOWN", "MKNOD"), ("ALL",), {"CAP_CHOWN", "CAP_MKNOD"}),
        (("CHOWN",), ("CHOWN",), OURS),
        (("ALL",), ("ALL",), ALL),
    ],
)
def test_add_and_drop(add: tuple[str, ...], drop: tuple[str, ...], held: set[str]) -> None:
    names = capabilities.names(add, drop)
    assert set(names) == held
    assert len(names) == len(held)


def test_they_come_in_the_kernels_order() -> None:
    names = capabilities.names(("ALL",), ())
    assert [NUMBER_OF[name] for name in names] == list(range(len(ALL)))


@pytest.mark.parametrize("wish", ["", "CAP_", "SUPERPOWER", "CAP_CAP_CHOWN", "CHOWN,KILL", "CAP_ALL", " ALL"])
def test_an_unknown_name_is_refused(wish: str) -> None:
    with pytest.raises(BadRequest, match=rf'read --cap-add: "{wish}" is no capability \(capabilities\(7\)'):
        capabilities.names((wish,), ())
    with pytest.raises(BadRequest, match="--cap-drop"):
        capabilities.names((), (wish,))


def test_the_five_sets() -> None:
    held = ("CAP_CHOWN", "CAP_KILL")
    root = capabilities.sets(held, 0)
    assert root.bounding == root.permitted == root.effective == held
    assert root.inheritable == root.ambient == ()
    other = capabilities.sets(held, 1000)
    assert other.bounding == held
    assert other.permitted == other.effective == other.inheritable == other.ambient == ()
