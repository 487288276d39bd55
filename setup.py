"""What pyproject.toml cannot say: `asyncrt-oci` is a program in C where that can be built, else the Python command.

The Python command is installed in either case as `asyncrt-oci-reference`: the front leaves to it what is unusual
(docs/decisions/0015-the-front-and-its-planner.md).
"""

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import setup

# isort: split
# Only now: setuptools brings the distutils that Python 3.12 has no more.
from distutils.command.build_scripts import build_scripts

COMMAND = "asyncrt-oci"
REFERENCE = "asyncrt-oci-reference"
SOURCES = [*sorted(map(str, Path("shimd/command/front").glob("*.c"))), "shimd/linux/script.c"]
FLAGS = (
    "-O2 -Wall -Wextra -ffreestanding -fno-stack-protector -U_FORTIFY_SOURCE -fcf-protection=none -fno-pie "
    "-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns "
    "-static -nostdlib -no-pie -s -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,noexecstack"
)


class Scripts(build_scripts):
    """The scripts as they are, a second name for the Python command, and the front over the first one."""

    def copy_scripts(self) -> tuple[list[str], list[str]]:
        outfiles, updated = super().copy_scripts()
        command, reference = (Path(self.build_dir, name) for name in (COMMAND, REFERENCE))
        shutil.copy2(command, reference)
        self.build_front(command)
        return [*outfiles, str(reference)], [*updated, str(reference)]

    def build_front(self, path: Path) -> None:
        """Where it cannot be built, the Python command stays what it is."""
        if platform.machine() != "x86_64":
            return
        compiler = shlex.split(os.environ.get("CC", "cc"))
        half = path.with_suffix(".new")
        try:
            subprocess.run([*compiler, *FLAGS.split(), "-o", half, *SOURCES], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.warn(f"the front is not built, and asyncrt-oci is the Python command: {error}")
            return
        half.replace(path)


setup(cmdclass={"build_scripts": Scripts})
