"""A certificate authority and a server's certificate for loopback, made with openssl(1)."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Authority:
    """ca.crt and, signed by it, server.crt with server.key; token.key and token.crt sign tokens."""

    def __init__(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.ca, self.certificate, self.key = (place / name for name in ("ca.crt", "server.crt", "server.key"))
        self._run("req", "-x509", *_NEW, "ca.key", "-out", "ca.crt", "-subj", "/CN=authority", "-days", "2")
        self._run("req", *_NEW, "server.key", "-out", "server.csr", "-subj", "/CN=loopback")
        (place / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions"]
        self._run("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signed)

    def _run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.place, check=True, capture_output=True)

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def trusted_by(self, directory: Path, host: str) -> str:
        """A directory of certificates in which `host` has this authority; its name."""
        (directory / host).mkdir(parents=True, exist_ok=True)
        (directory / host / "ca.crt").write_bytes(self.ca.read_bytes())
        return str(directory)


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")
