"""Images that commit and import make, in the hands of skopeo, umoci, oci-image-tool and GNU tar: equal file by file."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.asyncrt.engine.test_contents import base as base
from tests.asyncrt.engine.test_contents import based as based
from tests.asyncrt.engine.test_contents import run
from tests.engine import Engine

NEEDED = ("skopeo", "umoci", "tar")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in NEEDED), reason=f"needs {', '.join(NEEDED)}"),
]

# All that a layer can say: kinds, owners, modes, times, links, holes, names that tars find hard, what is taken away.
CHANGES = """
mkdir -p /t/dir /t/opaque; cd /t
echo data > file; chmod 6755 file; chown 1234:56 file
touch -d @1000000000 file; ln file hard; ln -s /nowhere soft; mkfifo pipe; mknod device c 1 3; mknod disk b 7 200
touch "$(printf 'new\\nline')" "$(printf '\\377bytes')" 'trailing '
n=$(printf '%0120d' 7); mkdir -p $n/$n; echo long > $n/$n/$n
dd if=/dev/zero of=sparse bs=1 count=1 seek=8388607 2>/dev/null
chmod 1777 dir; rm -r /home; mkdir /home; echo x > /home/only; rm /etc/group
chown 65534:65534 /srv 2>/dev/null || mkdir -m 700 /srv
"""


def told(top: Path) -> dict[bytes, tuple[Any, ...]]:
    """What there is to tell of each file; hardlinks by the least of their names."""
    found: dict[bytes, tuple[Any, ...]] = {}
    inodes: dict[int, bytes] = {}
    for above, directories, files in os.walk(os.fsencode(top)):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(above, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            what: Any = b""
            if kind == stat.S_IFREG:
                what = (status.st_size, Path(os.fsdecode(path)).read_bytes()[:100_000])
            elif kind == stat.S_IFLNK:
                what = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                what = (os.major(status.st_rdev), os.minor(status.st_rdev))
            first = inodes.setdefault(status.st_ino, path[len(os.fsencode(top)) :]) if kind != stat.S_IFDIR else b""
            xattrs = {
                one: os.getxattr(path, one, follow_symlinks=False) for one in os.listxattr(path, follow_symlinks=False)
            }
            owners = (status.st_mode, status.st_uid, status.st_gid)
            found[path[len(os.fsencode(top)) :]] = (*owners, int(status.st_mtime), what, first, xattrs)
    return found


def did(*command: str | Path, **options: Any) -> bytes:
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, timeout=120, **options)
    assert done.returncode == 0, f"{command[0]}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def exported(engine: Engine, ref: str, target: Path) -> Path:
    """The container's tree, unpacked by GNU tar."""
    target.mkdir()
    tar = engine.raw("export", ref)
    assert tar.returncode == 0, tar.stderr
    did("tar", "-C", target, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", input=tar.stdout)
    return target


def test_what_commit_makes_others_unpack_alike(base: Engine, tmp_path: Path) -> None:
    id = run(base, CHANGES)
    words = ["-c", 'CMD ["echo", "committed"]', "-c", "ENV X=1", "-c", "VOLUME /v", "-c", "EXPOSE 80"]
    base.cli("commit", *words, id, "new:1", check=True)
    base.cli("save", "-o", tmp_path / "new.tar", "new:1", check=True)
    layout = tmp_path / "layout"
    did("skopeo", "--insecure-policy", "copy", f"docker-archive:{tmp_path}/new.tar", f"oci:{layout}:new")
    did("umoci", "unpack", "--image", f"{layout}:new", tmp_path / "bundle")
    if shutil.which("oci-image-tool"):
        direct = tmp_path / "direct"
        direct.mkdir()
        did("tar", "-C", direct, "-xf", tmp_path / "new.tar")
        did("oci-image-tool", "validate", "--type", "image", "--ref", "name=1", direct)
    ours, theirs = told(exported(base, id, tmp_path / "ours")), told(tmp_path / "bundle/rootfs")
    assert ours.keys() == theirs.keys()
    implicit = b"/data"  # no layer of the image describes it: each who unpacks gives it a time
    assert [path for path in ours if ours[path] != theirs[path] and path != implicit] == []
    assert ours[b"/t/file"][4] == (5, b"data\n")
    assert ours[b"/t/hard"][5] == b"/t/file"
    assert b"/home/app" not in ours


def test_what_others_pack_we_import_alike(base: Engine, tmp_path: Path) -> None:
    id = run(base, CHANGES)
    before = exported(base, id, tmp_path / "before")
    os.setxattr(before / "t/file", "user.mark", b"kept")
    os.setxattr(before / "t/dir", "user.mark", b"kept")
    packed = tmp_path / "packed.tar.zst"
    flags = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=pax", "--zstd", "--sparse"]
    tool = flags if shutil.which("zstd") else [flag for flag in flags if flag != "--zstd"]
    did("tar", "-C", before, *tool, "-cf", packed, ".")
    base.cli("import", packed, "new:1", check=True)
    made = base.cli("create", "new:1", "true", check=True).stdout.strip()
    after = exported(base, made, tmp_path / "after")
    one, other = told(before), told(after)
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == []


def test_what_cp_moves_is_alike(base: Engine, tmp_path: Path) -> None:
    """Out of a container that ended, into one that runs, out again."""
    first = run(base, CHANGES)
    base.cli("cp", "-a", f"{first}:/t", tmp_path / "one", check=True)
    os.setxattr(tmp_path / "one/file", "user.mark", b"kept")
    second = base.cli("run", "-d", "base:1", "sleep", "600", check=True).stdout.strip()
    base.cli("cp", "-a", tmp_path / "one", f"{second}:/here", check=True)
    base.cli("cp", "-a", f"{second}:/here", tmp_path / "two", check=True)
    assert told(tmp_path / "one") == told(tmp_path / "two")
