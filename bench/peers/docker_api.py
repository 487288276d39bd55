"""docker through its HTTP API: what it costs without a client process for every container."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

from bench import image
from bench.peers.docker import Docker
from bench.process import BenchError, crowd


class DockerApi(Docker):
    name = "docker API"
    driven = "HTTP over its unix socket, a kept connection per thread: create, start; removal: DELETE with force"

    def start(self, count: int, deadline: float) -> None:
        self.live = self.names(count)
        api = _Api(self.socket, deadline)
        crowd(self.live, lambda name: self._create(api, name, image.SLEEP), self.site.parallel)

    def remove(self, deadline: float) -> None:
        api = _Api(self.socket, deadline)
        crowd(
            self.live,
            lambda name: _expect(api.ask("DELETE", f"/containers/{name}?force=1&v=1"), 204),
            self.site.parallel,
        )
        self.live = []

    def complete(self, count: int, deadline: float) -> None:
        api = _Api(self.socket, deadline)

        def one(name: str) -> None:
            self._create(api, name, image.TRUE)
            answer = api.ask("POST", f"/containers/{name}/wait")
            _expect(answer, 200)
            if json.loads(answer[1])["StatusCode"] != 0:
                raise BenchError(f"run {name}: {answer[1].decode(errors='replace')[:200]}")
            _expect(api.ask("DELETE", f"/containers/{name}?v=1"), 204)

        crowd(self.names(count), one, self.site.parallel)

    def _create(self, api: _Api, name: str, args: list[str]) -> None:
        body = {"Image": image.NAME, "Cmd": args, "HostConfig": {"NetworkMode": "none"}}
        _expect(api.ask("POST", f"/containers/create?name={name}", body), 201)
        _expect(api.ask("POST", f"/containers/{name}/start"), 204)


class _Api:
    """A connection per thread to dockerd's socket, all of one phase under one deadline."""

    def __init__(self, path: str, deadline: float) -> None:
        self._path, self._deadline = path, deadline
        self._local = threading.local()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request: status and body. Raises BenchError when the socket fails or the deadline passes."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise BenchError(f"{method} {path}: not done at the deadline")
        connection: _UnixConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _UnixConnection(self._path)
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(left)
        payload = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, payload, {"Content-Type": "application/json"} if payload else {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BenchError(f"{method} {path}: {type(error).__name__} {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def _expect(answer: tuple[int, bytes], status: int) -> None:
    if answer[0] != status:
        raise BenchError(f"docker API: {answer[0]} instead of {status}: {answer[1].decode(errors='replace')[:200]}")
