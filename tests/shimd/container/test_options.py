"""Mount options as flags and parameters."""

import pytest

from shimd.container.options import ATTRIBUTES, MountOptions, parse
from shimd.linux import mounts as m

NOTHING = MountOptions(0, 0, 0, False, False, ())


def test_nothing() -> None:
    assert parse(()) == parse(("defaults", "", "auto", "_netdev")) == NOTHING


@pytest.mark.parametrize(
    ("options", "set_", "clear"),
    [
        (("ro",), m.MOUNT_ATTR_RDONLY, 0),
        (("rw",), 0, m.MOUNT_ATTR_RDONLY),
        (("ro", "rw"), 0, m.MOUNT_ATTR_RDONLY),
        (("rw", "ro"), m.MOUNT_ATTR_RDONLY, 0),
        (("nosuid", "noexec", "nodev"), m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC | m.MOUNT_ATTR_NODEV, 0),
        (("nosuid", "suid"), 0, m.MOUNT_ATTR_NOSUID),
        (("noatime",), m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_ATIME & ~m.MOUNT_ATTR_NOATIME),
        (("strictatime",), m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
        (("noatime", "relatime"), 0, m.MOUNT_ATTR_ATIME),
    ],
)
def test_the_last_word_counts(options: tuple[str, ...], set_: int, clear: int) -> None:
    wish = parse(options)
    assert wish.set == set_
    # mount_setattr(2) refuses an atime mode without the whole mask in attr_clr.
    if clear & m.MOUNT_ATTR_ATIME or set_ & m.MOUNT_ATTR_ATIME:
        assert wish.clear & m.MOUNT_ATTR_ATIME == m.MOUNT_ATTR_ATIME
    else:
        assert wish.clear == clear


@pytest.mark.parametrize("option", ATTRIBUTES)
def test_no_attribute_is_set_and_cleared(option: str) -> None:
    wish = parse((option,))
    assert not wish.set & wish.clear & ~m.MOUNT_ATTR_ATIME
    assert not wish.parameters


@pytest.mark.parametrize(
    ("option", "flag"),
    [("private", m.MS_PRIVATE), ("rslave", m.MS_SLAVE), ("rshared", m.MS_SHARED), ("unbindable", m.MS_UNBINDABLE)],
)
def test_propagation(option: str, flag: int) -> None:
    assert parse((option,)) == NOTHING._replace(propagation=flag)


def test_bind() -> None:
    assert parse(("bind",)) == NOTHING._replace(bind=True)
    assert parse(("rbind", "ro")) == NOTHING._replace(bind=True, recursive=True, set=m.MOUNT_ATTR_RDONLY)


def test_parameters() -> None:
    wish = parse(("mode=755", "size=64k", "newinstance", "sync", "context=a=b", "empty="))
    assert wish.parameters == (
        ("mode", "755"),
        ("size", "64k"),
        ("newinstance", None),
        ("sync", None),
        ("context", "a=b"),
        ("empty", ""),
    )
