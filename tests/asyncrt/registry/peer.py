"""The real peer: docker-registry (Debian's package) on loopback, with passwords, tokens or TLS as a test wants them."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

PROGRAM = shutil.which("docker-registry") or shutil.which("registry")

needs_registry = pytest.mark.skipif(PROGRAM is None, reason="needs docker-registry (Debian's package of that name)")


def free_port() -> int:
    """A port below the range that outgoing connections get theirs from.

    A registry that is killed and started again wants its port back, which a connection could have taken meanwhile;
    one from that very port to itself even succeeds.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Registry:
    """One docker-registry; it can be killed and started again on the same port and files."""

    def __init__(self, place: Path, settings: dict[str, Any] | None = None, http: dict[str, Any] | None = None) -> None:
        assert PROGRAM
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._log = place / "registry.log"
        self._config = place / "config.yml"
        storage = {"filesystem": {"rootdirectory": str(place / "blobs")}, "delete": {"enabled": True}}
        document = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": storage,
            "http": {"addr": self.host, "secret": "of-the-tests", **(http or {})},
            **(settings or {}),
        }
        self._config.write_bytes(msgspec.json.encode(document))  # YAML takes JSON
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("REGISTRY_", "OTEL_"))}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAM), "serve", str(self._config)], stdout=log, stderr=log, env=environment
            )
        for _ in range(400):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.025)
        raise AssertionError("docker-registry does not listen")

    def kill(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None


@contextmanager
def serving(
    place: Path, settings: dict[str, Any] | None = None, http: dict[str, Any] | None = None
) -> Iterator[Registry]:
    place.mkdir(parents=True, exist_ok=True)
    registry = Registry(place, settings, http)
    registry.start()
    try:
        yield registry
    finally:
        registry.kill()
