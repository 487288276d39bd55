"""Names of images: docker's normalisation, and what is refused with words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import BadRequest
from asyncrt.model.reference import Reference, parse

HEX = "0123456789abcdef" * 4
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("DOCKER.IO/busybox", "docker.io/library/busybox:latest"),
        ("someone/thing", "docker.io/someone/thing:latest"),
        ("localhost/thing", "localhost/thing:latest"),
        ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
        ("thing:5000/a", "thing:5000/a:latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a:x", "[::1]:5000/a:x"),
        ("[fe80::1]/a", "[fe80::1]/a:latest"),
        ("example.org/a.b/c__d/e--f/g-_h", None),
        ("example.org/a.b/c__d/e---f", "example.org/a.b/c__d/e---f:latest"),
        ("Example.ORG/a", "example.org/a:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
        (f"busybox:1@{SHA}", f"docker.io/library/busybox:1@{SHA}"),
        (f"a/b@sha512:{HEX}{HEX}", f"docker.io/a/b@sha512:{HEX}{HEX}"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
        ("x.y/" + "p" * 251, "x.y/" + "p" * 251 + ":latest"),
    ],
)
def test_docker_s_normalisation(text: str, full: str | None) -> None:
    if full is None:
        with pytest.raises(BadRequest):
            parse(text)
        return
    assert str(parse(text)) == full
    assert parse(full) == parse(text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "it is empty"),
        ("a" * 1025, "it is too long"),
        (HEX, "an image's id, not its name"),
        ("BusyBox", "in lower case it would be one"),
        ("Loud/a", "in lower case it would be one"),
        ("a/B", "in lower case it would be one"),
        ("a//b", "is no repository"),
        ("/a", "is no repository"),
        ("a/", "is no repository"),
        ("a/../b", "is no repository"),
        ("x.y/..", "is no repository"),
        ("-a", "is no repository"),
        ("a..b", "is no repository"),
        ("a___b", "is no repository"),
        ("a b", "is no repository"),
        ("a\n", "is no repository"),
        ("a:b\n", "is no tag"),
        ("a:", "is no tag"),
        ("a:.b", "is no tag"),
        ("a:-b", "is no tag"),
        ("a:" + "t" * 129, "is no tag"),
        ("a:b:c", "is no tag"),
        ("a:é", "is no tag"),
        ("https://x.y/a", "is no host"),
        ("http://a", "is no host"),
        ("x.y:port/a", "is no host"),
        ("x.y:0/a", "is no port"),
        ("x.y:65536/a", "is no port"),
        ("u:p@x.y/a", "is no digest"),
        ("-x.y/a", "is no host"),
        ("x..y/a", "is no host"),
        ("x.y:٣/a", "is no host"),
        ("[::1/a", "is no host"),
        ("a@", "is no digest"),
        ("a@sha256:abc", "is no digest"),
        (f"a@{SHA.upper()}", "is no digest"),
        (f"a@sha512:{HEX}", "is no digest"),
        (f"a@md5:{HEX}", "is no digest"),
        (f"a@{SHA}@{SHA}", "is no digest"),
        ("x.y/" + "p" * 252, "longer than 255"),
    ],
)
def test_what_is_no_reference_is_refused(text: str, cause: str) -> None:
    with pytest.raises(BadRequest, match="read image") as caught:
        parse(text)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("busybox", "busybox:latest"),
        ("someone/thing:1", "someone/thing:1"),
        (f"busybox@{SHA}", f"busybox@{SHA}"),
        ("docker.io/library/library/x", "library/library/x:latest"),
        ("x.y/library/a", "x.y/library/a:latest"),
        ("docker.io/x.y/app", "docker.io/x.y/app:latest"),
        ("docker.io/localhost/app", "docker.io/localhost/app:latest"),
    ],
)
def test_the_short_form_reads_back(text: str, familiar: str) -> None:
    assert parse(text).familiar() == familiar
    assert parse(familiar) == parse(text)


def test_the_digest_decides_where_there_is_one() -> None:
    assert parse(f"a:tag@{SHA}").target == SHA
    assert parse("a:tag").target == "tag"
    assert Reference("h", "p", "t").name == "h/p"


NEARLY = st.text(alphabet="abcAB01./:@-_[] \x00\né" + HEX[:16], max_size=60)
PARTS = st.lists(st.sampled_from(["a", "b9", "x.y", "localhost", ":5", "/", "@", SHA, ":t", "..", "__", "[::1]", "A"]))


@given(st.one_of(NEARLY, st.text(max_size=200), PARTS.map("".join)))
def test_whatever_is_read_reads_back_and_nothing_else_is_raised(text: str) -> None:
    try:
        found = parse(text)
    except BadRequest:
        return
    assert parse(str(found)) == found
    assert parse(found.familiar()) == found
    assert "//" not in str(found)
    assert ".." not in found.path.split("/")
    assert str(found) == str(found).strip()
    assert len(found.name) <= 255
