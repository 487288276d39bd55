"""Mount options as flags and parameters."""

import pytest

from shimd.container.options import ATTRIBUTES, SUPERBLOCK_FLAGS, MountOptions, names, old_style, parse
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
    assert parse((option,)) == NOTHING._replace(propagation=flag, propagation_recursive=option.startswith("r"))


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


@pytest.mark.parametrize("option", ATTRIBUTES)
def test_every_attribute_has_its_recursive_form(option: str) -> None:
    plain, below = parse((option,)), parse((f"r{option}",))
    assert (below.recursive_set, below.recursive_clear) == (plain.set, plain.clear)
    assert (below.set, below.clear, below.parameters) == (0, 0, ())


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (("ro", "rrw"), (0, 0), (0, m.MOUNT_ATTR_RDONLY)),
        (("rro", "rw"), (0, 0), (m.MOUNT_ATTR_RDONLY, 0)),
        (("ro", "rnosuid"), (m.MOUNT_ATTR_RDONLY, 0), (m.MOUNT_ATTR_NOSUID, 0)),
        (("rro", "rrw"), (0, 0), (0, m.MOUNT_ATTR_RDONLY)),
        (("noatime", "rstrictatime"), (0, 0), (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME)),
    ],
)
def test_what_is_recursive_rules(options: tuple[str, ...], top: tuple[int, int], below: tuple[int, int]) -> None:
    wish = parse(options)
    assert (wish.set, wish.clear) == top
    assert (wish.recursive_set, wish.recursive_clear) == below


def test_words_that_are_no_parameters() -> None:
    wish = parse(("silent", "loud", "noiversion", "iversion", "tmpcopyup", "remount", "ridmap"))
    assert wish == NOTHING._replace(old_flags=m.MS_I_VERSION, copy_up=True, remount=True, idmap="ridmap")


def test_the_same_for_the_old_call() -> None:
    wish = parse(("ro", "nosuid", "noatime", "dirsync", "size=1", "flag"))
    flags, data = old_style(wish.set, wish.parameters)
    assert flags == m.MS_RDONLY | m.MS_NOSUID | m.MS_NOATIME | m.MS_DIRSYNC
    assert data == "size=1,flag"


def test_the_options_of_the_spec_are_understood() -> None:
    """config.md, "Linux mount options": none of its table is taken for a file system's parameter."""
    table = [
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "remount",
        "rexec",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "ro",
        "rprivate",
        "rrelatime",
        "rro",
        "rrw",
        "rshared",
        "rslave",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
        "idmap",
        "ridmap",
    ]
    assert set(table) <= names()
    for option in names():
        for key, value in parse((option,)).parameters:
            assert (key in SUPERBLOCK_FLAGS, value) == (True, None)
