"""A terminal with somebody before it: tmux (1), keys in and the screen out.

with Tmux(engine.base, engine.env) as screen:
    screen.type("asyncrt run -it host: sh\\n")
    screen.shows("# ")
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import until

PROMPT = "READY:"


class Tmux:
    """A session of its own server, on a socket below `base`: a shell whose prompt is PROMPT."""

    def __init__(self, base: Path, env: dict[str, str], columns: int = 100, rows: int = 30) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("needs tmux")
        self._socket = base / "tmux.sock"
        self._base = base
        bin = base / "bin"
        bin.mkdir(exist_ok=True)
        (bin / "asyncrt").write_text(f'#!/bin/sh\nexec {sys.executable} -m asyncrt "$@"\n')
        (bin / "asyncrt").chmod(0o755)
        kept = {name: value for name, value in env.items() if name.startswith(("ASYNCRT_", "PYTHON", "TMPDIR"))}
        self._env = {**kept, "PATH": f"{bin}:{env['PATH']}", "PS1": PROMPT, "TERM": "xterm", "HOME": str(base)}
        self._size = (str(columns), str(rows))

    def __enter__(self) -> "Tmux":
        words = ["env", "-i", *(f"{name}={value}" for name, value in self._env.items()), "sh", "-i"]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", self._size[0], "-y", self._size[1], *words)
        self.shows(PROMPT)
        return self

    def __exit__(self, *_: object) -> None:
        pid = self._tmux("display-message", "-p", "#{pid}").strip()
        self._tmux("kill-server")
        until(lambda: not Path(f"/proc/{pid}").exists(), "tmux is gone")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), *words], capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout

    def type(self, text: str) -> None:
        """As typed; \\n is the Enter key."""
        for line in text.split("\n")[:-1]:
            self._tmux("send-keys", "-l", line)
            self._tmux("send-keys", "Enter")
        if rest := text.rpartition("\n")[2]:
            self._tmux("send-keys", "-l", rest)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: C-p, Escape, Enter."""
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-J").rstrip()

    def shows(self, text: str, seconds: float = 20.0) -> str:
        """The screen once it shows this; lines have no blanks at their ends."""
        last = ""

        def there() -> bool:
            nonlocal last
            last = self.screen()
            return text in last

        try:
            until(there, f"{text!r} on the screen", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows:\n{last}") from None
        return last

    def prompt(self) -> None:
        """The shell waits for the next command."""
        until(lambda: self.screen().endswith(PROMPT), "a prompt")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def clear(self) -> None:
        """An empty screen with a prompt."""
        self._tmux("send-keys", "-R")
        self.type("\n")
        self.prompt()

    def modes(self) -> str:
        """stty -a, but for the size; asked from outside, as a shell sets its own before each prompt."""
        tty = self._tmux("display-message", "-p", "#{pane_tty}").strip()
        shown = subprocess.run(["stty", "-F", tty, "-a"], capture_output=True, text=True, timeout=10, check=True)
        return shown.stdout.partition("\n")[2]

    def is_sane(self, before: str) -> None:
        """The modes are what they were, or will be at once: whoever mends them runs beside the shell."""
        until(lambda: self.modes() == before, "the terminal is as it was", 5)
