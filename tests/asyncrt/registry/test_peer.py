"""Against docker-registry: what we send is taken, what it has is read, with each way of saying who we are."""

import base64
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from asyncrt.errors import NoSuchObject, RegistryFailed
from asyncrt.images import documents
from asyncrt.images.documents import Index, Manifest
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.registry import listing, uploads
from asyncrt.registry.client import Client, Repository, open_client
from asyncrt.registry.credentials import Credentials
from asyncrt.registry.endpoints import HostSettings, Settings
from tests.asyncrt.registry.certificates import Authority, needs_openssl
from tests.asyncrt.registry.peer import Registry, needs_registry, serving
from tests.asyncrt.registry.server import QUICK
from tests.asyncrt.registry.server import serving as talking
from tests.asyncrt.registry.token_server import BASIC, ISSUER, SERVICE, TokenServer

pytestmark = needs_registry

CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read_at(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with serving(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@asynccontextmanager
async def client_of(registry: Registry, config: dict[str, object] | None = None, **more: str) -> AsyncIterator[Client]:
    place = Path(registry._config.parent)
    (place / "config.json").write_text(json.dumps(config or {}))
    hosts = {} if more else {registry.host: HostSettings(insecure=True)}
    async with open_client(Settings(hosts, **more), Credentials(place / "config.json"), QUICK) as client:
        yield client


async def push_blob(repository: Repository, data: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    descriptor = describe(data, media_type)
    await uploads.push(repository, descriptor, Bytes(data))
    return descriptor


async def push_manifest(repository: Repository, tag: str, **more: object) -> Descriptor:
    config = await push_blob(repository, CONFIG, media_types.OCI_CONFIG)
    data = documents.encode(Manifest(2, config, (), media_types.OCI_MANIFEST, **more))  # type: ignore[arg-type]
    await repository.put_manifest(data, media_types.OCI_MANIFEST, tag)
    return describe(data, media_types.OCI_MANIFEST)


async def fetched(repository: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    found = bytearray()

    async def write(chunk: bytes) -> None:
        found.extend(chunk)

    await repository.blob(descriptor, write, offset)
    return bytes(found)


@pytest.mark.parametrize("size", [0, 1, 1000, uploads.WHOLE_BYTES, uploads.WHOLE_BYTES + 1, 20_000_000])
async def test_blobs_go_and_come_back(plain: Registry, size: int) -> None:
    data = os.urandom(size)
    async with client_of(plain) as client:
        repository = client.repository(plain.host, "blobs/deep/path")
        descriptor = describe(data, "application/octet-stream")
        assert await repository.has(descriptor.digest) is None
        told: list[int] = []
        await uploads.push(repository, descriptor, Bytes(data), told.append, chunk_bytes=6_000_000)
        assert told[-1] == size
        assert await repository.has(descriptor.digest) == size
        assert await fetched(repository, descriptor) == data
        assert await fetched(repository, descriptor, size // 2) == data[size // 2 :]


async def test_another_blob_than_its_digest_says_is_refused_by_the_registry(plain: Registry) -> None:
    async with client_of(plain) as client:
        repository = client.repository(plain.host, "wrong")
        with pytest.raises(RegistryFailed, match="digest_invalid"):
            await uploads.push(repository, describe(b"one", "x"), Bytes(b"two"))
        with pytest.raises(RegistryFailed, match="its file ends after 2 of 3 bytes"):
            await uploads.push(repository, describe(b"one", "x"), Bytes(b"on"))


async def test_a_blob_is_mounted_from_beside(plain: Registry) -> None:
    async with client_of(plain) as client:
        there, here = client.repository(plain.host, "from"), client.repository(plain.host, "to")
        blob = await push_blob(there, b"shared")
        assert await uploads.mount(here, blob.digest, "from")
        assert await here.has(blob.digest) == 6
        assert not await uploads.mount(here, describe(b"nowhere", "x").digest, "from")


async def test_manifests_tags_and_what_is_not_there(plain: Registry) -> None:
    async with client_of(plain) as client:
        repository = client.repository(plain.host, "images")
        with pytest.raises(NoSuchObject, match=r"list tags 127.*/images: the registry has none: name_unknown"):
            await listing.tags(repository)
        pushed = await push_manifest(repository, "v1")
        await push_manifest(repository, "v2")
        assert sorted(await listing.tags(repository)) == ["v1", "v2"]
        assert await repository.resolve("v1") == await repository.resolve(pushed.digest) == pushed
        found = await repository.manifest("v1")
        assert found.descriptor == pushed
        with pytest.raises(
            NoSuchObject, match=r"pull manifest 127.*/images:v3: the registry has none: manifest_unknown"
        ):
            await repository.manifest("v3")
        await repository.delete(pushed.digest)
        with pytest.raises(NoSuchObject):
            await repository.manifest(pushed.digest)


async def test_referrers_of_a_registry_without_that_api(plain: Registry) -> None:
    async with client_of(plain) as client:
        repository = client.repository(plain.host, "referred")
        subject = await push_manifest(repository, "subject")
        assert await listing.referrers(repository, subject.digest) == []
        signature = await push_manifest(repository, "signature", artifact_type="a/b", subject=subject)
        entry = msgspec.structs.replace(signature, artifact_type="a/b")
        index = documents.encode(Index(2, (entry,), media_types.OCI_INDEX))
        await repository.put_manifest(index, media_types.OCI_INDEX, listing.fallback_tag(subject.digest))
        assert await listing.referrers(repository, subject.digest) == [entry]
        assert await listing.referrers(repository, subject.digest, "a/b") == [entry]
        assert await listing.referrers(repository, subject.digest, "c/d") == []


@pytest.mark.skipif(shutil.which("htpasswd") is None, reason="needs htpasswd (apache2-utils)")
async def test_basic_passwords(tmp_path: Path) -> None:
    await trio.run_process(["htpasswd", "-Bbc", str(tmp_path / "users"), "user", "secret"], capture_stderr=True)
    auth = {"auth": {"htpasswd": {"realm": "tests", "path": str(tmp_path / "users")}}}
    with serving(tmp_path, auth) as registry:
        async with client_of(registry) as client:
            with pytest.raises(RegistryFailed, match=rf"access denied: .*\(asyncrt login {registry.host}\)"):
                await client.check(registry.host)
        entry = {"auth": base64.b64encode(b"user:secret").decode()}
        async with client_of(registry, {"auths": {registry.host: entry}}) as client:
            await client.check(registry.host)
            repository = client.repository(registry.host, "a")
            await push_manifest(repository, "v1")
            assert await listing.tags(repository) == ["v1"]
        entry = {"auth": base64.b64encode(b"user:wrong").decode()}
        async with client_of(registry, {"auths": {registry.host: entry}}) as client:
            with pytest.raises(RegistryFailed, match="access denied"):
                await client.check(registry.host)


@needs_openssl
async def test_tokens(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    tokens = TokenServer(tmp_path, authority.certificate, authority.key)
    async with talking(tokens) as server:
        realm = {"realm": f"{server.url}/token", "service": SERVICE, "issuer": ISSUER}
        auth = {"auth": {"token": realm | {"rootcertbundle": str(authority.ca)}}}
        with serving(tmp_path / "registry", auth) as registry:
            entry: dict[str, str] = {"auth": BASIC.partition(" ")[2]}
            async with client_of(registry, {"auths": {registry.host: entry}}) as client:
                await client.check(registry.host)
                public, private = (client.repository(registry.host, name) for name in ("public/a", "private/a"))
                for repository in (public, private):
                    await push_manifest(repository, "v1")
                blob = await push_blob(public, b"shared")
                assert await uploads.mount(private, blob.digest, "public/a")
                assert ["repository:private/a:pull,push", "repository:public/a:pull"] in tokens.given
                before = len(tokens.given)
                for _ in range(5):
                    await push_blob(public, os.urandom(100))
                assert len(tokens.given) == before  # one token did for all
            async with client_of(registry) as client:  # nobody in particular
                assert await listing.tags(client.repository(registry.host, "public/a")) == ["v1"]
                with pytest.raises(RegistryFailed, match="access denied"):
                    await client.repository(registry.host, "private/a").manifest("v1")
                with pytest.raises(RegistryFailed, match="access denied"):
                    await push_blob(client.repository(registry.host, "public/a"), b"x")
            async with client_of(registry, {"auths": {registry.host: {"identitytoken": "identity"}}}) as client:
                await client.repository(registry.host, "private/a").manifest("v1")
                assert server.calls[-1].method == "POST"
                assert b"grant_type=refresh_token" in server.calls[-1].body
            entry = {"auth": base64.b64encode(b"user:wrong").decode()}
            async with client_of(registry, {"auths": {registry.host: entry}}) as client:
                with pytest.raises(RegistryFailed, match=r"authenticate at .*wrong password"):
                    await client.check(registry.host)


@needs_openssl
async def test_a_token_that_ends_is_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    tokens = TokenServer(tmp_path, authority.certificate, authority.key, seconds=0)
    async with talking(tokens) as server:
        realm = {"realm": f"{server.url}/token", "service": SERVICE, "issuer": ISSUER}
        auth = {"auth": {"token": realm | {"rootcertbundle": str(authority.ca)}}}
        with serving(tmp_path / "registry", auth) as registry:
            entry = {"auth": BASIC.partition(" ")[2]}
            async with client_of(registry, {"auths": {registry.host: entry}}) as client:
                repository = client.repository(registry.host, "private/a")
                for _ in range(3):  # the registry allows a minute of leeway: what is counted is that each asks anew
                    await push_blob(repository, os.urandom(10))
                assert len(tokens.given) >= 3


@needs_openssl
async def test_tls_and_its_errors(tmp_path: Path, plain: Registry) -> None:
    authority = Authority(tmp_path / "ca")
    tls = {"tls": {"certificate": str(authority.certificate), "key": str(authority.key)}}
    with serving(tmp_path / "registry", http=tls) as registry:
        trusted = authority.trusted_by(tmp_path / "certs.d", registry.host)
        async with client_of(registry, certificates=trusted) as client:
            await push_manifest(client.repository(registry.host, "a"), "v1")
            data = os.urandom(10_000_000)
            assert (
                await fetched(
                    client.repository(registry.host, "a"), await push_blob(client.repository(registry.host, "a"), data)
                )
                == data
            )
        async with client_of(registry, certificates="/nowhere") as client:
            hint = f"put the certificate of its CA into /nowhere/{registry.host}/ca.crt"
            with pytest.raises(
                RegistryFailed, match=rf"the certificate of {registry.host} is not trusted: .*\({hint}\)"
            ):
                await client.check(registry.host)
        async with client_of(registry) as client:  # insecure: TLS with nobody's word
            await client.check(registry.host)
    async with client_of(plain, certificates="/nowhere") as client:
        wanted = rf"{plain.host} answers in plain http, not https \(if that is meant: ASYNCRT_INSECURE_REGISTRIES="
        with pytest.raises(RegistryFailed, match=wanted):
            await client.check(plain.host)
