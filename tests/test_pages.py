"""Documents that are made from the code are not stale, and say all that the code says."""

from typing import get_args

from asyncrt.model import protocol
from shimd.wire import messages
from tests import pages


def test_the_messages_page_is_not_stale() -> None:
    hint = "make it again: python -m tests.pages"
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), hint


def test_it_has_every_message_and_every_request() -> None:
    text = pages.made()
    for kind in (*messages.NUMBERS.values(), *get_args(protocol.AnyRequest)):
        assert f"| `{kind.__name__}` |" in text


def test_every_request_has_its_answer() -> None:
    missing = {kind.__name__ for kind in get_args(protocol.AnyRequest)} - set(pages._answers())
    assert not missing, "the table in model/protocol.py lacks them"
