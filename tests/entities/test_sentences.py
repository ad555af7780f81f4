"""Sentences of tables: words of texts, tags of words, spans of characters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adakron_jax.data.sentences import Sentences
from adakron_jax.data.table import Table
from adakron_jax.entities.tagged import Tagged


def table(**columns: list[Any]) -> Table:
    return Table("a.jsonl", range(1, 1 + len(next(iter(columns.values())))), columns)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's Anaïs, 3pm.", ["It", "'", "s", "Anaïs", ",", "3pm", "."]),
        ("Nu\u0301n\u0303ez naïve_name", ["Nu\u0301n\u0303ez", "naïve_name"]),
        ("a\u00a0b\u2028c \t\n", ["a", "b", "c"]),
        ("北京 ok", ["北", "京", "ok"]),
        ("\U0001f469\u200d\U0001f680ok\U0001f44d\U0001f3fd\U0001f1eb\U0001f1f7", None),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("", []),
        (" \u3000", []),
    ],
)
def test_a_text_is_parted_into_words(text: str, words: list[str] | None):
    emoji = ["\U0001f469\u200d\U0001f680", "ok", "\U0001f44d\U0001f3fd", "\U0001f1eb\U0001f1f7"]
    assert Sentences.of_texts([text]).words(0) == (emoji if words is None else words)


@given(st.lists(st.text(), max_size=4))
def test_words_are_all_of_a_text_but_its_spaces(texts: list[str]):
    sentences = Sentences.of_texts(texts)
    for number, text in enumerate(texts):
        assert "".join(sentences.words(number)) == "".join(text.split())


def test_lists_of_words_are_a_text_with_spaces():
    sentences = Sentences.of_words([["New York", "!"], [], ["a"]])
    assert sentences.texts == ["New York !", "", "a"]
    assert [sentences.words(number) for number in range(3)] == [["New York", "!"], [], ["a"]]
    assert sentences.offsets.tolist() == [0, 2, 2, 3]


def test_tags_are_one_a_word():
    rows = table(tokens=[["a", "b"], []], tags=[["O", "B-x"], []])
    sentences = Sentences.of_table(rows, "tokens")
    assert Tagged.of_table(rows, "tags", sentences).tags == [["O", "B-x"], []]


def tagged(text: str, *spans: tuple[int, int, str]) -> Tagged:
    cells = [{"start": start, "end": end, "label": label, "score": 0.5} for start, end, label in spans]
    rows = table(text=[text], entities=[cells])
    return Tagged.of_table(rows, "entities", Sentences.of_table(rows, "text"))


def test_spans_are_tags_of_the_words_they_touch():
    found = tagged("Anna Li of Ulm, Ulm", (11, 14, "place"), (0, 7, "person"), (16, 19, "place"))
    assert found == Tagged([["B-person", "I-person", "O", "B-place", "O", "B-place"]], 0)


def test_spans_that_cut_words_are_aligned_and_counted():
    assert tagged("Annas Hut", (0, 4, "x")) == Tagged([["B-x", "O"]], 1)
    assert tagged("Annas Hut", (2, 8, "x")) == Tagged([["B-x", "I-x"]], 1)
    assert tagged("Annas Hut", (0, 6, "x"), (6, 9, "y")) == Tagged([["B-x", "B-y"]], 0)
    assert tagged("AnnaLi", (0, 4, "x"), (4, 6, "y")) == Tagged([["B-x"]], 2)
    assert tagged("AnnaLi Li", (0, 4, "x"), (4, 9, "y")) == Tagged([["B-x", "B-y"]], 2)


def test_a_text_without_spans_is_outside_of_all():
    assert tagged("a b") == Tagged([["O", "O"]], 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tokens": [["a"], "b"], "tags": [["O"], ["O"]]}, r"row 2: tokens is 'b'; accepted: a list of words$"),
        ({"tokens": [["a", " "]], "tags": [["O", "O"]]}, r"row 1: tokens has the word ' '; accepted: texts$"),
        ({"tokens": [["a", 3]], "tags": [["O", "O"]]}, r"row 1: tokens has the word 3; accepted: texts$"),
        ({"tokens": [3], "tags": [["O"]]}, r"row 1: tokens is 3; accepted: a text$"),
        ({"tokens": [["a", "b"]], "tags": [["O"]]}, r"row 1: tags has 1 tags for 2 words; accepted: one per word$"),
        ({"tokens": [["a"]], "tags": [[3]]}, r"row 1: tags has the tag 3; accepted: texts such as B-person"),
        ({"tokens": [["a"]], "tags": ["O"]}, r"row 1: tags is 'O'; accepted: a list of tags, or of spans$"),
    ],
)
def test_what_is_no_sentence_is_refused_with_its_row(columns: dict[str, list[Any]], message: str):
    rows = table(**columns)
    with pytest.raises(ValueError, match=rf"^a\.jsonl, {message}"):
        Tagged.of_table(rows, "tags", Sentences.of_table(rows, "tokens"))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([{"start": 0, "end": 4, "label": "x"}, {"start": 3, "end": 6, "label": "y"}], "has spans .*, which overlap"),
        ([{"start": 0, "end": 7, "label": "x"}], "has a span from 0 to 7; accepted: within the 6 characters"),
        ([{"start": -1, "end": 2, "label": "x"}], "has a span from -1 to 2; accepted"),
        ([{"start": 2, "end": 2, "label": "x"}], "has a span from 2 to 2; accepted"),
        ([{"start": 4, "end": 5, "label": "x"}], "has a span from 4 to 5, which holds no word; accepted: words"),
        ([{"start": True, "end": 2, "label": "x"}], "has a span from True to 2; accepted"),
        ([{"start": 0, "end": 2.0, "label": "x"}], "has a span from 0 to 2.0; accepted"),
        ([{"start": 0, "end": 2, "label": ""}], "has the label ''; accepted: a text"),
        ([{"start": 0, "end": 2}], 'has .*; accepted: {"start": ..., "end": ..., "label": ...}'),
        ([{"start": 0, "end": 2, "label": "x"}, "O"], "has 'O'; accepted: {"),
        ({"start": 0}, "is {'start': 0}; accepted: a list of tags, or of spans"),
    ],
)
def test_damaged_spans_are_refused_with_their_row(cell: Any, message: str):
    rows = table(text=["a b", "Anna b"], entities=[[], cell])
    with pytest.raises(ValueError, match=rf"^a\.jsonl, row 2: entities {message}"):
        Tagged.of_table(rows, "entities", Sentences.of_table(rows, "text"))
