"""Schemes of tags: told apart, and read as BIO."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adakron_jax.entities import tags
from adakron_jax.entities.spans import spans
from adakron_jax.entities.tags import TagSet, labels_of, scheme_of, to_bio

BIO = ["B-x", "I-x", "B-x", "O", "B-y", "B-y", "O", "B-x"]
SAME = {
    "BIO": BIO,
    "IOB1": ["I-x", "I-x", "B-x", "O", "I-y", "B-y", "O", "I-x"],
    "BIOES": ["B-x", "E-x", "S-x", "O", "S-y", "S-y", "O", "S-x"],
}


@pytest.mark.parametrize("scheme", SAME)
def test_every_scheme_is_told_apart_and_says_the_same_in_bio(scheme: str):
    assert scheme_of([SAME[scheme]]) == scheme
    assert to_bio(SAME[scheme], scheme) == BIO


def test_the_other_letters_of_bioes_are_read():
    assert scheme_of([["B-x", "M-x", "L-x", "U-x", "O"]]) == "BIOES"
    assert to_bio(["B-x", "M-x", "L-x", "U-x", "O"]) == ["B-x", "I-x", "I-x", "B-x", "O"]


@pytest.mark.parametrize("sentence", [["I-x", "I-x", "O", "I-y"], ["x", "x", "O", "y"]])
def test_without_a_tag_that_begins_neighbours_of_a_kind_are_one_entity(sentence: list[str]):
    assert scheme_of([sentence]) == "IO"
    assert to_bio(sentence, "IO") == ["B-x", "I-x", "O", "B-y"]


def test_prefixes_alone_are_of_one_kind():
    assert scheme_of([["B", "I", "O"]]) == "BIO"
    assert to_bio(["B", "I", "O", "I"]) == ["B-entity", "I-entity", "O", "B-entity"]


def test_what_nothing_began_begins_and_is_counted():
    before = ["O", "I-x", "I-x", "B-y", "I-x"]
    assert scheme_of([before, ["B-x", "B-x"]]) == "BIO"
    after = to_bio(before)
    assert after == ["O", "B-x", "I-x", "B-y", "B-x"]
    assert tags.mended(before, after) == 2


def test_tags_of_words_stand_for_themselves_where_that_is_said():
    assert to_bio(["NOUN", "NOUN", "O"], "words") == ["B-NOUN", "B-NOUN", "O"]


@pytest.mark.parametrize("wrong", ["Q-x", "B_x", "B-", "person", "o", "", "7", "b-x"])
def test_tags_of_no_scheme_are_refused(wrong: str):
    with pytest.raises(ValueError, match=rf"^tag '{wrong}'; accepted: O, or a kind after B- or I-"):
        scheme_of([["B-x", "O"], [wrong]])


def test_tags_of_words_are_refused_as_a_scheme():
    with pytest.raises(ValueError, match="^tag 'DET'; accepted: O"):
        scheme_of([["DET", "NOUN"]])


@given(st.lists(st.sampled_from(labels_of("ab")), max_size=12))
def test_what_is_read_keeps_the_rules_and_is_read_again_as_it_is(sentence: list[str]):
    read = to_bio(sentence)
    assert to_bio(read) == read
    assert tags.mended(sentence, read) == sum(old != new for old, new in zip(sentence, read, strict=True))
    codes = np.array([labels_of("ab").index(tag) for tag in read], np.int32)
    whole = spans(codes, np.array([0, len(codes)]))
    assert (whole.end - whole.start).sum() == (codes > 0).sum()


def test_a_tag_set_knows_what_labels_of_any_scheme_mean():
    of = TagSet(("O", "I-a", "B-a", "b", "S-c", "E-c", "I-c", "B-c"))
    assert of.kinds == ("a", "b", "c")
    assert of.types.tolist() == [-1, 0, 0, 1, 2, 2, 2, 2]
    assert of.begins.tolist() == [False, False, True, False, True, False, False, True]
    assert of.bound.tolist() == [False, True, False, False, False, True, True, False]
    assert of.label.tolist() == [0, 2, 1, 3, 3, 7, 6]


def test_the_labels_of_bio_are_their_codes():
    of = TagSet(labels_of("ab"))
    assert of.label.tolist() == [0, 1, 2, 3, 4]
    assert of.codes(["I-b", "E-b", "O", "a", "B-a", "I-a"]) == [3, 4, 0, 1, 1, 2]


def test_kinds_without_a_label_inside_begin_at_every_word():
    of = TagSet(("B-DET", "B-NOUN"))
    assert of.codes(["NOUN", "NOUN", "DET"]) == [3, 3, 1]
    assert of.label.tolist() == [-1, 0, 0, 1, 1]


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="^'c'; accepted: a, b$"):
        TagSet(labels_of("ab")).codes(["O", "B-c"])
