"""Whatever a name holds, a message stays one line that can be encoded and moves nothing."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from mimo.wording import LONGEST_LINE, LONGEST_WORD, literal, one_line, shortened, valid_unicode, without_controls


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_encoded(text: str) -> None:
    line = one_line(text)
    assert len(f"|{line}|".splitlines()) == 1
    line.encode()
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)


@given(st.binary(max_size=50))
def test_any_name_of_a_file_becomes_one_line(name: bytes) -> None:
    one_line(os.fsdecode(name)).encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo.png", "photo.png"),
        ("Übung 日本 👩\u200d🚀.png", "Übung 日本 👩\u200d🚀.png"),
        ("a\nmimo: done", "a\\nmimo: done"),
        ("\x1b[2Jx\r\t\x7f\x9b", "\\x1b[2Jx\\r\\t\\x7f\\x9b"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud83d\u2028", "\\ud83d\\u2028"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_long_words_and_lines_lose_their_middle() -> None:
    short = "a/" * 100 + " could not be written."
    assert shortened(short) == short
    word = shortened("--out " + "x" * 6000 + " is too long; choose another.")
    assert word.endswith("is too long; choose another.")
    assert len(word) < LONGEST_WORD + 60
    assert len(shortened("many words " * 1000)) <= LONGEST_LINE


@given(
    st.recursive(
        st.text(st.characters()) | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_is_made_valid_is_json_that_can_be_encoded(value: object) -> None:
    text = json.dumps(valid_unicode(value), ensure_ascii=False)
    text.encode()


def test_numbers_and_other_values_stay_what_they_are() -> None:
    assert valid_unicode({"a": (1, 2.5, None, True)}) == {"a": [1, 2.5, None, True]}


@given(st.text(st.sampled_from("\\\\[]/a:x red#@\n")))
def test_nothing_is_markup_in_a_literal(text: str) -> None:
    bare = Text.from_markup(literal(text), emoji=False)
    assert bare.plain.rstrip("\\") == one_line(text).rstrip("\\")
    styled = Text.from_markup(f"[red]{literal(text)}[/red]", emoji=False)
    assert styled.plain.rstrip("\\") == one_line(text).rstrip("\\")
    assert len(styled.spans) <= 1


def test_controls_are_taken_from_laid_out_text() -> None:
    assert without_controls("a\n\tb\x1b[2J\udce9 \u202e") == "a\n\tb\\x1b[2J\\xe9 \u202e"
