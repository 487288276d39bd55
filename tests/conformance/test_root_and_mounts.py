"""config.md, "Root" and "Mounts": the root file system and what is mounted into it."""

import os
from pathlib import Path

import pytest

from tests.conformance.bundle import Bundle, Facts, needs_id_maps

pytestmark = pytest.mark.root

MUST_OPTIONS = (
    *("async", "atime", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "loud", "noatime"),
    *("nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "norelatime", "nostrictatime", "nosuid", "private"),
    *("relatime", "ro", "rprivate", "rshared", "rslave", "runbindable", "rw", "shared", "silent", "slave"),
    *("strictatime", "suid", "sync", "unbindable"),
)
# what of an option is to be seen in /proc/self/mountinfo, of the mount or of its file system
SEEN = {
    **{name: name for name in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime")},
    **{name: name for name in ("sync", "dirsync", "lazytime", "nosymfollow")},
}
# a later option undoes an earlier one
UNDONE = {"nosuid": "suid", "nodev": "dev", "noexec": "exec", "ro": "rw", "sync": "async", "nodiratime": "diratime"}
RECURSIVE = {
    **{f"r{name}": name for name in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow")},
}
PEERS = {"private": "", "shared": "shared:", "slave": "", "unbindable": "unbindable"}
IDS = [{"containerID": 0, "hostID": 200000, "size": 65536}]


def mounts_on(facts: Facts, place: str) -> list[list[str]]:
    """The lines of mountinfo on a place, as words (proc_pid_mountinfo(5))."""
    lines = [value.split() for key, value in facts.items() if key.startswith("mount ")]
    return [words for words in lines if words[4] == place]


def options(facts: Facts, place: str) -> set[str]:
    """The options of the topmost mount on a place, and of its file system."""
    words = mounts_on(facts, place)[-1]
    return {*words[5].split(","), *words[-1].split(",")}


def peers(facts: Facts, place: str) -> list[str]:
    """The optional fields: shared:N, master:N, unbindable."""
    words = mounts_on(facts, place)[-1]
    return words[6 : words.index("-")]


def test_relative_root_counts_from_the_bundle(bundle: Bundle) -> None:
    """config.md, Root, path: relative to the bundle."""
    assert bundle.report()["arg 0"] == "report"


def test_absolute_root(bundle: Bundle) -> None:
    """config.md, Root, path: or absolute."""
    bundle.config["root"]["path"] = str(bundle.rootfs)
    assert bundle.report()["arg 0"] == "report"


def test_root_must_exist(bundle: Bundle) -> None:
    """config.md, Root, path: a directory MUST exist there."""
    bundle.config["root"]["path"] = "nothing"
    bundle.refused()


def test_root_is_writable(bundle: Bundle) -> None:
    """config.md, Root, readonly: defaults to false."""
    assert bundle.does("touch", "/new").report()["touch /new"] == "ok"
    assert (bundle.rootfs / "new").exists()


def test_root_readonly(bundle: Bundle) -> None:
    """config.md, Root, readonly: the root file system MUST be read-only inside; other mounts stay as they are."""
    bundle.config["root"]["readonly"] = True
    facts = bundle.mount("/tmp", "tmpfs", "tmpfs").does("touch", "/new", ",", "touch", "/tmp/new").report()
    assert (facts["touch /new"], facts["touch /tmp/new"]) == ("EROFS", "ok")


def test_mounts_are_in_order(bundle: Bundle) -> None:
    """config.md, Mounts: MUST be mounted in the listed order."""
    bundle.mount("/mnt", "tmpfs", "first").mount("/mnt/below", "tmpfs", "second").mount("/mnt", "tmpfs", "third")
    facts = bundle.does("report", ",", "ls", "/mnt").report()
    assert [words[-2] for words in mounts_on(facts, "/mnt")] == ["first", "third"]
    assert facts["ls /mnt"] == ""


def test_destination_is_made(bundle: Bundle) -> None:
    """config.md, Mounts, destination: a place that the image does not have."""
    assert mounts_on(bundle.mount("/new/place", "tmpfs", "tmpfs").report(), "/new/place")


def test_relative_destination_counts_from_the_root(bundle: Bundle) -> None:
    """config.md, Mounts, destination: MUST be interpreted as relative to "/"."""
    assert mounts_on(bundle.mount("mnt", "tmpfs", "tmpfs").report(), "/mnt")


def test_destination_stays_inside(bundle: Bundle) -> None:
    """config.md, Mounts, destination: a path inside the container, also by way of its symbolic links."""
    outside = bundle.path / "outside"
    outside.mkdir()
    (bundle.rootfs / "link").symlink_to(f"../../../../../../..{outside}")
    (bundle.path / "source").mkdir()
    (bundle.path / "source/file").touch()
    bundle.mount("/link/deep", "bind", str(bundle.path / "source"), "bind").run()
    assert not list(outside.iterdir())


def test_type_that_the_kernel_lacks(bundle: Bundle) -> None:
    """config.md, POSIX-platform Mounts, type: a file system that the kernel supports."""
    bundle.mount("/mnt", "nosuchfs", "none").refused()


def test_bind_mount(bundle: Bundle) -> None:
    """config.md, Mounts: bind, of a source relative to the bundle; the type is a dummy."""
    (bundle.path / "source").mkdir()
    (bundle.path / "source/file").write_text("here")
    bundle.mount("/data", "none", "source", "bind")
    assert bundle.does("cat", "/data/file").report()["cat /data/file"] == "here"


def test_bind_mount_of_a_file(bundle: Bundle) -> None:
    """config.md, Mounts, source: a file name for bind mounts."""
    source = bundle.path / "source"
    source.write_text("here")
    assert bundle.mount("/new", "bind", str(source), "bind").does("cat", "/new").report()["cat /new"] == "here"


def test_bind_source_must_exist(bundle: Bundle) -> None:
    """runtime.md, Create: what cannot be applied MUST generate an error."""
    bundle.mount("/data", "bind", "/no/such/source", "bind").refused()


@pytest.mark.parametrize("option", MUST_OPTIONS)
def test_options_that_must_be(bundle: Bundle, option: str) -> None:
    """config.md, Linux mount options: the MUST options are known, whether they show or not."""
    assert mounts_on(bundle.mount("/mnt", "tmpfs", "tmpfs", option).report(), "/mnt")


@pytest.mark.parametrize("option", SEEN)
def test_options_are_applied(bundle: Bundle, option: str) -> None:
    """config.md, Linux mount options: to a new file system."""
    assert SEEN[option] in options(bundle.mount("/mnt", "tmpfs", "tmpfs", option).report(), "/mnt")


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime"])
def test_options_are_applied_to_bind_mounts(bundle: Bundle, option: str) -> None:
    """config.md, Linux mount options: to a bind mount, whose flags are its own."""
    (bundle.path / "source").mkdir()
    assert option in options(bundle.mount("/data", "bind", "source", "bind", option).report(), "/data")


@pytest.mark.parametrize(("first", "second"), UNDONE.items())
def test_the_last_option_counts(bundle: Bundle, first: str, second: str) -> None:
    """mount(8): an option undoes its opposite before it."""
    assert first not in options(bundle.mount("/mnt", "tmpfs", "tmpfs", first, second).report(), "/mnt")


def test_strictatime(bundle: Bundle) -> None:
    """config.md, Linux mount options, strictatime: neither relatime nor noatime is left."""
    assert not options(bundle.mount("/mnt", "tmpfs", "tmpfs", "strictatime").report(), "/mnt") & {"relatime", "noatime"}


def test_remount(bundle: Bundle) -> None:
    """config.md, Linux mount options, remount: changes the mount that is there."""
    bundle.mount("/mnt", "tmpfs", "tmpfs").mount("/mnt", "tmpfs", "tmpfs", "remount", "ro")
    facts = bundle.report()
    assert len(mounts_on(facts, "/mnt")) == 1
    assert "ro" in options(facts, "/mnt")


def test_unknown_options_are_the_file_systems(bundle: Bundle) -> None:
    """config.md, Linux mount options: unknown ones are passed to the file system."""
    assert "size=1024k" in options(bundle.mount("/mnt", "tmpfs", "tmpfs", "size=1m").report(), "/mnt")


def test_an_option_that_nobody_knows(bundle: Bundle) -> None:
    """config.md, Linux mount options: and what the file system refuses is an error."""
    bundle.mount("/mnt", "tmpfs", "tmpfs", "no_such_option=1").refused()


def tree(bundle: Bundle, *steps: str) -> Path:
    """A source with a tmpfs on its subdirectory, mounted in the runtime namespace."""
    source = bundle.path / "source"
    (source / "below").mkdir(parents=True)
    bundle.runtime.room.run("mount", "--bind", str(source), str(source))
    bundle.runtime.room.run("mount", "-t", "tmpfs", "below", str(source / "below"))
    return source


def cut(bundle: Bundle, source: Path) -> None:
    bundle.runtime.room.run("umount", "--recursive", str(source))


def test_bind_is_not_recursive(bundle: Bundle) -> None:
    """config.md, Linux mount options: bind takes one mount."""
    source = tree(bundle)
    facts = bundle.mount("/data", "bind", str(source), "bind").report()
    cut(bundle, source)
    assert not mounts_on(facts, "/data/below")


def test_rbind(bundle: Bundle) -> None:
    """config.md, Linux mount options: rbind takes what is mounted below as well."""
    source = tree(bundle)
    facts = bundle.mount("/data", "bind", str(source), "rbind").report()
    cut(bundle, source)
    assert mounts_on(facts, "/data/below")


def test_ro_is_not_recursive(bundle: Bundle) -> None:
    """config.md, Linux mount options: ro is the upper mount's alone."""
    source = tree(bundle)
    facts = bundle.mount("/data", "bind", str(source), "rbind", "ro").report()
    cut(bundle, source)
    assert ("ro" in options(facts, "/data"), "rw" in options(facts, "/data/below")) == (True, True)


@pytest.mark.parametrize("option", RECURSIVE)
def test_recursive_options(bundle: Bundle, option: str) -> None:
    """config.md, Linux mount options: r-flags hold for the whole tree, mount_setattr(2) with AT_RECURSIVE."""
    source = tree(bundle)
    facts = bundle.mount("/data", "bind", str(source), "rbind", option).report()
    cut(bundle, source)
    for place in ("/data", "/data/below"):
        assert RECURSIVE[option] in options(facts, place)


@pytest.mark.parametrize("prefix", ["", "r"])
@pytest.mark.parametrize("kind", PEERS)
def test_mount_propagation(bundle: Bundle, kind: str, prefix: str) -> None:
    """config.md, Linux mount options: shared, slave, private, unbindable of the new mount."""
    facts = bundle.mount("/mnt", "tmpfs", "tmpfs", prefix + kind).report()
    seen = "".join(peers(facts, "/mnt"))
    assert seen.startswith(PEERS[kind]) if PEERS[kind] else not seen.startswith("shared")


def test_tmpcopyup(bundle: Bundle) -> None:
    """config.md, Linux mount options, tmpcopyup: the contents of the place are copied to the tmpfs."""
    (bundle.rootfs / "data/file").write_text("kept")
    facts = bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup").does("cat", "/data/file", ",", "report").report()
    assert facts["cat /data/file"] == "kept"
    assert mounts_on(facts, "/data")


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_mount_with_mappings(bundle: Bundle, option: str) -> None:
    """config.md, POSIX-platform Mounts, uidMappings: ids of the source's file system become the mount's."""
    needs_id_maps(bundle.path)
    (bundle.path / "source").mkdir()
    (bundle.path / "source/file").touch()
    os.chown(bundle.path / "source/file", 7, 8)
    bundle.mount("/data", "bind", "source", "rbind", option, uidMappings=IDS, gidMappings=IDS)
    seen = bundle.does("stat", "/data/file").report()["stat /data/file"]
    assert seen.split()[2] == "200007:200008"


def test_idmap_of_the_containers_own(bundle: Bundle) -> None:
    """config.md, Linux mount options, idmap: without mappings, the user namespace's MAY be used."""
    needs_id_maps(bundle.path)
    (bundle.path / "source").mkdir()
    (bundle.path / "source/file").touch()
    bundle.user_namespace()
    os.chown(bundle.path / "source/file", 7, 8)
    bundle.mount("/data", "bind", "source", "bind", "idmap")
    assert bundle.does("stat", "/data/file").report()["stat /data/file"].split()[2] == "7:8"


def test_idmap_needs_a_mapping(bundle: Bundle) -> None:
    """config.md, Linux mount options, idmap: with no mapping at all an error MUST be returned."""
    (bundle.path / "source").mkdir()
    bundle.mount("/data", "bind", "source", "bind", "idmap").refused()


@pytest.mark.parametrize("kind", ["uidMappings", "gidMappings"])
def test_mappings_come_in_pairs(bundle: Bundle, kind: str) -> None:
    """config.md, POSIX-platform Mounts: uidMappings MUST be specified along with gidMappings."""
    (bundle.path / "source").mkdir()
    bundle.mount("/data", "bind", "source", "bind", "idmap", **{kind: IDS}).refused()


@pytest.mark.parametrize(
    ("path", "kind"), [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")]
)
def test_default_file_systems(bundle: Bundle, path: str, kind: str) -> None:
    """config-linux.md, Default Filesystems."""
    words = mounts_on(bundle.report(), path)[-1]
    assert words[words.index("-") + 1] == kind
