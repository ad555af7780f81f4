"""Decoding: the best of all sequences that the rules allow, and nothing that breaks them."""

import itertools

import numpy as np
import pytest

from adakron_jax.entities.decode import DECODES, Decode, decode, viterbi
from adakron_jax.entities.spans import spans
from adakron_jax.entities.tags import TagSet, labels_of

SETS = [
    labels_of(["a", "b"]),
    ("I-a", "O", "B-a", "I-b", "B-b"),
    ("O", "I-a", "I-b"),
    ("O", "a", "b", "c"),
    ("O", "B-a", "I-a", "E-a", "S-a"),
    ("O", "S-a", "E-a"),
    ("O",),
]


def drawn(labels: int, lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    logits = np.random.default_rng(seed).normal(size=(sum(lengths), labels)).astype(np.float32)
    return logits, np.r_[0, np.cumsum(lengths)]


def allowed(sequence: tuple[int, ...], tags: TagSet) -> bool:
    before = -1
    for code in sequence:
        if tags.bound[code] and (before < 0 or tags.types[before] != tags.types[code] or tags.closes[before]):
            return False
        before = code
    return True


@pytest.mark.parametrize("labels", SETS)
def test_viterbi_is_the_best_of_all_allowed_sequences(labels: tuple[str, ...]):
    tags = TagSet(labels)
    logits, offsets = drawn(len(labels), [3, 0, 1, 5, 2, 0])
    chosen = viterbi(logits, offsets, tags)
    for start, end in itertools.pairwise(offsets):
        sequences = itertools.product(range(len(labels)), repeat=int(end - start))
        every = [each for each in sequences if allowed(each, tags)]
        totals = [sum(logits[start + i, code] for i, code in enumerate(each)) for each in every]
        assert tuple(chosen[start:end]) == every[int(np.argmax(totals))]


@pytest.mark.parametrize("labels", SETS)
@pytest.mark.parametrize("how", DECODES)
def test_what_is_decoded_keeps_the_rules(labels: tuple[str, ...], how: Decode):
    logits, offsets = drawn(len(labels), np.random.default_rng(1).integers(0, 30, 40).tolist())
    codes, scores = decode(logits, offsets, TagSet(labels), how)
    whole = spans(codes, offsets)
    assert (whole.end - whole.start).sum() == (codes > 0).sum()
    assert np.all((scores > 0) & (scores <= 1))


def test_argmax_takes_the_best_label_of_each_word_and_begins_what_nothing_began():
    tags = TagSet(labels_of(["a"]))
    logits = np.log(np.array([[0.2, 0.3, 0.5], [0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]]))
    codes, scores = decode(logits, np.array([0, 3, 4]), tags, "argmax")
    assert codes.tolist() == [1, 2, 0, 1]
    np.testing.assert_allclose(scores, [0.5, 0.7, 0.8, 0.4])


def test_viterbi_gives_way_where_the_whole_is_more_probable():
    tags = TagSet(labels_of(["a"]))
    logits = np.log(np.array([[0.5, 0.4, 0.1], [0.05, 0.05, 0.9]]))
    codes, scores = decode(logits, np.array([0, 2]), tags)
    assert codes.tolist() == [1, 2]
    np.testing.assert_allclose(scores, [0.4, 0.9])


def test_no_words_are_no_tags():
    codes, scores = decode(np.zeros((0, 5), np.float32), np.array([0, 0]), TagSet(labels_of("ab")))
    assert len(codes) == len(scores) == 0
