"""Which endpoints are asked, in which order, with whose credentials; mirrors, insecure hosts, challenges."""

import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import BadRequest, NoSuchObject, RegistryFailed
from asyncrt.model.descriptor import describe
from asyncrt.registry.challenges import Challenge, challenges
from asyncrt.registry.credentials import Credential, Credentials
from asyncrt.registry.endpoints import HostSettings, Settings, Trust, endpoints, tls_context, trust_of
from asyncrt.registry.tokens import merged
from tests.asyncrt.registry.server import Call, client_of, serving

DATA = b"x" * 100_000
BLOB = describe(DATA, "application/octet-stream")


def urls(host: str, settings: Settings, writing: bool = False) -> list[str]:
    return [f"{one.url} {one.namespace}".strip() for one in endpoints(host, settings, writing)]


def test_https_alone_unless_the_user_says_so() -> None:
    assert urls("x.y", Settings()) == ["https://x.y"]
    assert urls("localhost:5000", Settings()) == ["https://localhost:5000"]
    assert urls("docker.io", Settings()) == ["https://registry-1.docker.io"]
    assert urls("x.y", Settings({"x.y": HostSettings(insecure=True)})) == ["https://x.y", "http://x.y"]
    insecure = Settings({"x.y": HostSettings(insecure=True), "docker.io": HostSettings(insecure=True)})
    assert trust_of("x.y", Settings()).verify
    assert not trust_of("x.y", insecure).verify
    assert not trust_of("registry-1.docker.io", insecure).verify
    assert trust_of("storage.of.x.y", insecure).verify


def test_mirrors_are_asked_first_and_never_written_to() -> None:
    settings = Settings({"docker.io": HostSettings(mirrors=("https://m.y/proxy/", "n.y:5000"))})
    upstream = "https://registry-1.docker.io"
    assert urls("docker.io", settings) == ["https://m.y/proxy docker.io", "https://n.y:5000 docker.io", upstream]
    assert urls("docker.io", settings, writing=True) == [upstream]
    assert [one.host for one in endpoints("docker.io", settings)] == ["m.y", "n.y:5000", "docker.io"]


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "https://u:p@x.y", "https://x.y?a", "https://[::1", "https://x:0"]
)
def test_what_is_no_mirror_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="it is no URL of a registry"):
        endpoints("x.y", Settings({"x.y": HostSettings(mirrors=(url,))}))


def test_a_mirror_in_plain_http_has_to_be_allowed() -> None:
    hosts = {"x.y": HostSettings(mirrors=("http://m.y",))}
    with pytest.raises(BadRequest, match=r"it is plain http \(allow it: ASYNCRT_INSECURE_REGISTRIES=m.y\)"):
        endpoints("x.y", Settings(hosts))
    allowed = Settings(hosts | {"m.y": HostSettings(insecure=True)})
    assert urls("x.y", allowed) == ["http://m.y x.y", "https://x.y"]


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.y").mkdir()
    (tmp_path / "x.y" / "ca.crt").write_text("nonsense")
    trust = trust_of("x.y", Settings(certificates=str(tmp_path)))
    assert trust == Trust(str(tmp_path / "x.y" / "ca.crt"))
    assert trust_of("z.y", Settings(certificates=str(tmp_path))) == Trust()
    with pytest.raises(BadRequest, match=f"read certificates {tmp_path}/x.y/ca.crt"):
        tls_context(trust)
    assert tls_context(Trust(verify=False)).verify_mode is ssl.CERT_NONE
    assert tls_context(Trust()).check_hostname


class Users(Credentials):
    async def of(self, host: str, repository: str = "") -> Credential:
        return Credential(f"user of {host}", "secret")


async def test_a_mirror_that_fails_is_passed_over_and_gets_no_credentials_of_others() -> None:
    async def broken(call: Call) -> None:
        if "authorization" not in call.seen.headers:
            return await call.answer(401, {"WWW-Authenticate": "Basic"})
        await call.answer(404)

    async def good(call: Call) -> None:
        if "authorization" not in call.seen.headers:
            return await call.answer(401, {"WWW-Authenticate": "Basic"})
        await call.answer(200, {}, DATA)

    async with serving(broken) as mirror, serving(good) as server:
        mirrors = {server.host: (f"{mirror.url}/proxy",)}
        async with client_of(server, mirror, mirrors=mirrors, credentials=Users()) as client:
            repository = client.repository(server.host, "a")
            found = bytearray()

            async def write(chunk: bytes) -> None:
                found.extend(chunk)

            await repository.blob(BLOB, write)
            assert bytes(found) == DATA
        assert [seen.target for seen in mirror.calls] == [
            f"/proxy/v2/a/blobs/{BLOB.digest}?ns={quote(server.host)}"
        ] * 2
        sent = {server.host: server.calls[-1], mirror.host: mirror.calls[-1]}
        for host, seen in sent.items():
            assert seen.headers["authorization"] == Credential(f"user of {host}", "secret").basic
        assert "?" not in server.calls[-1].target


async def test_what_a_mirror_began_the_registry_ends() -> None:
    async def cutting(call: Call) -> None:
        await call.head(200, {"Content-Length": str(len(DATA))})
        await call.raw(DATA[:60_000])
        await call.cut()

    async def good(call: Call) -> None:
        await call.answer(200, {}, DATA)

    async with serving(cutting) as mirror, serving(good) as server:
        async with client_of(server, mirror, mirrors={server.host: (mirror.url,)}) as client:
            found = bytearray()

            async def write(chunk: bytes) -> None:
                found.extend(chunk)

            await client.repository(server.host, "a").blob(BLOB, write)
            assert bytes(found) == DATA


async def test_a_failure_of_both_tells_the_registry_s() -> None:
    async def broken(call: Call) -> None:
        await call.answer(403)

    async def lacking(call: Call) -> None:
        await call.answer(404)

    async with serving(broken) as mirror, serving(lacking) as server:
        async with client_of(server, mirror, mirrors={server.host: (mirror.url,)}) as client:
            with pytest.raises(NoSuchObject, match="the registry has none"):
                await client.repository(server.host, "a").manifest("x")
        async with client_of(mirror, server, mirrors={mirror.host: (server.url,)}) as client:
            with pytest.raises(RegistryFailed, match="this account may not"):
                await client.repository(mirror.host, "a").manifest("x")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://a/t",service="s",scope="x:y:pull,push"',
            [("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y:pull,push"})],
        ),
        ("Basic", [("basic", {})]),
        ("Basic realm=a", [("basic", {"realm": "a"})]),
        ('Basic realm="a, b", Bearer realm="c"', [("basic", {"realm": "a, b"}), ("bearer", {"realm": "c"})]),
        ('Bearer Realm = "a\\"b" , realm="second"', [("bearer", {"realm": 'a"b'})]),
        ("Negotiate, Basic", [("negotiate", {}), ("basic", {})]),
        ('realm="a"', []),
        ("", []),
        (",,,", []),
        ('Bearer realm="unfinished', [("bearer", {})]),
    ],
)
def test_challenges_are_read(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert challenges([header]) == [Challenge(*one) for one in found]


@given(st.lists(st.text(alphabet='Bearsic realm="\\,\t =x', max_size=60) | st.text(max_size=60), max_size=3))
def test_any_header_is_read_in_the_end(values: list[str]) -> None:
    for challenge in challenges(values):
        assert challenge.scheme == challenge.scheme.lower() != ""


@given(st.sampled_from(['Bearer realm="', "Bearer " + 'a="b",' * 2000, "Basic " * 2000, '\\"' * 4000, "=" * 8000]))
def test_a_long_header_is_read_in_time(value: str) -> None:
    challenges([value, "Bearer x=" + value])


def test_scopes_are_merged_by_resource() -> None:
    assert merged(["repository:a:push,pull", "repository:a:pull", "repository:x:5000/b:pull"]) == [
        "repository:a:pull,push",
        "repository:x:5000/b:pull",
    ]
