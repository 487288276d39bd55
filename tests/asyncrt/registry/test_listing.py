"""Tags and referrers of registries that page, filter, or lie about both."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from asyncrt.errors import RegistryFailed
from asyncrt.model.media_types import OCI_INDEX, OCI_MANIFEST
from asyncrt.registry import listing
from tests.asyncrt.registry.server import Call, Handler, client_of, serving

DIGEST = "sha256:" + "ab" * 32
TAGS = [f"t{number:03}" for number in range(25)]


def paging(link: str) -> Handler:
    """Ten at a time; `link` is how the next page is named."""

    async def handler(call: Call) -> None:
        last = parse_qs(urlsplit(call.seen.target).query).get("last", [""])[0]
        page = [tag for tag in TAGS if tag > last][:10]
        more = {"Link": link.format(last=page[-1])} if page and page[-1] != TAGS[-1] else {}
        await call.answer(200, more, json.dumps({"name": "a", "tags": page}).encode())

    return handler


@pytest.mark.parametrize(
    "link",
    [
        '</v2/a/tags/list?last={last}&n=10>; rel="next"',
        "<http://169.254.169.254/v2/a/tags/list?n=10&last={last}>; rel=next",
        '<?last={last}>; title="x"; rel="next", <x>; rel="other"',
    ],
)
async def test_pages_are_followed_at_the_same_place(link: str) -> None:
    async with serving(paging(link)) as server, client_of(server) as client:
        assert await listing.tags(client.repository(server.host, "a")) == TAGS
        assert {seen.path for seen in server.calls} == {"/v2/a/tags/list"}
        assert len(server.calls) == 3


async def test_a_list_without_end_ends() -> None:
    async def ring(call: Call) -> None:
        body = json.dumps({"tags": ["a", "b"]}).encode()
        await call.answer(200, {"Link": '</v2/a/tags/list?last=a>; rel="next"'}, body)

    numbers = iter(range(10_000))

    async def flood(call: Call) -> None:
        body = json.dumps({"tags": [str(next(numbers))]}).encode()
        await call.answer(200, {"Link": '</v2/a/tags/list?x=1>; rel="next"'}, body)

    async with serving(ring) as server, client_of(server) as client:
        assert await listing.tags(client.repository(server.host, "a")) == ["a", "b"]
        assert len(server.calls) == 2
    async with serving(flood) as server, client_of(server) as client:
        with pytest.raises(RegistryFailed, match="more than 1000 pages"):
            await listing.tags(client.repository(server.host, "a"))


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 5000, b'{"tags": 5}', b"\xff"])
async def test_what_is_no_list_is_told(body: bytes) -> None:
    async def handler(call: Call) -> None:
        await call.answer(200, {}, body)

    async with serving(handler) as server, client_of(server) as client:
        with pytest.raises(RegistryFailed, match=r"list tags .*: its answer makes no sense"):
            await listing.tags(client.repository(server.host, "a"))


def entry(mark: str, kind: str) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": "sha256:" + mark * 64, "size": 1, "artifactType": kind}


@pytest.mark.parametrize("filters", [True, False])
async def test_referrers_are_filtered_by_whoever_does_it(filters: bool) -> None:
    entries = [entry("1", "a/b"), entry("2", "c/d"), entry("3", "a/b")]

    async def handler(call: Call) -> None:
        wanted = parse_qs(urlsplit(call.seen.target).query).get("artifactType", [""])[0]
        shown = [one for one in entries if not (filters and wanted) or one["artifactType"] == wanted]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown}
        headers = {"OCI-Filters-Applied": "artifactType"} if filters else {}
        await call.answer(200, headers, json.dumps(index).encode())

    async with serving(handler) as server, client_of(server) as client:
        repository = client.repository(server.host, "a")
        assert len(await listing.referrers(repository, DIGEST)) == 3
        found = await listing.referrers(repository, DIGEST, "a/b")
        assert [one.digest[-1] for one in found] == ["1", "3"]
        assert server.calls[-1].target == f"/v2/a/referrers/{DIGEST}?artifactType=a%2Fb"


def test_the_fallback_tag_is_the_digest() -> None:
    assert listing.fallback_tag(DIGEST) == "sha256-" + "ab" * 32
    assert len(listing.fallback_tag("sha512:" + "a" * 128)) == len("sha512-") + 64
