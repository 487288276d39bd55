"""JSON without the package: the same documents, and the same texts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shimd.spec import text

PROJECT = str(Path(__file__).resolve().parents[3])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(DOCUMENTS)
def test_what_is_written_is_read_again_by_us_and_by_json(document: object) -> None:
    for written in (text.write(document), text.write_lines(document), json.dumps(document)):
        assert text.read(written) == document
        assert json.loads(written) == document


def refuse(word: str) -> None:
    """NaN and Infinity, which json takes and JSON has not."""
    raise ValueError(word)


@given(st.text())
@example("Infinity")
def test_a_text_is_refused_as_json_refuses_it(words: str) -> None:
    try:
        expected = json.loads(words, parse_constant=refuse)
    except ValueError:
        with pytest.raises(text.BadText):
            text.read(words)
    else:
        assert text.read(words) == expected


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "a value is missing at line 1 column 1"),
        ('{"a":\n }', "a value is missing at line 2 column 2"),
        ("1 2", "more follows the document at line 1 column 2"),
        ("NaN", "NaN is no JSON"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 5000, "4300 digits"),
        ('{"a" 1}', "delimiter"),
    ],
)
def test_what_is_wrong_is_said(words: str, complaint: str) -> None:
    with pytest.raises(text.BadText, match=complaint):
        text.read(words)


def test_people_get_a_line_a_property() -> None:
    assert text.write_lines({"a": [1, {}], "b": {"c": []}}, "  ") == (
        '{\n  "a": [\n    1,\n    {}\n  ],\n  "b": {\n    "c": []\n  }\n}'
    )


@pytest.mark.parametrize("words", ["{", '"a', '{"a" 1}', "[1,", "\\"])
def test_what_is_wrong_is_said_where_json_was_never_imported(words: str) -> None:
    code = "import sys; from shimd.spec import text\ntry: text.read(sys.argv[1])\nexcept text.BadText as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {PROJECT!r})\n{code}", words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout
