"""Scores of entities: strict ones, as in seqeval's strict BIO, and the ways in which entities are missed.

An entity is right if a prediction has its first word, its last word and its kind.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from adakron_jax.entities.spans import Spans, spans

METRICS = ("entity_f1", "entity_precision", "entity_recall", "entity_macro_f1", "token_accuracy")
ERRORS = {
    "right": "right",
    "kind": "the words right, as another kind",
    "boundary": "the kind right, at other words",
    "both": "as another kind, at other words",
    "missed": "missed",
    "spurious": "predicted where there is none",
}
HITS, WANTED, GIVEN = range(3)  # entities that are right, in the targets, and predicted
Codes = Int[np.ndarray, " words"]  # in BIO, of all sentences, concatenated
Counts = Int[np.ndarray, "sentences kinds 3"]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Counts of predicted tags against the targets, by sentence.

    Attributes:
      counts: for each sentence and kind, the number of entities that are right, in the targets, and predicted.
      words: for each sentence, the number of words with the right tag, and of all words [sentences, 2].
    """

    counts: Counts
    words: Int[np.ndarray, "sentences 2"]

    def __len__(self) -> int:
        return len(self.counts)

    def scores(self) -> dict[str, float]:
        """Computes every metric over all sentences."""
        return _scores(self.counts.sum(0), self.words.sum(0))

    def intervals(self, confidence: float, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
        """Computes each metric's percentile bootstrap interval over sentences: it holds `confidence` of resamples."""
        random, drawn = np.random.default_rng(seed), []
        counts, words = self.counts.reshape(len(self), -1).astype(np.float64), self.words.astype(np.float64)
        for _ in range(resamples):
            times = np.bincount(random.integers(len(self), size=len(self)), minlength=len(self)).astype(np.float64)
            drawn.append(_scores((times @ counts).reshape(self.counts.shape[1:]), times @ words))
        values = [[scores[name] for name in METRICS] for scores in drawn]
        low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(METRICS)}


def compare(targets: Codes, predictions: Codes, offsets: Int[np.ndarray, " ends"], kinds: int) -> Compared:
    """Compares predicted tags with the targets.

    Args:
      offsets: where each sentence begins, and where the last one ends [sentences + 1].
    """
    wanted, given = spans(targets, offsets), spans(predictions, offsets)
    right = same(wanted, given)
    sentences = len(offsets) - 1
    wanted_cells, given_cells = (entities.sentences(offsets) * kinds + entities.types for entities in (wanted, given))
    counted = [
        np.bincount(cells, minlength=sentences * kinds) for cells in (wanted_cells[right], wanted_cells, given_cells)
    ]
    counts = np.stack(counted, axis=-1).reshape(sentences, kinds, 3)
    agree = np.r_[0, np.cumsum(targets == predictions)]
    return Compared(counts, np.stack([np.diff(agree[offsets]), np.diff(offsets)], axis=-1))


def by_kind(counts: Counts) -> Float[np.ndarray, "kinds 3"]:
    """Returns precision, recall and F1 of each kind; 0 where the denominator is 0."""
    return _shares(counts.sum(0))


def _scores(counts: Num[np.ndarray, "kinds 3"], words: Num[np.ndarray, " 2"]) -> dict[str, float]:
    precision, recall, f1 = _shares(counts.sum(0))
    # A kind that does not occur does not count in these sentences.
    present = counts[:, WANTED] + counts[:, GIVEN] > 0
    macro = _shares(counts[present])[:, 2].mean() if present.any() else 0.0
    accuracy = words[0] / max(words[1], 1)
    return dict(zip(METRICS, map(float, (f1, precision, recall, macro, accuracy)), strict=True))


def _shares(counts: Num[np.ndarray, "*kinds 3"]) -> Float[np.ndarray, "*kinds 3"]:
    """Computes precision, recall and F1 from counts."""
    hits, wanted, given = counts[..., HITS], counts[..., WANTED], counts[..., GIVEN]
    divided = ((hits, given), (hits, wanted), (2 * hits, wanted + given))
    return np.stack([part / np.maximum(whole, 1) for part, whole in divided], axis=-1)


def same(spans: Spans, others: Spans) -> Bool[np.ndarray, " entities"]:
    """Returns which entities are among the others unchanged."""
    if not len(others):
        return np.zeros(len(spans), bool)
    at = np.searchsorted(others.start, spans.start).clip(max=len(others) - 1)
    pairs = ((others.start, spans.start), (others.end, spans.end), (others.types, spans.types))
    return np.logical_and.reduce([other[at] == given for other, given in pairs])


def errors(
    targets: Codes, predictions: Codes, offsets: Int[np.ndarray, " ends"], kinds: int
) -> tuple[dict[str, int], tuple[tuple[int, ...], ...]]:
    """Pairs each entity with at most one prediction, best pairs first, and counts the results.

    Returns:
      The number of each of ERRORS; and how often an entity of a kind [row] was predicted as a kind [column], where the
      last row and column are none.
    """
    wanted, given = spans(targets, offsets), spans(predictions, offsets)
    pairs = paired(wanted, given)
    matrix = np.zeros((kinds + 1, kinds + 1), np.int64)
    numbers = dict.fromkeys(ERRORS, 0)
    for i, j in pairs:
        same_kind = wanted.types[i] == given.types[j]
        same_words = wanted.start[i] == given.start[j] and wanted.end[i] == given.end[j]
        what = ("right" if same_kind else "kind") if same_words else ("boundary" if same_kind else "both")
        numbers[what] += 1
        matrix[wanted.types[i], given.types[j]] += 1
    missed = np.delete(wanted.types, [i for i, _ in pairs])
    spurious = np.delete(given.types, [j for _, j in pairs])
    matrix[:-1, -1] = np.bincount(missed, minlength=kinds)
    matrix[-1, :-1] = np.bincount(spurious, minlength=kinds)
    numbers |= {"missed": len(missed), "spurious": len(spurious)}
    return numbers, tuple(tuple(map(int, row)) for row in matrix)


def paired(wanted: Spans, given: Spans) -> list[tuple[int, int]]:
    """Returns pairs of entities and predictions with a word in common: the most similar first, then in their order."""
    candidates = []
    for i, j in overlaps(wanted, given):
        other_words = bool(wanted.start[i] != given.start[j] or wanted.end[i] != given.end[j])
        candidates.append((other_words, bool(wanted.types[i] != given.types[j]), i, j))
    pairs, taken, used = [], set(), set()
    for _, _, i, j in sorted(candidates):
        if i not in taken and j not in used:
            pairs.append((i, j))
            taken.add(i)
            used.add(j)
    return pairs


def overlaps(wanted: Spans, given: Spans) -> list[tuple[int, int]]:
    """Returns all pairs with a word in common, in order."""
    first = np.searchsorted(given.end, wanted.start, side="right")
    last = np.searchsorted(given.start, wanted.end, side="left")
    return [(i, j) for i, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)) for j in range(a, b)]
