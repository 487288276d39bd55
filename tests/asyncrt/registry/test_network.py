"""A hostile or broken network: each case with a server that does it."""

import hashlib
import time

import h11
import pytest
import trio

from asyncrt.errors import AsyncrtError, BadImage, NoSuchObject, RegistryFailed
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.registry import listing
from asyncrt.registry.exchange import Limits
from asyncrt.registry.failures import Passing
from tests.asyncrt.registry.server import PATIENT, SHORT, Call, Handler, client_of, serving

DATA = bytes(range(256)) * 4096  # 1 MiB
BLOB = describe(DATA, "application/octet-stream")


class Sink:
    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


async def fetch(
    handler: Handler, descriptor: Descriptor = BLOB, offset: int = 0, limits: Limits = PATIENT
) -> tuple[bytes, list[str]]:
    """The blob as that server gives it, and the Range of each request."""
    sink = Sink()
    async with serving(handler) as server, client_of(server, limits=limits) as client:
        await client.repository(server.host, "a").blob(descriptor, sink.write, offset)
        return bytes(sink.data), [seen.headers.get("range", "") for seen in server.calls]


async def ranged(call: Call, cut_after: int | None = None) -> None:
    """Answer as a good registry does; the connection breaks after so many bytes, if it should."""
    begin = int(call.seen.headers.get("range", "bytes=0-")[6:-1])
    headers = {"Content-Length": str(len(DATA) - begin)}
    if begin:
        headers["Content-Range"] = f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"
    await call.head(206 if begin else 200, headers)
    end = len(DATA) if cut_after is None else begin + cut_after
    if call.seen.method != "HEAD":
        await call.send(h11.Data(DATA[begin:end]))
    if end < len(DATA):
        return await call.cut()
    await call.send(h11.EndOfMessage())


async def test_a_blob_arrives_and_resumes_from_an_offset() -> None:
    assert await fetch(ranged) == (DATA, [""])
    assert await fetch(ranged, offset=1000) == (DATA[1000:], ["bytes=1000-"])


async def test_a_cut_is_followed_by_a_request_for_the_rest() -> None:
    async def cutting(call: Call) -> None:
        await ranged(call, 300_000)

    data, asked = await fetch(cutting)
    assert data == DATA
    assert asked == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


async def test_a_server_without_ranges_begins_anew_and_nothing_is_taken_twice() -> None:
    calls = 0

    async def forgetful(call: Call) -> None:
        nonlocal calls
        calls += 1
        await call.head(200, {"Content-Length": str(len(DATA))})
        await call.send(h11.Data(DATA[: 400_000 if calls == 1 else None]))
        if calls == 1:
            return await call.cut()
        await call.send(h11.EndOfMessage())

    assert (await fetch(forgetful))[0] == DATA


async def test_a_server_that_sends_a_byte_and_breaks_off_is_not_asked_for_ever() -> None:
    async def stingy(call: Call) -> None:
        await ranged(call, 1)

    with pytest.raises(RegistryFailed, match=r"pull blob sha256:.* of 127.0.0.1:\d+/a: .*broke off"):
        await fetch(stingy)


def lying(**headers: str) -> Handler:
    async def handler(call: Call) -> None:
        await call.answer(int(headers.get("status", "200")), {k.replace("_", "-"): v for k, v in headers.items()}, DATA)

    return handler


async def test_another_size_than_the_descriptor_s_is_refused_before_a_byte_is_taken() -> None:
    for size in (len(DATA) - 1, len(DATA) + 1, 0x7FFF_FFFF_FFFF):
        with pytest.raises(BadImage, match=f"the registry has 1048576 bytes, where its descriptor says {size}"):
            await fetch(lying(), Descriptor("x", BLOB.digest, size))


async def test_a_body_without_length_ends_where_the_descriptor_says() -> None:
    async def endless(call: Call) -> None:
        await call.head(200, {"Transfer-Encoding": "chunked"})
        while True:
            await call.send(h11.Data(DATA))

    with pytest.raises(BadImage, match="the registry sends more, where"):
        await fetch(endless)


async def test_a_range_that_was_not_asked_for_is_refused() -> None:
    async def wrong(call: Call) -> None:
        await call.answer(206, {"Content-Range": f"bytes 5-{len(DATA) + 4}/{len(DATA)}"}, DATA[10:])

    with pytest.raises(BadImage, match="the registry sends bytes 5-"):
        await fetch(wrong, offset=10)
    with pytest.raises(BadImage, match="the registry sends no range"):
        await fetch(lying(status="206"), offset=10)


async def test_a_compressed_answer_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(RegistryFailed, match="compressed its answer"):
        await fetch(lying(Content_Encoding="gzip"))


async def test_a_registry_that_goes_silent_or_trickles_is_given_up() -> None:
    async def silent(call: Call) -> None:
        await trio.sleep_forever()

    async def trickling(call: Call) -> None:
        await call.head(200, {"Content-Length": str(len(DATA))})
        for n in range(len(DATA)):
            await call.send(h11.Data(DATA[n : n + 1]))
            await trio.sleep(0.02)

    async def slow_head(call: Call) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
            await call.raw(bytes([letter]))
            await trio.sleep(0.02)

    for handler, cause in ((silent, "it went silent"), (trickling, "it is too slow"), (slow_head, "it is too slow")):
        begun = time.monotonic()
        with pytest.raises(RegistryFailed, match=cause):
            await fetch(handler, limits=SHORT)
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("what", ["manifest", "tags", "token"])
async def test_giant_documents_are_refused_without_being_read(what: str) -> None:
    sent = 0

    async def giant(call: Call) -> None:
        nonlocal sent
        if what == "token" and "/token" not in call.seen.target:
            realm = f"http://{call.seen.headers['host']}/token"
            return await call.answer(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
        await call.head(200, {"Transfer-Encoding": "chunked"})
        for _ in range(100):
            await call.send(h11.Data(b"[" * 1_000_000))
            sent += 1

    async with serving(giant) as server, client_of(server) as client:
        repository = client.repository(server.host, "a")
        with pytest.raises(RegistryFailed, match=r"its answer has more than \d+ bytes"):
            await (listing.tags(repository) if what == "tags" else repository.manifest("latest"))
    assert sent < 60


async def test_giant_headers_and_what_is_no_http_are_refused() -> None:
    async def giant(call: Call) -> None:
        await call.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000)

    async def noise(call: Call) -> None:
        await call.raw(b"\x00\xff" * 100 + b"\r\n\r\n")
        await call.cut()

    for handler in (giant, noise):
        with pytest.raises(RegistryFailed, match=r"broke off, or does not speak HTTP|connection broke"):
            await fetch(handler)


async def test_a_manifest_of_another_digest_is_refused() -> None:
    async def handler(call: Call) -> None:
        says = {} if "plain" in call.seen.target else {"Docker-Content-Digest": BLOB.digest}
        await call.answer(200, says | {"Content-Type": "application/json; charset=utf-8"}, b"{}")

    async with serving(handler) as server, client_of(server) as client:
        repository = client.repository(server.host, "a")
        for target in (BLOB.digest, "tag"):
            with pytest.raises(BadImage, match=f"the registry says {BLOB.digest} and sends sha256:44136f"):
                await repository.manifest(target)
        found = await repository.manifest("plain")
        assert found.descriptor.digest == f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
        assert found.descriptor.media_type == "application/json"


def failing(times: int, status: int, headers: dict[str, str] | None = None) -> tuple[Handler, list[float]]:
    moments: list[float] = []

    async def handler(call: Call) -> None:
        moments.append(time.monotonic())
        if len(moments) <= times:
            body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down\\n"}]}'
            return await call.answer(status, headers, body)
        await ranged(call)

    return handler, moments


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
async def test_what_passes_is_tried_again(status: int) -> None:
    handler, moments = failing(2, status)
    assert (await fetch(handler))[0] == DATA
    assert len(moments) == 3


async def test_retry_after_is_kept_to_and_a_long_one_is_told() -> None:
    handler, moments = failing(1, 429, {"Retry-After": "1"})
    assert (await fetch(handler))[0] == DATA
    assert moments[1] - moments[0] >= 0.95
    handler, moments = failing(9, 429, {"Retry-After": "3600"})
    with pytest.raises(RegistryFailed, match=r"too many requests: toomanyrequests slow down.; it asks to wait 3600 s"):
        await fetch(handler)
    assert len(moments) == 1


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, RegistryFailed, r"access denied: .*\(asyncrt login 127.0.0.1:\d+\)"),
        (403, RegistryFailed, "this account may not do that"),
        (404, NoSuchObject, r"the registry has none: .*asyncrt login"),
        (405, RegistryFailed, "the registry does not do that"),
        (418, RegistryFailed, "the registry answered with status 418"),
    ],
)
async def test_what_does_not_pass_is_told_in_one_line(status: int, kind: type[AsyncrtError], words: str) -> None:
    handler, moments = failing(9, status)
    with pytest.raises(kind, match=f"pull blob sha256:.*: {words}") as caught:
        await fetch(handler)
    assert "\n" not in str(caught.value)
    assert len(moments) == (2 if status == 401 else 1)
    assert not isinstance(caught.value, Passing)


async def test_nobody_listens() -> None:
    async with serving(ranged) as server:
        pass
    async with client_of(server) as client:
        with pytest.raises(RegistryFailed, match=r"resolve 127.0.0.1:\d+/a:x: no connection: .*connection refused"):
            await client.repository(server.host, "a").resolve("x")


async def test_connections_are_used_again_and_bounded() -> None:
    async def slowly(call: Call) -> None:
        await trio.sleep(0.01)
        await ranged(call)

    async with serving(slowly) as server, client_of(server) as client:
        repository = client.repository(server.host, "a")
        await repository.blob(BLOB, Sink().write)
        server.connections = 1  # and not the one on which TLS was tried
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(repository.blob, BLOB, Sink().write)
        assert len(server.calls) == 41
        assert server.most_open <= SHORT.per_host
        assert server.connections <= SHORT.per_host
        assert await repository.has(BLOB.digest) == len(DATA)  # HEAD and 404 keep the connection as well
        assert server.connections <= SHORT.per_host


async def test_a_kept_connection_that_the_server_closed_is_no_failure() -> None:
    async def once(call: Call) -> None:
        await call.answer(200, {}, DATA)
        await call.cut()

    async with serving(once) as server, client_of(server) as client:
        for _ in range(3):
            await client.repository(server.host, "a").blob(BLOB, Sink().write)


async def test_memory_does_not_grow_with_the_blob() -> None:
    chunk, count = bytes(1 << 20), 256

    async def big(call: Call) -> None:
        await call.head(200, {"Content-Length": str(count << 20)})
        for _ in range(count):
            await call.send(h11.Data(chunk))
        await call.send(h11.EndOfMessage())

    largest = total = 0

    async def write(data: bytes) -> None:
        nonlocal largest, total
        largest, total = max(largest, len(data)), total + len(data)

    async with serving(big) as server, client_of(server) as client:
        await client.repository(server.host, "a").blob(Descriptor("x", BLOB.digest, count << 20), write)
    assert total == count << 20
    assert largest <= 1 << 20


async def test_a_cancelled_fetch_closes_its_connection() -> None:
    begun, gone = trio.Event(), trio.Event()

    async def endless(call: Call) -> None:
        begun.set()
        await call.head(200, {"Content-Length": str(len(DATA))})
        try:
            while True:
                await call.raw(b"x")
                await trio.sleep(0.01)
        finally:
            gone.set()

    async with serving(endless) as server, client_of(server) as client:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.repository(server.host, "a").blob, BLOB, Sink().write)
                await begun.wait()
                nursery.cancel_scope.cancel()
            await gone.wait()


async def test_a_host_that_hangs_up_on_tls_may_speak_plain_http() -> None:
    async with serving(ranged) as server, client_of() as client:
        hint = rf"\(if it speaks plain http: --insecure-registry {server.host}\)"
        with pytest.raises(RegistryFailed, match=rf"{server.host} broke off the TLS handshake {hint}"):
            await client.repository(server.host, "a").resolve("x")
        assert server.calls == []
