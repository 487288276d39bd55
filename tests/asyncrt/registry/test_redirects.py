"""Where a registry may send us, and what goes along: redirects, uploads elsewhere, token servers."""

from collections.abc import Callable, Sequence

import pytest

from asyncrt.errors import RegistryFailed
from asyncrt.model.descriptor import describe
from asyncrt.registry import uploads
from asyncrt.registry.addresses import Reach, may_lead, reach
from asyncrt.registry.credentials import Credential, Credentials
from asyncrt.registry.dialing import Dialer
from tests.asyncrt.registry.server import Call, Handler, Server, client_of, serving

DATA = b"0123456789" * 1000
BLOB = describe(DATA, "application/octet-stream")


class Us(Credentials):
    """Always the same user."""

    async def of(self, host: str, repository: str = "") -> Credential:
        return Credential("user", "secret")


async def blob(server: Server, *others: Server) -> bytes:
    found = bytearray()

    async def write(chunk: bytes) -> None:
        found.extend(chunk)

    async with client_of(server, *others, credentials=Us()) as client:
        await client.repository(server.host, "a").blob(BLOB, write)
    return bytes(found)


def sending(to: Callable[[Call], str], status: int = 307) -> Handler:
    """A registry that wants a password, and sends who has one elsewhere."""

    async def handler(call: Call) -> None:
        if "authorization" not in call.seen.headers:
            return await call.answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        if call.seen.path.startswith("/here"):
            return await call.answer(200, {}, DATA)
        await call.answer(status, {"Location": to(call)})

    return handler


async def storage(call: Call) -> None:
    await call.answer(200, {}, DATA)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_authorization_stays_with_its_origin(status: int) -> None:
    async with serving(storage) as other, serving(sending(lambda call: f"{other.url}/x?sig=1", status)) as server:
        assert await blob(server) == DATA
        assert "authorization" in server.calls[-1].headers
        assert [seen.target for seen in other.calls] == ["/x?sig=1"]
        assert "authorization" not in other.calls[0].headers
        assert other.calls[0].headers["host"] == other.host


async def test_a_redirect_within_the_origin_keeps_it_and_may_be_relative() -> None:
    async with serving(sending(lambda call: "../../../../here/x")) as server:
        assert await blob(server) == DATA
        assert [seen.path for seen in server.calls[1:]] == [f"/v2/a/blobs/{BLOB.digest}", "/here/x"]
        assert all("authorization" in seen.headers for seen in server.calls[1:])


async def test_a_401_of_the_storage_does_not_get_our_password() -> None:
    async def greedy(call: Call) -> None:
        await call.answer(401, {"WWW-Authenticate": 'Basic realm="give"'})

    async with serving(greedy) as other, serving(sending(lambda call: f"{other.url}/x")) as server:
        with pytest.raises(RegistryFailed, match="access denied"):
            await blob(server)
        assert all("authorization" not in seen.headers for seen in other.calls)


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("file:///etc/passwd", "it is no URL of http or https"),
        ("ftp://127.0.0.1/x", "it is no URL of http or https"),
        ("gopher://127.0.0.1:1/x", "it is no URL"),
        ("javascript:1", "it is no URL"),
        ("http://[::1", "it is no URL"),
        ("http://127.0.0.1:99999/", "it is no URL"),
        ("http://127.0.0.1:0/", "it is no URL"),
        ("http://user:pass@127.0.0.1/x", "there is a user's name in it"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is not for others to send us to"),
        ("http://[fe80::1]/", "fe80::1 is not for others"),
        ("http://[::ffff:169.254.169.254]/", "is not for others"),
        ("http://2852039166/", "169.254.169.254 is not for others"),
        ("http://0.0.0.0/", "is not for others"),
        ("http://[::]/", "is not for others"),
        ("http://100.100.100.200/", "is not for others"),
        ("http://224.0.0.1/", "is not for others"),
        ("http://127.0.0.1/" + "x" * 9000, "it is no URL"),
        ("/a b", "it is no URL"),
    ],
)
async def test_where_a_redirect_may_not_lead(target: str, cause: str) -> None:
    async with serving(sending(lambda call: target)) as server:
        with pytest.raises(RegistryFailed, match=cause) as caught:
            await blob(server)
        assert len(str(caught.value)) < 600
        assert len(server.calls) == 2


async def test_redirects_end() -> None:
    async with serving(sending(lambda call: call.seen.target + "x")) as server:
        with pytest.raises(RegistryFailed, match="redirects without end"):
            await blob(server)
        assert len(server.calls) == 1 + 6


async def test_an_upload_is_not_redirected_and_goes_on_elsewhere_without_our_password() -> None:
    class Source:
        async def read_at(self, offset: int, count: int) -> bytes:
            return DATA[offset : offset + count]

    async def other(call: Call) -> None:
        await call.answer(201 if call.seen.method == "PUT" else 401, {"WWW-Authenticate": 'Basic realm="x"'})

    async with serving(other) as storage:
        where = {"Location": f"{storage.url}/up?state=1"}

        async def begin(call: Call) -> None:
            status = 307 if "/redirected/" in call.seen.path else 202
            await call.answer(
                status if "authorization" in call.seen.headers else 401, where | {"WWW-Authenticate": "Basic"}
            )

        async with serving(begin) as server, client_of(server, credentials=Us()) as client:
            await uploads.push(client.repository(server.host, "a"), BLOB, Source())
            (put,) = storage.calls
            assert put.body == DATA
            assert put.target == f"/up?state=1&digest={BLOB.digest.replace(':', '%3A')}"
            assert "authorization" not in put.headers
            with pytest.raises(RegistryFailed, match="redirects a POST"):
                await uploads.push(client.repository(server.host, "redirected"), BLOB, Source())
            where["Location"] = "http://169.254.169.254/up"
            with pytest.raises(RegistryFailed, match="is not for others to send us to"):
                await uploads.push(client.repository(server.host, "b"), BLOB, Source())


async def test_a_token_server_may_not_stand_everywhere() -> None:
    realm = ""

    async def handler(call: Call) -> None:
        await call.answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})

    async with serving(handler) as server:
        for one in ("http://169.254.169.254/token", "file:///etc/passwd", "http://a:b@127.0.0.1/", "//", "token"):
            realm = one
            with pytest.raises(RegistryFailed, match="authenticate at"):
                await blob(server)
        realm = ""
        with pytest.raises(RegistryFailed, match="challenge without a realm"):
            await blob(server)
        assert all("authorization" not in seen.headers for seen in server.calls)


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2001:4860:4860::8888", Reach.PUBLIC),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.9.9.9", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("64:ff9b::7f00:1", Reach.LOOPBACK),
        ("64:ff9b::a9fe:a9fe", Reach.NEVER),
        ("2002:7f00:1::", Reach.LOOPBACK),
        ("169.254.169.254", Reach.NEVER),
        ("169.254.1.1", Reach.NEVER),
        ("fe80::1%eth0", Reach.NEVER),
        ("fd00:ec2::254", Reach.NEVER),
        ("100.100.100.200", Reach.NEVER),
        ("168.63.129.16", Reach.NEVER),
        ("0.0.0.0", Reach.NEVER),
        ("::", Reach.NEVER),
        ("224.0.0.1", Reach.NEVER),
        ("255.255.255.255", Reach.PRIVATE),
        ("nonsense", Reach.NEVER),
        ("", Reach.NEVER),
    ],
)
def test_addresses_have_a_reach(address: str, found: Reach) -> None:
    assert reach(address) is found


def test_the_table_of_who_may_lead_where() -> None:
    allowed = {(a.name[:2], b.name[:2]) for a in Reach for b in Reach if a and may_lead(a, b)}
    assert allowed == {
        ("PU", "PU"),
        ("PR", "PU"),
        ("PR", "PR"),
        ("LO", "PU"),
        ("LO", "PR"),
        ("LO", "LO"),
    }
    assert not any(may_lead(a, Reach.NEVER) for a in Reach)
    assert may_lead(Reach.NEVER, Reach.PUBLIC)
    assert not may_lead(Reach.NEVER, Reach.PRIVATE)


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["10.0.0.1", "169.254.169.254"], []])
async def test_a_public_host_may_not_send_us_home(answers: Sequence[str]) -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return answers

    with pytest.raises(RegistryFailed, match=r"follow redirect to evil.example: .* is not for others"):
        await Dialer(resolver).allow("evil.example", 80, Reach.PUBLIC)


async def test_a_name_that_changes_between_the_look_and_the_connection_does_not_help() -> None:
    async with serving(storage) as other:
        port = int(other.host.rpartition(":")[2])
        asked = 0

        async def resolver(host: str, port: int) -> Sequence[str]:
            nonlocal asked
            asked += 1
            return ["169.254.169.254", "127.0.0.1"] if asked == 1 else ["169.254.169.254"]

        dialer = Dialer(resolver)
        await dialer.allow("rebinding.example", port, Reach.LOOPBACK)
        stream = await dialer.connect_tcp("rebinding.example", port, 2.0)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", port)
        await stream.aclose()
        assert asked == 1
