"""The two stores that images are pulled into: the tests' own, and the real one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.content.jobs import Blobs as StoredBlobs
from asyncrt.content.store import Content
from asyncrt.images.blobs import Blobs
from tests.asyncrt.images.shelf import Shelf


@pytest.fixture(params=["shelf", "content"])
def make_blobs(request: pytest.FixtureRequest) -> Callable[[Path], Blobs]:
    """What makes a store of a place."""
    return Shelf if request.param == "shelf" else lambda place: StoredBlobs(Content(place))
