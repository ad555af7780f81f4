"""Evaluation of entities: by kind, by sort of error, and the mistakes, each marked in its text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from adakron_jax.data.examples import Texts
from adakron_jax.data.sentences import Sentences
from adakron_jax.entities.ragged import Ragged
from adakron_jax.entities.scores import WANTED, by_kind, compare, errors, paired, same
from adakron_jax.entities.spans import Spans, spans
from adakron_jax.evaluation.assessment import LabelScores, Mark, Mistake, calibration, mistakes

Sentence = Callable[[int], tuple[str, list[list[int]]]]  # from a number to the text and the bounds of its words


def examined(
    targets: Ragged,
    predictions: Ragged,
    logits: Ragged,
    scores: Float[np.ndarray, " words"],
    kinds: Sequence[str],
    texts: Callable[[int], Texts],
) -> dict[str, Any]:
    """Returns the fields of an assessment except the metrics and their intervals.

    Args:
      scores: the probability of each word's label.
      texts: from a sentence's number to its words, for `logits` that lack them.
    """
    codes, offsets = (targets.values, predictions.values), targets.offsets
    numbers, confusion = errors(*codes, offsets, len(kinds))
    counts = compare(*codes, offsets, len(kinds)).counts
    wanted, given = (spans(of, offsets) for of in codes)

    def sentence(row: int) -> tuple[str, list[list[int]]]:
        words, row = (logits.sentences, row) if logits.sentences else (Sentences.of_words([list(texts(row))]), 0)
        return words.texts[row], words.bounds_of(row)

    support = counts.sum(0)[:, WANTED].tolist()
    rows = zip(kinds, by_kind(counts).tolist(), support, strict=True)
    return {
        "labels": tuple(LabelScores(kind, p, r, f1, count) for kind, (p, r, f1), count in rows),
        "confusion": confusion,
        "errors": numbers,
        **calibration(given.means(scores), same(given, wanted)),
        "mistakes": entity_mistakes(wanted, given, scores, offsets, kinds, sentence),
    }


def entity_mistakes(
    wanted: Spans,
    given: Spans,
    scores: Float[np.ndarray, " words"],
    offsets: Int[np.ndarray, " ends"],
    kinds: Sequence[str],
    sentence: Sentence,
) -> tuple[Mistake, ...]:
    """Returns wrong predictions, and entities that no prediction touches, by the certainty of their words.

    Args:
      wanted, given: the target entities, and the predicted ones.
      scores: the probability of each word's label.
      offsets: where each sentence's words begin, and where the last one's end [sentences + 1].
    """
    partner = {j: i for i, j in paired(wanted, given)}
    about: list[tuple[int | None, int | None]] = [(partner.get(j), j) for j in range(len(given))]
    missed = np.setdiff1d(np.arange(len(wanted)), list(partner.values())).tolist()
    about += [(i, None) for i in missed]
    right = np.r_[same(given, wanted), np.zeros(len(missed), bool)]
    weights = np.r_[given.means(scores), wanted.means(scores)[missed]]

    def sentence_of(which: Spans, number: int) -> int:
        return int(np.searchsorted(offsets, which.start[number], side="right")) - 1

    def bounds(which: Spans, number: int) -> tuple[int, int]:
        row = sentence_of(which, number)
        first, last = which.start[number] - offsets[row], which.end[number] - offsets[row] - 1
        words = sentence(row)[1]
        return words[first][0], words[last][1]

    def both(case: int) -> list[tuple[str, Spans, int | None]]:
        return [("target", wanted, about[case][0]), ("predicted", given, about[case][1])]

    def text(case: int) -> str:
        return next(sentence(sentence_of(which, number))[0] for _, which, number in both(case) if number is not None)

    def named(case: int, which: Spans, number: int | None) -> str:
        if number is None:
            return "none"
        start, end = bounds(which, number)
        return f"{kinds[which.types[number]]}: {text(case)[start:end]}"

    def described(case: int) -> tuple[str, str]:
        target, prediction = (named(case, which, number) for _, which, number in both(case))
        return target, prediction

    def marks(case: int) -> tuple[Mark, ...]:
        return tuple((*bounds(which, number), what) for what, which, number in both(case) if number is not None)

    return mistakes(np.where(right, -1.0, weights), text, described, marks)
