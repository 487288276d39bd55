"""linux.netDevices: links of the machine that move in, with their addresses, up, under their new names."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.shimd.configs import NAMESPACES, config
from tests.shimd.stage import Stage, StartFailed

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("ip"), reason="no ip: iproute2")]
MAPS = [{"containerID": 0, "hostID": 0, "size": 2000}]


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)


@pytest.fixture
def link() -> Iterator[str]:
    """One end of a veth pair with two addresses; its peer, and so both, go after the test."""
    name = f"at{os.getpid() % 100000}a"
    peer = name[:-1] + "b"
    ip("link", "add", name, "type", "veth", "peer", "name", peer)
    try:
        ip("addr", "add", "10.123.45.6/24", "dev", name)
        ip("-6", "addr", "add", "2001:db8::7/64", "dev", name, "nodad")
        ip("link", "set", peer, "up")
        yield name
    finally:
        ip("link", "del", peer, check=False)


def inside(pid: int, *words: str) -> str:
    return subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words], capture_output=True, text=True).stdout


def asking(devices: dict[str, Any], user: bool = False) -> dict[str, Any]:
    maps = {"uidMappings": MAPS, "gidMappings": MAPS} if user else {}
    kinds = [*NAMESPACES, "user"] if user else NAMESPACES
    return config("sleep", "60", namespaces=kinds, linux={"netDevices": devices, **maps})


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(("wish", "name"), [({"name": "eth0"}, "eth0"), ({}, ""), ({"name": "lan%d"}, "lan0")])
def test_a_link_moves_in(stage: Stage, link: str, wish: dict[str, str], name: str, user: bool) -> None:
    container = stage.start(asking({link: wish}, user))
    name = name or link
    assert ip("link", "show", link, check=False).returncode != 0
    said = inside(container.pid, "-o", "addr", "show", "dev", name)
    assert "inet 10.123.45.6/24" in said
    assert "inet6 2001:db8::7/64" in said
    assert ",UP" in inside(container.pid, "-o", "link", "show", "dev", name)


def test_a_link_that_is_not_there(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="offer network devices nosuch0: no interface with this name"):
        stage.start(asking({"nosuch0": {}}))


def test_a_name_that_is_taken(stage: Stage, link: str) -> None:
    with pytest.raises(StartFailed, match=f"take network devices {link} as lo: {link}: the name lo is taken"):
        stage.start(asking({link: {"name": "lo"}}))
    assert ip("link", "show", link).returncode == 0
