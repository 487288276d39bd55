"""What --log and --log-format ask for: one line an entry, as runc's callers read them.

    text   time="2026-01-02T03:04:05Z" level=error msg="..."
    json   {"level": "error", "msg": "...", "time": "2026-01-02T03:04:05Z"}

An error goes to stderr too, in its own words: conmon and containerd's shim show that to people.
"""

import os
import time

from shimd.spec import text


class Journal:
    """`path` "" is stderr."""

    def __init__(self, path: str = "", form: str = "text", debug: bool = False) -> None:
        self.path = path
        self.form = form
        self.loud = debug

    def debug(self, words: str) -> None:
        if self.loud:
            self._put("debug", words)

    def warn(self, words: str) -> None:
        self._put("warning", words)

    def error(self, words: str) -> None:
        self._put("error", words)
        if self.path:
            _say(2, words)

    def _put(self, level: str, words: str) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            line = text.write({"level": level, "msg": words, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg={text.write(words)}'
        if not self.path:
            _say(2, line)
            return
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            _say(2, f"cannot open log {self.path}: {(error.strerror or '').lower()}")
            return
        try:
            _say(fd, line)
        finally:
            os.close(fd)


def _say(fd: int, line: str) -> None:
    try:
        os.write(fd, (line + "\n").encode(errors="surrogateescape"))
    except OSError:
        return  # a full disk or a closed stderr: there is no place left to say so
