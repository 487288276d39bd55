"""A root file system for tests, made of a static busybox, or else of copies of the machine's own programs.

Besides the programs it holds the small traps that an engine meets: a file that is no program, a program that
is not executable, a script whose interpreter is missing, a user `app`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = (
    *("sh", "sleep", "cat", "echo", "true", "false", "id", "env", "ls", "head", "tail", "dd", "yes", "mkdir"),
    *("rmdir", "rm", "ps", "touch", "wc", "seq", "hostname", "test", "[", "pwd", "kill", "grep", "mount"),
    *(
        "printf",
        "stat",
        "readlink",
        "nproc",
        "uname",
        "date",
        "tr",
        "sort",
        "mkfifo",
        "ln",
        "cp",
        "mv",
        "chmod",
    ),
)
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = """\
root:x:0:
staff:x:50:app
app:x:1000:
nogroup:x:65534:
"""


def build(dest: Path) -> Path:
    """Fills the empty or missing directory `dest`; gives it back."""
    for name in ("bin", "proc", "sys", "dev", "etc", "root", "run", "var"):
        (dest / name).mkdir(parents=True)
    (dest / "tmp").mkdir()
    (dest / "tmp").chmod(0o1777)
    (dest / "home/app").mkdir(parents=True)
    os.chown(dest / "home/app", 1000, 1000)
    (dest / "etc/passwd").write_text(PASSWD)
    (dest / "etc/group").write_text(GROUP)
    (dest / "etc/hostname").write_text("image\n")
    busybox = _static_busybox()
    if busybox:
        _install_busybox(busybox, dest)
    else:
        _copy_programs(PROGRAMS, dest)
    (dest / "usr").mkdir()
    (dest / "usr/bin").symlink_to("../bin")
    _write(dest / "bin/notexec", "#!/bin/sh\necho never\n", 0o644)
    _write(dest / "bin/nointerp", "#!/bin/no-such-interpreter\necho never\n", 0o755)
    _write(dest / "bin/noshebang", "echo never\n", 0o755)
    _write(dest / "bin/garbage", "\x7fELF but not really\n", 0o755)
    return dest


def _write(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def has_busybox() -> bool:
    """Is the root made of busybox, whose words and programs some tests need?"""
    return _static_busybox() is not None


def _static_busybox() -> str | None:
    for place in ("/bin/busybox", shutil.which("busybox")):
        if place and os.path.exists(place) and not _libraries(place):
            return place
    return None


def _install_busybox(busybox: str, dest: Path) -> None:
    shutil.copy(busybox, dest / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (dest / "bin" / applet).symlink_to("busybox")


def _copy_programs(names: Iterable[str], dest: Path) -> None:
    """Copies programs and the shared libraries that they load. A small machine lacks some (ps): left out."""
    libraries: set[str] = set()
    for name in names:
        # Never from PATH: that may hold a shim, a script that needs half a home directory.
        source = next(
            (f"{folder}/{name}" for folder in ("/usr/bin", "/bin") if os.access(f"{folder}/{name}", os.X_OK)),
            None,
        )
        if source is None:
            continue
        shutil.copy(os.path.realpath(source), dest / "bin" / name)
        libraries.update(_libraries(source))
    for library in libraries:
        target = dest / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), target)


def _libraries(program: str) -> list[str]:
    """The absolute paths that ldd names, the loader too; none for a static program."""
    done = subprocess.run(["ldd", program], check=False, capture_output=True, text=True)
    return [word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")]
