"""Scores of entities: seqeval's on drawn tags, and kinds of error by hand."""

import math

import numpy as np
import pytest
from seqeval import metrics as seqeval
from seqeval.scheme import IOB2

from adakron_jax.entities.scores import METRICS, by_kind, compare, errors
from adakron_jax.entities.spans import entities, spans
from adakron_jax.entities.tags import labels_of

KINDS = ("a", "b", "c")
LABELS = labels_of(KINDS)


def drawn(seed: int, sentences: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tags that keep no rules, their predictions, and where the sentences begin; some are empty."""
    random = np.random.default_rng(seed)
    offsets = np.r_[0, np.cumsum(random.integers(0, 15, sentences))]
    targets = random.choice(len(LABELS), offsets[-1], p=[0.3, 0.15, 0.2, 0.1, 0.15, 0.05, 0.05]).astype(np.int32)
    changed = random.random(len(targets)) < 0.3
    return targets, np.where(changed, random.integers(0, len(LABELS), len(targets)), targets).astype(np.int32), offsets


def sentences_of(codes: np.ndarray, offsets: np.ndarray) -> list[list[str]]:
    return [[LABELS[code] for code in part] for part in np.split(codes, offsets[1:-1])]


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_seqevals_strict_ones(seed: int):
    targets, predictions, offsets = drawn(seed)
    both = sentences_of(targets, offsets), sentences_of(predictions, offsets)
    compared = compare(targets, predictions, offsets, len(KINDS))
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    given = {
        "entity_f1": seqeval.f1_score(*both, **strict),
        "entity_precision": seqeval.precision_score(*both, **strict),
        "entity_recall": seqeval.recall_score(*both, **strict),
        "entity_macro_f1": seqeval.f1_score(*both, average="macro", **strict),
        "token_accuracy": seqeval.accuracy_score(*both),
    }
    assert compared.scores() == pytest.approx(given, abs=1e-12)
    report = seqeval.classification_report(*both, output_dict=True, **strict)
    rows = [[report[kind][name] for name in ("precision", "recall", "f1-score")] for kind in KINDS]
    np.testing.assert_allclose(by_kind(compared.counts), rows, atol=1e-12)


def test_sentences_without_entities_score_nothing(recwarn: pytest.WarningsRecorder):
    nothing = np.zeros(5, np.int32)
    compared = compare(nothing, nothing, np.array([0, 3, 5]), 3)
    assert compared.scores() == dict.fromkeys(METRICS, 0.0) | {"token_accuracy": 1.0}
    assert not recwarn.list


def test_intervals_are_those_of_sentences_drawn_again():
    targets, predictions, offsets = drawn(0, sentences=200)
    compared = compare(targets, predictions, offsets, len(KINDS))
    intervals, scores = compared.intervals(0.95, 300, seed=1), compared.scores()
    for name, (low, high) in intervals.items():
        assert low < scores[name] < high
    # A share of about as many draws as there are words has about this deviation.
    low, high = intervals["token_accuracy"]
    accuracy = scores["token_accuracy"]
    deviation = math.sqrt(accuracy * (1 - accuracy) / len(targets))
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.2)
    assert compared.intervals(0.95, 300, seed=1) == intervals


def test_each_kind_of_error_is_told_apart():
    #          right      kind    boundary      both      missed spurious  twice
    targets = ["B-a I-a O  B-b  O  B-a I-a I-a O B-a I-a O  B-c  O  O   O  B-a I-a I-a"]
    guesses = ["B-a I-a O  B-c  O  B-a I-a O   O O   B-b O  O    O  B-c O  B-a I-a B-a"]
    codes = [np.array([LABELS.index(tag) for tag in line[0].split()], np.int32) for line in (targets, guesses)]
    told, confusion = errors(*codes, np.array([0, len(codes[0])]), 3)
    assert told == {"right": 1, "kind": 1, "boundary": 2, "both": 1, "missed": 1, "spurious": 2}
    assert confusion == ((3, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 0))


@pytest.mark.parametrize("seed", range(5))
def test_every_entity_and_every_prediction_is_counted_once(seed: int):
    targets, predictions, offsets = drawn(seed)
    told, confusion = errors(targets, predictions, offsets, len(KINDS))
    compared = compare(targets, predictions, offsets, len(KINDS))
    hits, wanted, given = compared.counts.sum((0, 1))
    paired = told["right"] + told["kind"] + told["boundary"] + told["both"]
    assert (told["right"], paired + told["missed"], paired + told["spurious"]) == (hits, wanted, given)
    matrix = np.array(confusion)
    assert matrix.sum() == paired + told["missed"] + told["spurious"]
    assert np.trace(matrix[:-1, :-1]) == told["right"] + told["boundary"]


def test_an_entity_is_a_part_of_the_text_with_the_mean_of_its_words_scores():
    text = "Anaïs \U0001f469‍\U0001f680 of Nu\u0301ñez"
    bounds = np.array([[0, 5], [6, 9], [10, 12], [13, len(text)]])
    codes = np.array([1, 2, 0, 3], np.int32)
    scores = np.array([0.5, 1.0, 0.9, 0.25])
    (held, nothing) = entities(codes, scores, np.array([0, 4, 4]), KINDS, [text, "..."], bounds)
    assert [(e.label, e.start, e.end, e.text, e.score) for e in held] == [
        ("a", 0, 9, text[:9], 0.75),
        ("b", 13, len(text), "Nu\u0301ñez", 0.25),
    ]
    assert nothing == []


def test_a_kind_does_not_go_on_across_sentences():
    whole = spans(np.array([1, 2, 2, 2], np.int32), np.array([0, 2, 2, 4]))
    assert (whole.start.tolist(), whole.end.tolist(), whole.types.tolist()) == ([0], [2], [0])
