"""Decoding of words' logits to tags that follow BIO's rules."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from adakron_jax.entities.tags import TagSet

Decode = Literal["viterbi", "argmax"]
DECODES: tuple[str, ...] = get_args(Decode)


def decode(
    logits: Float[np.ndarray, "words labels"],
    offsets: Int[np.ndarray, " ends"],
    tags: TagSet,
    how: str = "viterbi",
) -> tuple[Int[np.ndarray, " words"], Float[np.ndarray, " words"]]:
    """Returns every word's code in BIO, by the tag set's kinds, and the probability of the label that gave it.

    `viterbi` takes the most probable labels among the sequences that the rules allow. `argmax` takes the most probable
    label of each word; an inside label that nothing began then begins an entity.

    Args:
      logits: of all sentences, concatenated.
      offsets: where each sentence begins, and where the last one ends [sentences + 1].
    """
    labels = logits.argmax(-1) if how == "argmax" else viterbi(logits, offsets, tags)
    odds = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    scores = np.take_along_axis(odds, labels[:, None], -1)[:, 0] / odds.sum(-1)
    return as_bio(labels, offsets, tags), scores


def as_bio(
    labels: Int[np.ndarray, " words"], offsets: Int[np.ndarray, " ends"], tags: TagSet
) -> Int[np.ndarray, " words"]:
    """Converts words' labels to codes in BIO; an entity begins where none of its kind is open."""
    if not len(labels):
        return np.zeros(0, np.int32)
    kind, closes = tags.types[labels], tags.closes[labels]
    open_before = np.r_[-1, np.where(closes, -1, kind)[:-1]]
    open_before[offsets[:-1][offsets[:-1] < len(labels)]] = -1
    begins = tags.begins[labels] | (kind != open_before)
    return np.where(kind < 0, 0, 2 + 2 * kind - begins).astype(np.int32)


def viterbi(
    logits: Float[np.ndarray, "words labels"], offsets: Int[np.ndarray, " ends"], tags: TagSet
) -> Int[np.ndarray, " words"]:
    """Returns the allowed sequence of labels with the largest sum of logits; computes all sentences at once."""
    lengths = np.diff(offsets)
    longest_first = np.argsort(-lengths, kind="stable")
    starts, lengths = offsets[:-1][longest_first], lengths[longest_first]
    bound = np.flatnonzero(tags.bound)
    before = _before(tags, bound)
    came_from = np.zeros(logits.shape, np.int32)
    best = np.where(tags.bound, -np.inf, 0.0)[None] + logits[starts[lengths > 0]]
    final = np.zeros(len(starts), np.int64)
    for step in range(1, int(lengths.max(initial=0)) + 1):
        going = int((lengths > step).sum())
        final[going : len(best)] = best[going:].argmax(-1)
        best = best[:going]
        at = starts[:going] + step
        source = np.repeat(best.argmax(-1)[:, None], logits.shape[1], 1)
        # A bound label may follow only labels of its kind that do not close it.
        candidates = best[:, before]
        choice = candidates.argmax(-1)
        source[:, bound] = before[np.arange(len(bound)), choice]
        came_from[at] = source
        best = np.take_along_axis(best, source, 1) + logits[at]
    return _traced_back(came_from, starts, lengths, final)


def _before(tags: TagSet, bound: Int[np.ndarray, " bound"]) -> Int[np.ndarray, "bound candidates"]:
    """Returns the labels that may precede each bound one, padded by repeating the first."""
    allowed = [np.flatnonzero((tags.types == tags.types[code]) & ~tags.closes) for code in bound]
    most = max(map(len, allowed), default=1)
    rows = [np.r_[codes, np.repeat(codes[:1], most - len(codes))] for codes in allowed]
    return np.array(rows, np.int64).reshape(len(bound), most)


def _traced_back(
    came_from: Int[np.ndarray, "words labels"],
    starts: Int[np.ndarray, " sentences"],
    lengths: Int[np.ndarray, " sentences"],
    final: Int[np.ndarray, " sentences"],
) -> Int[np.ndarray, " words"]:
    labels = np.zeros(len(came_from), np.int64)
    current = final
    for step in range(int(lengths.max(initial=0)) - 1, -1, -1):
        going = int((lengths > step).sum())
        at = starts[:going] + step
        labels[at] = current[:going]
        current = np.r_[came_from[at, current[:going]], current[going:]]
    return labels
