"""cp both ways under a whole engine: running and stopped; docker's rules; containers that mean harm."""

import io
import os
import subprocess
import tarfile  # noqa: TID251 - to make one
import threading
from pathlib import Path

import pytest

from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

SETUP = "mkdir -p /d/sub; echo one > /d/file; echo two > /d/sub/two; ln -s d /link; ln -s /etc/passwd /lp; echo f > /f"


@pytest.fixture(params=["running", "stopped"])
def box(request: pytest.FixtureRequest, shared: Engine, image: str) -> Engine:
    """A container `box`, which has /d/file, /d/sub/two, /link -> d, /f."""
    end = "; echo ready; sleep 600" if request.param == "running" else ""
    shared.cli("run", "-d", "--name", "box", image, "sh", "-c", SETUP + end, check=True)
    if request.param == "running":
        until(lambda: shared.cli("logs", "box").stdout, "it is ready")
    else:
        shared.cli("wait", "box", check=True)
    return shared


def listing(engine: Engine, path: str) -> list[str]:
    """What `cp` gives of a path as a tar."""
    done = engine.raw("cp", f"box:{path}", "-")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return sorted(tar.getnames())


def content(engine: Engine, path: str) -> bytes:
    done = engine.raw("cp", f"box:{path}", "-")
    assert done.returncode == 0, done.stderr
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        return file.read()


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [
        ("/f", "here", ["here"]),
        ("/f", "here/", "no such directory"),
        ("/f", "old", ["old"]),
        ("/f", "dir", ["dir/f"]),
        ("/f", "nodir/x", "no such file or directory"),
        ("/f/", "x", "no directory"),
        ("/d", "new", ["new", "new/file", "new/sub", "new/sub/two"]),
        ("/d", "dir", ["dir/d", "dir/d/file", "dir/d/sub", "dir/d/sub/two"]),
        ("/d/.", "dir", ["dir/file", "dir/sub", "dir/sub/two"]),
        ("/d/.", "new", ["new", "new/file", "new/sub", "new/sub/two"]),
        ("/d", "old", "cannot be put in a file's place"),
        ("/link", "x", ["x"]),
        ("/link/", "x", ["x", "x/file", "x/sub", "x/sub/two"]),
        ("/nope", "x", "no such file or directory"),
        ("/f/x", "y", "no directory"),
        ("", "x", "the path is empty"),
    ],
)
def test_out_of_it(box: Engine, tmp_path: Path, source: str, target: str, made: list[str] | str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "old").write_text("old")
    before = names(tmp_path)
    done = box.cli("cp", f"box:{source}", f"{tmp_path}/{target}")
    if isinstance(made, str):
        assert done.returncode == 1
        assert made in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert names(tmp_path) == before
    else:
        assert done.returncode == 0, done.stderr
        assert sorted(set(names(tmp_path)) - set(before) | ({"old"} if target == "old" else set())) == made


def names(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*"))


@pytest.mark.parametrize(
    ("source", "target", "where", "made"),
    [
        ("f", "/new", "/new", ["new"]),
        ("f", "/new/", "", "no such directory"),
        ("f", "/d", "/d/f", ["f"]),
        ("f", "/d/", "/d/f", ["f"]),
        ("f", "/link", "/d/f", ["f"]),
        ("f", "/d/file", "/d/file", ["file"]),
        ("f", "/nodir/x", "", "no such file or directory"),
        ("dir", "/new", "/new", ["new", "new/in"]),
        ("dir", "/d", "/d/dir", ["dir", "dir/in"]),
        ("dir/.", "/d/sub", "/d/sub", ["sub", "sub/in", "sub/two"]),
        ("dir/.", "/new", "/new", ["new", "new/in"]),
        ("dir", "/f", "", "cannot be put in a file's place"),
        ("dir", "/d/file", "", "cannot be put in a file's place"),
        ("nope", "/x", "", "no such file or directory"),
        ("f/", "/x", "", "no directory"),
        ("f", "relative", "/relative", ["relative"]),
    ],
)
def test_into_it(box: Engine, tmp_path: Path, source: str, target: str, where: str, made: list[str] | str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/in").write_text("in")
    (tmp_path / "f").write_text("mine")
    done = box.cli("cp", f"{tmp_path}/{source}", f"box:{target}")
    if isinstance(made, str):
        assert done.returncode == 1
        assert made in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 0, done.stderr
        assert listing(box, where) == made


def test_owners_modes_and_symlinks(box: Engine, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("x")
    os.chown(file, 1234, 56)
    file.chmod(0o4750)  # behind it: chown(2) clears the bit
    os.utime(file, ns=(1, 10**18 + 5))
    (tmp_path / "ln").symlink_to("f")
    (tmp_path / "dangling").symlink_to("nowhere")
    box.cli("cp", file, "box:/rooted", check=True)
    box.cli("cp", "-a", file, "box:/kept", check=True)
    box.cli("cp", tmp_path / "ln", "box:/symlink", check=True)
    box.cli("cp", "-L", tmp_path / "ln", "box:/followed", check=True)
    box.cli("cp", tmp_path / "dangling", "box:/dangling", check=True)
    assert box.cli("cp", "-L", tmp_path / "dangling", "box:/x").returncode == 1
    out = tmp_path / "out"
    out.mkdir()
    for name in ("rooted", "kept", "symlink", "followed"):
        box.cli("cp", "-a", f"box:/{name}", out, check=True)
    status = (out / "kept").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777, status.st_mtime_ns) == (1234, 56, 0o4750, 10**18 + 5)
    assert (out / "rooted").stat().st_uid == 0
    assert os.readlink(out / "symlink") == "f"
    assert (out / "followed").read_text() == "x"
    box.cli("cp", "box:/kept", out / "mine", check=True)
    assert (out / "mine").stat().st_uid == 0


def test_tars(box: Engine, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in (("a/b", b"deep"), ("f", b"over")):
            member = tarfile.TarInfo(name)
            member.size, member.uid = len(data), 77
            tar.addfile(member, io.BytesIO(data))
    done = box.raw("cp", "-", "box:/d", input=out.getvalue())
    assert done.returncode == 0, done.stderr
    assert listing(box, "/d") == ["d", "d/a", "d/a/b", "d/f", "d/file", "d/sub", "d/sub/two"]
    assert content(box, "/d/f") == b"over"
    for target, said in (("/f", "needs a directory"), ("/nope", "no such file")):
        refused = box.raw("cp", "-", f"box:{target}", input=out.getvalue())
        assert refused.returncode == 1
        assert said in refused.stderr.decode()
    refused = box.raw("cp", "-", "box:/d", input=b"no tar" * 300)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b"], "none of the two"),
        (["box:/a", "other:/b"], "both are containers'"),
        (["nobody:/x", "/tmp"], "no such container"),
        (["-", "-"], "none of the two"),
        (["box:/f"], "too few words"),
    ],
)
def test_words_that_make_no_sense(box: Engine, words: list[str], said: str) -> None:
    refused = box.cli("cp", *words)
    assert refused.returncode == 1
    assert said in refused.stderr


def test_binds_are_seen(shared: Engine, image: str, tmp_path: Path) -> None:
    for name, state in (("runs", ["sleep", "600"]), ("ends", ["true"])):
        volume = tmp_path / name
        volume.mkdir()
        (volume / "x").write_text(name)
        shared.cli("run", "-d", "--name", name, "-v", f"{volume}:/vol", image, *state, check=True)
        if name == "ends":
            shared.cli("wait", name, check=True)
        shared.cli("cp", f"{name}:/vol/x", tmp_path / f"{name}-out", check=True)
        assert (tmp_path / f"{name}-out").read_text() == name
        shared.cli("cp", tmp_path / f"{name}-out", f"{name}:/vol/y", check=True)
        assert (volume / "y").read_text() == name


def test_the_kernel_s_own_trees_are_not_copied_with_all(shared: Engine, image: str) -> None:
    shared.cli("run", "-d", "--name", "box", image, "sleep", "600", check=True)
    found = listing(shared, "/")
    assert "bin/busybox" in found or "bin/sh" in found
    assert "proc" in found
    assert not [name for name in found if name.startswith(("proc/", "sys/"))]


def test_read_only_roots(shared: Engine, image: str, tmp_path: Path) -> None:
    shared.cli("run", "-d", "--name", "box", "--read-only", image, "sleep", "600", check=True)
    (tmp_path / "f").write_text("x")
    refused = shared.cli("cp", tmp_path / "f", "box:/f")
    assert refused.returncode == 1
    assert "read-only" in refused.stderr


def test_symlinks_of_the_container_stay_in_it(shared: Engine, image: str, tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2026-103916: absolute, climbing, through /proc; into it and out of it."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("the machine's")
    links = f"ln -s {secret} /abs; ln -s ../../../../../../..{secret} /up; ln -s /proc/1/root{secret} /magic"
    shared.cli("run", "-d", "--name", "box", image, "sh", "-c", f"{links}; echo; sleep 600", check=True)
    until(lambda: shared.cli("logs", "box").stdout, "it is ready")
    (tmp_path / "f").write_text("planted")
    for name in ("abs", "up", "magic"):
        assert shared.cli("cp", f"box:/{name}/key", tmp_path / "got").returncode == 1
        assert shared.cli("cp", "-L", f"box:/{name}", tmp_path / "got").returncode == 1
        shared.cli("cp", tmp_path / "f", f"box:/{name}/planted")
        shared.cli("cp", tmp_path / "f", f"box:/{name}")
    assert shared.cli("cp", f"box:/proc/1/root{secret}/key", tmp_path / "got").returncode == 1
    assert os.listdir(secret) == ["key"]
    assert not (tmp_path / "got").exists()
    # A symlink where the copy is to go, on the machine: the user's own, and only as its last part.
    hostile = "mkdir -p /h/real; ln -s /nowhere /h/real/planted"
    shared.cli("exec", "box", "sh", "-c", hostile, check=True)
    shared.cli("cp", "box:/h", tmp_path / "h", check=True)
    assert os.path.islink(tmp_path / "h/real/planted")
    shared.cli("exec", "box", "sh", "-c", "rm /h/real/planted; echo x > /h/real/planted", check=True)
    (tmp_path / "h/real/planted").unlink()
    (tmp_path / "h/real/planted").symlink_to(secret / "key")
    shared.cli("cp", "box:/h/.", tmp_path / "h", check=True)
    assert (secret / "key").read_text() == "the machine's"
    assert (tmp_path / "h/real/planted").read_text() == "x\n"


def test_a_start_waits_for_a_copy(shared: Engine, image: str, tmp_path: Path) -> None:
    """Two overlays on one upper directory are undefined: the second comes after the first."""
    shared.cli("run", "--name", "box", image, "true", check=True)
    read_end, write_end = os.pipe()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    copy = shared.popen("cp", "-", "box:/tmp", stdin=read_end, **quiet)
    os.close(read_end)
    out = os.fdopen(write_end, "wb")
    with tarfile.open(fileobj=out, mode="w|") as tar:
        member = tarfile.TarInfo("slow")
        member.size = 1 << 20
        tar.addfile(member, io.BytesIO(bytes(1 << 20)))
        out.flush()
        done: list[int] = []
        thread = threading.Thread(target=lambda: done.append(shared.cli("start", "box").returncode))
        thread.start()
        with pytest.raises(subprocess.TimeoutExpired):
            copy.wait(0.5)
        assert not done
    out.close()
    assert copy.wait(30) == 0
    thread.join(30)
    assert done == [0]


def test_a_caller_who_leaves(shared: Engine, image: str) -> None:
    """Its stdin stays open behind it, so nothing but its leaving can end the copy."""
    shared.cli("run", "-d", "--name", "box", image, "sleep", "600", check=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    copy = shared.popen("cp", "-", "box:/tmp", stdin=subprocess.PIPE, **quiet)
    assert copy.stdin is not None
    for name, size in (("whole", 1 << 20), ("half", 1000)):
        member = tarfile.TarInfo(name)
        member.size = 1 << 20
        copy.stdin.write(member.tobuf() + bytes(size))
    copy.stdin.flush()
    until(lambda: "tmp/whole" in listing(shared, "/tmp"), "the first is there")
    copy.kill()
    copy.wait(30)
    until(lambda: not open_pipes(shared), "the supervisor let go of it")
    copy.stdin.close()
    assert listing(shared, "/tmp") == ["tmp", "tmp/whole"], "what is not whole has no name"


def open_pipes(engine: Engine) -> list[str]:
    """The pipes that others' ends of the supervisor's are: what a copy left open."""
    fds = Path(f"/proc/{engine.supervisor_pid()}/fd")
    mine = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if os.path.islink(path)}
    return [link for path in fds.iterdir() if (link := readlink(path)).startswith("pipe:") and link in mine]


def readlink(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
