"""Uploads that are cut, forgotten, miscounted or refused on their way."""

import os
from pathlib import Path

import pytest
import trio

from asyncrt.errors import RegistryFailed
from asyncrt.model.descriptor import describe
from asyncrt.registry import uploads
from tests.asyncrt.registry.certificates import Authority, needs_openssl
from tests.asyncrt.registry.server import SHORT, Call, Server, client_of, serving

DATA = os.urandom(100_000)
BLOB = describe(DATA, "application/octet-stream")


@pytest.fixture(autouse=True)
def _chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every blob goes in chunks here, unless a test says otherwise."""
    monkeypatch.setattr(uploads, "WHOLE_BYTES", -1)


class Bytes:
    async def read_at(self, offset: int, count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return DATA[offset : offset + count]


class Shop:
    """A registry that takes uploads; what it does wrong is put on its list: one word a request."""

    def __init__(self, *wrongs: str, least: int = 0) -> None:
        self.wrongs = list(wrongs)
        self.got = bytearray()
        self.whole: bytes | None = None
        self.uploads = 0
        self.least = least

    async def __call__(self, call: Call) -> None:
        method, body = call.seen.method, call.seen.body
        wrong = self.wrongs.pop(0) if self.wrongs else ""
        if wrong == "cut":
            return await call.cut()
        if wrong.isdigit():
            return await call.answer(int(wrong))
        if wrong == "half":
            self.got += body[: len(body) // 2]
            return await call.cut()
        if wrong == "taken":
            self.got += body
            return await call.cut()
        if method == "POST":
            self.uploads += 1
            self.got.clear()
        elif call.seen.path != f"/up/{self.uploads}":
            return await call.answer(404)
        if method == "PATCH":
            begin = int(call.seen.headers["content-range"].partition("-")[0])
            if begin != len(self.got):
                return await call.answer(416)
            self.got += body
        elif method == "PUT":
            self.whole = bytes(self.got + body)
            return await call.answer(201)
        headers = {"Location": f"/up/{self.uploads}", "Range": f"0-{max(0, len(self.got) - 1)}"}
        if self.least:
            headers["OCI-Chunk-Min-Length"] = str(self.least)
        if wrong == "miscount":
            headers["Range"] = "0-999999"
        if wrong == "silent":
            del headers["Range"]
        if wrong == "nowhere":
            del headers["Location"]
        await call.answer(204 if method == "GET" else 202, headers)


async def push(shop: Shop, chunk_bytes: int = 30_000) -> tuple[Server, list[int]]:
    told: list[int] = []
    async with serving(shop) as server, client_of(server) as client:
        await uploads.push(client.repository(server.host, "a"), BLOB, Bytes(), told.append, chunk_bytes)
    return server, told


def methods(server: Server) -> str:
    return " ".join(seen.method for seen in server.calls)


async def test_chunks_are_sent_in_turn() -> None:
    shop = Shop()
    server, told = await push(shop)
    assert shop.whole == DATA
    assert methods(server) == "POST PATCH PATCH PATCH PATCH PUT"
    assert told[-1] == len(DATA)
    assert told == sorted(told)
    assert server.calls[1].headers["content-range"] == "0-29999"
    assert server.calls[-1].target.endswith(f"?digest={BLOB.digest.replace(':', '%3A')}")


async def test_the_registry_may_want_longer_chunks() -> None:
    server, _ = await push(Shop(least=60_000))
    assert [seen.headers["content-range"] for seen in server.asked("PATCH", "")] == ["0-59999", "60000-99999"]


async def test_small_blobs_go_in_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "WHOLE_BYTES", len(DATA))
    shop = Shop()
    server, _ = await push(shop)
    assert methods(server) == "POST PUT"
    assert shop.whole == DATA


@pytest.mark.parametrize(
    ("wrongs", "sequence"),
    [
        (["", "cut"], "POST PATCH GET PATCH PATCH PATCH PATCH PUT"),
        (["", "", "half"], "POST PATCH PATCH GET PATCH PATCH PUT"),
        (["", "", "taken"], "POST PATCH PATCH GET PATCH PATCH PUT"),
        (["", "", "503"], "POST PATCH PATCH GET PATCH PATCH PATCH PUT"),
        (["cut"], "POST POST PATCH PATCH PATCH PATCH PUT"),
        (["", "", "", "", "", "cut"], "POST PATCH PATCH PATCH PATCH PUT GET PUT"),
        (["", "", "cut", "cut"], "POST PATCH PATCH GET GET PATCH PATCH PATCH PUT"),
        (["", "", "cut", "404"], "POST PATCH PATCH GET POST PATCH PATCH PATCH PATCH PUT"),
        (["", "", "404"], "POST PATCH PATCH POST PATCH PATCH PATCH PATCH PUT"),
        (["", "", "cut", "silent"], "POST PATCH PATCH GET POST PATCH PATCH PATCH PATCH PUT"),
        (["", "silent", "silent"], "POST PATCH PATCH PATCH PATCH PUT"),
    ],
)
async def test_a_cut_costs_a_chunk(wrongs: list[str], sequence: str) -> None:
    shop = Shop(*wrongs)
    server, _ = await push(shop)
    assert methods(server) == sequence
    assert shop.whole == DATA


@pytest.mark.parametrize(
    ("wrongs", "cause"),
    [
        (["", "miscount"], "the registry counts 1000000 bytes, not 30000"),
        (["nowhere"], "the registry does not say where an upload goes on"),
        (["403"], "this account may not do that"),
        (["", "413"], "it is too big for the registry"),
        (["500"] * 9, "the registry failed"),
        (["", "cut", "500", "500"], "the registry failed"),
        (["", *["404", ""] * 9], "the registry has none"),
    ],
)
async def test_what_does_not_pass_ends_the_upload(wrongs: list[str], cause: str) -> None:
    with pytest.raises(Exception, match=f"push blob {BLOB.digest} to 127.*/a: {cause}") as caught:
        await push(Shop(*wrongs))
    assert type(caught.value).__module__.startswith("asyncrt.")


async def test_a_registry_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(stream: trio.SocketStream) -> None:
        await stream.receive_some(100)
        await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listeners[0].socket.getsockname()[1], "http")
    big = describe(DATA * 200, "x")

    class Big:
        async def read_at(self, offset: int, count: int) -> bytes:
            return bytes(count)

    monkeypatch.setattr(uploads, "WHOLE_BYTES", 1 << 30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, deaf, listeners)
        async with client_of(server, limits=SHORT) as client:
            with pytest.raises(RegistryFailed, match=r"it went silent|it takes nothing any more|no connection in time"):
                await uploads.push(client.repository(server.host, "a"), big, Big())
        nursery.cancel_scope.cancel()


async def _nowhere(chunk: bytes) -> None:
    raise AssertionError("nothing should come")


@needs_openssl
async def test_https_is_not_left_for_http(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")

    async def elsewhere(call: Call) -> None:
        await call.answer(200, {}, DATA)

    async with serving(elsewhere) as plain:

        async def sending(call: Call) -> None:
            await call.answer(307 if call.seen.method == "GET" else 202, {"Location": f"{plain.url}/x"})

        async with serving(sending, authority.server_context()) as server:
            trusted = authority.trusted_by(tmp_path / "certs.d", server.host)
            async with client_of(server, certificates=trusted) as client:
                repository = client.repository(server.host, "a")
                with pytest.raises(RegistryFailed, match=r"sends us to http://127.*/x: it is plain http"):
                    await repository.blob(BLOB, _nowhere)
                with pytest.raises(RegistryFailed, match=r"sends us to http://127.*/x: it is plain http"):
                    await uploads.push(repository, BLOB, Bytes())
                assert plain.calls == []
