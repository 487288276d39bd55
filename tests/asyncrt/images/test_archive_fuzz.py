"""Archives with bytes changed at random: loaded or refused, in one line, and nothing half is left."""

import io
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncrt.content.store import Content
from asyncrt.errors import BadImage
from asyncrt.images.loading import load
from asyncrt.images.saving import Saved, save
from asyncrt.model.reference import parse
from tests.asyncrt.images import pictures


def whole(docker: bool) -> bytes:
    """An archive that is read by its index.json, or (without it) by docker's manifest.json."""
    with tempfile.TemporaryDirectory() as place:
        content = Content(Path(place))
        target = pictures.image(pictures.Stored(content), [b"x" * 600, b"y" * 20])
        stream = io.BytesIO()
        save([Saved(target, (parse("x.y/app:1"),), target)], content, stream.write)
        data = stream.getvalue()
        if docker:  # the file after it begins where oci-layout and its one block end
            data = data[1024:]
        found = load(iter([data]), content, "whole")
        assert [one.names for one in found] == [("x.y/app:1",)]
        assert docker == (b"oci-layout" not in data)
    return data


WHOLE = {docker: whole(docker) for docker in (False, True)}
PIECES = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from(
        [b"../", b"\0", b'"', b"{", b"77777777777", b"-1", b"blobs/", b"null", b"[[[[[[", b"1", b"2", b"5"]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1), PIECES), max_size=4), st.floats(0, 1.3), st.integers(1, 5000))
def test_any_archive_is_loaded_or_refused(
    docker: bool, changes: list[tuple[float, bytes]], end: float, chunk: int
) -> None:
    data = bytearray(WHOLE[docker])
    for place, piece in changes:
        begin = int(place * len(data))
        data[begin : begin + len(piece)] = piece
    data = data[: int(end * len(data))] if end < 1 else data
    with tempfile.TemporaryDirectory() as directory:
        content = Content(Path(directory))
        try:
            load((bytes(data[n : n + chunk]) for n in range(0, len(data), chunk)), content, "a.tar")
        except BadImage as error:
            assert "\n" not in str(error)  # noqa: PT017
        assert content.ingests() == []
        for digest in content.digests():
            assert str(digest)
