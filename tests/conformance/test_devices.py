"""config-linux.md, "Devices", "Default Devices", "Allowed Device list"."""

import os
import stat
from typing import Any

import pytest

from tests.conformance.bundle import Bundle

pytestmark = pytest.mark.root

DEFAULTS = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
FUSE = {"type": "c", "path": "/dev/mine", "major": 10, "minor": 229}  # in any kernel, and in no default list
KINDS = {"c": "char", "u": "char", "b": "block", "p": "fifo"}


def device(type: str, path: str, **more: Any) -> dict[str, Any]:
    numbers = {} if type == "p" else {"major": 10, "minor": 229}
    return {"type": type, "path": path, **numbers, **more}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_devices(bundle: Bundle, name: str) -> None:
    """config-linux.md, Default Devices: MUST be supplied, for everybody."""
    seen = bundle.does("stat", f"/dev/{name}").report()[f"stat /dev/{name}"].split()
    assert (seen[0], seen[1], seen[3]) == ("char", "0666", DEFAULTS[name])


def test_ptmx(bundle: Bundle) -> None:
    """config-linux.md, Default Devices: /dev/ptmx is the container's own /dev/pts/ptmx."""
    facts = bundle.does("readlink", "/dev/ptmx", ",", "stat", "/dev/ptmx").report()
    assert facts["readlink /dev/ptmx"] in ("pts/ptmx", "/dev/pts/ptmx") or facts["stat /dev/ptmx"].endswith(" 5:2")


def test_no_console_without_a_terminal(bundle: Bundle) -> None:
    """config-linux.md, Default Devices: /dev/console is set up if terminal is enabled."""
    assert bundle.does("stat", "/dev/console").report()["stat /dev/console"] == "ENOENT"


@pytest.mark.parametrize("type", KINDS)
def test_devices(bundle: Bundle, type: str) -> None:
    """config-linux.md, Devices: type, path, numbers, fileMode, uid, gid."""
    bundle.linux["devices"] = [device(type, "/dev/mine", fileMode=0o620, uid=7, gid=8)]
    seen = bundle.does("stat", "/dev/mine").report()["stat /dev/mine"].split()
    assert seen[:3] == [KINDS[type], "0620", "7:8"]
    assert type == "p" or seen[3] == "10:229"


@pytest.mark.parametrize("type", KINDS)
def test_devices_in_a_user_namespace(bundle: Bundle, type: str) -> None:
    """config-linux.md, Devices: who may not make nodes gets them all the same, with ids of the namespace."""
    bundle.linux["devices"] = [device(type, "/dev/mine", fileMode=0o620, uid=7, gid=8)]
    seen = bundle.user_namespace().does("stat", "/dev/mine").report()["stat /dev/mine"].split()
    assert seen[:3] == [KINDS[type], "0620", "7:8"]
    assert type == "p" or seen[3] == "10:229"


def test_device_outside_of_dev(bundle: Bundle) -> None:
    """config-linux.md, Devices, path: MAY be anywhere in the container's file system."""
    bundle.linux["devices"] = [device("c", "/data/deep/mine", fileMode=0o600)]
    assert bundle.does("stat", "/data/deep/mine").report()["stat /data/deep/mine"].startswith("char 0600")


def test_device_that_is_there(bundle: Bundle) -> None:
    """config-linux.md, Devices, path: a file that matches the request is no error."""
    os.mknod(bundle.rootfs / "data/mine", stat.S_IFCHR | 0o600, os.makedev(10, 229))
    bundle.linux["devices"] = [device("c", "/data/mine", fileMode=0o600)]
    assert bundle.does("stat", "/data/mine").report()["stat /data/mine"].startswith("char 0600")


def test_another_file_is_there(bundle: Bundle) -> None:
    """config-linux.md, Devices, path: a file that does not match MUST generate an error."""
    (bundle.rootfs / "data/mine").write_text("a file of the image")
    bundle.linux["devices"] = [device("c", "/data/mine")]
    bundle.refused()


def test_numbers_are_required(bundle: Bundle) -> None:
    """config-linux.md, Devices: major and minor are REQUIRED unless the type is p."""
    bundle.linux["devices"] = [{"type": "c", "path": "/dev/mine"}]
    bundle.refused()


def test_unknown_device_type_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: an invalid value MUST generate an error."""
    bundle.linux["devices"] = [device("x", "/dev/mine")]
    bundle.refused()


def rules(bundle: Bundle, *entries: dict[str, Any]) -> None:
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}, *entries]}
    bundle.process["capabilities"]["bounding"].append("CAP_MKNOD")
    bundle.process["capabilities"]["effective"].append("CAP_MKNOD")
    bundle.process["capabilities"]["permitted"].append("CAP_MKNOD")


def test_a_device_that_is_denied(bundle: Bundle) -> None:
    """config-linux.md, Allowed Device list: what no entry allows cannot be opened."""
    rules(bundle)
    bundle.linux["devices"] = [FUSE]
    assert bundle.does("open", "/dev/mine").report()["open /dev/mine"] == "EPERM"


def test_a_device_that_is_allowed(bundle: Bundle) -> None:
    """config-linux.md, Allowed Device list: type, major, minor, access."""
    rules(bundle, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"})
    bundle.linux["devices"] = [FUSE]
    facts = bundle.does("open", "/dev/mine", ",", "write", "/dev/mine", "").report()
    assert (facts["open /dev/mine"], facts["write /dev/mine"]) == ("ok", "EPERM")


def test_default_devices_can_be_opened(bundle: Bundle) -> None:
    """config-linux.md, Default Devices: also where the list denies everything."""
    rules(bundle)
    assert bundle.does("open", "/dev/null").report()["open /dev/null"] == "ok"


def test_rules_are_in_order(bundle: Bundle) -> None:
    """config-linux.md, Allowed Device list: MUST be applied in the listed order."""
    rules(
        bundle,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    )
    bundle.linux["devices"] = [FUSE]
    assert bundle.does("open", "/dev/mine").report()["open /dev/mine"] == "EPERM"


def test_mknod_is_an_access(bundle: Bundle) -> None:
    """config-linux.md, Allowed Device list, access: m is for mknod."""
    rules(bundle, {"allow": True, "type": "b", "major": 240, "access": "m"})
    bundle.does("mknod", "/tmp/yes", "b", "240", "1", ",", "mknod", "/tmp/no", "b", "241", "1", ",", "open", "/tmp/yes")
    facts = bundle.report()
    assert (facts["mknod /tmp/yes"], facts["mknod /tmp/no"], facts["open /tmp/yes"]) == ("ok", "EPERM", "EPERM")
