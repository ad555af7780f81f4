"""Tokens: entities in a text, from a tag for every word."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from adakron_jax.data.examples import Examples, Texts, ignore
from adakron_jax.data.labels import listed
from adakron_jax.data.sentences import Sentences, cells
from adakron_jax.data.table import Table
from adakron_jax.entities import scores as scoring
from adakron_jax.entities.decode import DECODES, decode
from adakron_jax.entities.pieces import NONE, decoded_words, encode_words, on_all_pieces, word_offsets
from adakron_jax.entities.ragged import Ragged
from adakron_jax.entities.spans import Entity, entities
from adakron_jax.entities.tagged import Tagged
from adakron_jax.entities.tags import OUTSIDE, TagSet, is_tag, labels_of, mended, parted, scheme_of, to_bio
from adakron_jax.evaluation.assessment import Assessment
from adakron_jax.evaluation.entities import examined
from adakron_jax.evaluation.metrics import CONFIDENCE, RESAMPLES
from adakron_jax.evaluation.plots import reliability
from adakron_jax.problems.labelled import Named
from adakron_jax.problems.problem import Problem


@dataclasses.dataclass(frozen=True)
class Tokens(Named):
    """Targets are the words' codes in BIO; the loss is the cross-entropy of every labelled token.

    Attributes:
      decode: how logits become tags: `viterbi` or `argmax`.
      scheme: the scheme of a table's tags: `auto`, or `words`, in which each word's tag is a separate entity's kind.
      pieces: which of a word's pieces carry its label in training: `first` or `all`.
    """

    decode: str = "viterbi"
    scheme: str = "auto"
    pieces: str = "first"

    def __post_init__(self):
        super().__post_init__()
        if self.decode not in DECODES:
            raise ValueError(f"decode is {self.decode!r}; accepted: {', '.join(DECODES)}")

    name = "tokens"
    reads = "token"
    metrics = scoring.METRICS
    transformers_type = ""
    mistakes_title = "most confident mistakes: [what there is], {what is predicted}"
    label_heads = "kind", "entities"
    counted = "kind of entity", "kinds of entity"
    when_long = "read in windows of"
    cell_types = {"entities": [Entity("", 0, 0, "", 0.0).to_dict()]}

    @functools.cached_property
    def tags(self) -> TagSet:
        """The meaning of the labels."""
        return TagSet(self.labels)

    @property
    def shown(self) -> Sequence[str]:
        return self.tags.kinds

    @property
    def classes(self) -> tuple[str, ...]:
        """The kinds of entity, and none."""
        return (*self.tags.kinds, "none")

    # Labels in tables

    @classmethod
    def of_names(cls, labels: Sequence[str]) -> Problem:
        """Takes tags as they are; kinds of entity, if none of them is a tag, as all their tags in BIO."""
        tagged = any(label == OUTSIDE or isinstance(label, str) and is_tag(label) for label in labels)
        return cls(tuple(labels) if tagged or not labels else labels_of(labels))

    @classmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Accepts lists beside lists of words, or lists of spans."""
        if len(columns) > 1:
            return False
        cells = table[columns[0]]
        if any(isinstance(cell, list) and any(isinstance(item, dict) for item in cell) for cell in cells):
            return True
        words = next((table[name] for name in table.columns if name not in columns), [None])
        return all(isinstance(cell, list) for cell in (*cells, *words))

    @classmethod
    def infer(cls, table: Table, columns: Sequence[str], scheme: str = "auto", pieces: str = "first") -> "Tokens":
        """Takes the kinds of the tags, in order; ValueError if the tags follow no scheme, or name no kind."""
        (column,) = columns
        tagged = _tagged(table, columns)
        if scheme == "words":
            tags = {tag for sentence in tagged.tags for tag in sentence}
            return cls((*({OUTSIDE} & tags), *to_bio(sorted(tags - {OUTSIDE}), scheme)), scheme=scheme, pieces=pieces)
        try:
            scheme_of(tagged.tags)
        except ValueError as error:
            message = f"{table.origin}: {column} has the {error}; scheme words takes each tag as a kind"
            raise ValueError(message) from None
        kinds = {parted(tag)[1] for sentence in tagged.tags for tag in sentence if tag != OUTSIDE}
        if not kinds:
            raise ValueError(f"{table.origin}: {column} has no entity; accepted: at least one")
        return cls(labels_of(sorted(kinds)), pieces=pieces)

    def targets(self, table: Table, columns: Sequence[str]) -> Ragged:
        (column,) = columns
        codes, ends = [], [0]
        for row, sentence in enumerate(_tagged(table, columns).tags):
            try:
                codes += self.tags.codes(to_bio(sentence, self.scheme) if self.scheme == "words" else sentence)
            except ValueError as error:
                raise ValueError(f"{table.at(row)}: {column} has the kind {error}") from None
            ends.append(len(codes))
        return Ragged(np.array(codes, np.int32), np.array(ends))

    def respelled(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        """Yields the scheme of the tags, and what was repaired in reading them."""
        tagged = _tagged(table, columns)
        scheme = self.scheme if self.scheme == "words" else scheme_of(tagged.tags)
        yield f"note: tags are read as {scheme}"
        if scheme == "BIO" and (count := sum(mended(sentence, to_bio(sentence)) for sentence in tagged.tags)):
            yield f"note: {count:,} entities begin with I-, and are read as if with B-"
        if tagged.cut:
            yield f"note: {tagged.cut:,} spans begin or end within a word, all of which is then taken"

    def notes(self, targets: Mapping[str, Ragged]) -> Iterator[str]:
        """Yields the kinds that training never sees."""
        codes = np.unique(targets["train"].values)
        trained = set(self.tags.types[codes].tolist())
        if missing := [kind for number, kind in enumerate(self.tags.kinds) if number not in trained]:
            yield f"note: no training row has {listed(missing)}"

    # Examples

    def read(self, table: Table, columns: Sequence[str]) -> list[list[Any]]:
        if len(columns) != 1:
            raise ValueError(f"text is {' '.join(columns)}; accepted: one column, which holds the entities")
        return [list(cells(table, columns[0]))]

    def encode(
        self,
        tokenizer: Any,
        columns: Sequence[Sequence[Any]],
        max_length: int,
        done: Callable[[int], None] = ignore,
    ) -> Examples:
        if len(columns) != 1:
            raise ValueError(f"{len(columns)} texts per example; accepted: one, which holds the entities")
        sentences = Sentences.of_cells(columns[0])
        return dataclasses.replace(encode_words(tokenizer, sentences, max_length, done=done), sentences=sentences)

    def labelled(self, examples: Examples, targets: Ragged) -> Examples:
        if not len(examples.tokens):  # only their number matters
            ends = targets.offsets
            return dataclasses.replace(examples, labels=targets.values, offsets=ends, rows=np.arange(len(targets)))
        labels = examples.labels.copy()
        labels[labels >= 0] = targets.values
        return dataclasses.replace(examples, labels=labels)

    def targets_of(self, examples: Examples) -> Ragged:
        return self.arranged(examples, examples.labels[examples.labels >= 0])

    def arranged(self, examples: Examples, logits: np.ndarray) -> Ragged:
        return Ragged(logits, word_offsets(examples), examples.sentences)

    def joined(self, logits: Sequence[Ragged]) -> Ragged:
        return Ragged.joined(logits)

    def texts_of(self, examples: Examples, tokenizer: Any) -> Callable[[int], Texts]:
        """Returns a function from a sentence's number to its words."""
        return functools.partial(decoded_words, tokenizer, examples)

    # Training

    @staticmethod
    def losses(logits: Float[Array, "*batch outputs"], targets: Int[Array, " *batch"]) -> Float[Array, " *batch"]:
        import optax

        return optax.softmax_cross_entropy_with_integer_labels(logits, targets.clip(0))

    def standardize(self, targets: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " tokens"]:
        """Returns the label of each token's code."""
        targets = on_all_pieces(targets) if self.pieces == "all" else targets
        label = self.tags.label[targets.clip(0)]
        return np.where((targets >= 0) & (label >= 0), label, NONE).astype(np.int32)

    def strata(self, targets: Ragged) -> Int[np.ndarray, " examples"]:
        """Returns the rarest kind in each sentence."""
        held = self._held(targets)
        rarest = np.argsort(held.sum(axis=0), kind="stable")
        return np.where(held.any(axis=1), held[:, rarest].argmax(axis=1), held.shape[1])

    def carriers(self, targets: Ragged) -> Iterator[np.ndarray]:
        held = self._held(targets)
        return (np.flatnonzero(held[:, kind]) for kind in range(held.shape[1]))

    def _held(self, targets: Ragged) -> np.ndarray:
        """Returns whether each sentence has an entity of each kind."""
        return self._compared(targets, targets).counts[..., scoring.WANTED] > 0

    # Predictions

    def predict(self, logits: Ragged) -> Ragged:
        return logits.like(self._decoded(logits)[0])

    def _decoded(self, logits: Ragged) -> tuple[np.ndarray, np.ndarray]:
        return decode(logits.values, logits.offsets, self.tags, self.decode)

    def predictions(self, logits: Ragged, with_logits: bool = False) -> list[list[Entity]]:
        assert logits.sentences is not None
        codes, sure = self._decoded(logits)
        words = logits.sentences
        return entities(codes, sure, logits.offsets, self.tags.kinds, words.texts, words.bounds)

    def as_columns(self, logits: Ragged, probabilities: bool = False) -> dict[str, list[Any]]:
        return {"entities": [[entity.to_dict() for entity in row] for row in self.predictions(logits)]}

    def record(self, prediction: list[Entity], probabilities: bool = False) -> dict[str, Any]:
        return {"entities": [entity.to_dict() for entity in prediction]}

    def collapsed(self, logits: Ragged) -> bool:
        return not (self.predict(logits).values > 0).any()

    def constant(self, targets: Ragged) -> str:
        return OUTSIDE

    def constant_loss(
        self, targets: Int[np.ndarray, " tokens"], weights: Float[np.ndarray, " examples"] | None
    ) -> float:
        shares = np.bincount(targets[targets >= 0]) / max(1, (targets >= 0).sum())
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())

    def served(self, prediction: list[Entity]) -> list[dict[str, Any]]:
        """Returns what the hub's API sends for token classification."""
        return [
            {
                "entity_group": entity.label,
                "score": entity.score,
                "word": entity.text,
                "start": entity.start,
                "end": entity.end,
            }
            for entity in prediction
        ]

    # Evaluation

    def scores(self, targets: Ragged, predictions: Ragged, names: Sequence[str] = ()) -> dict[str, float]:
        values = self._compared(targets, predictions).scores()
        return {name: values[name] for name in names or self.metrics}

    def intervals(self, targets: Ragged, predictions: Ragged) -> dict[str, tuple[float, float]]:
        return self._compared(targets, predictions).intervals(CONFIDENCE, RESAMPLES, seed=0)

    def _compared(self, targets: Ragged, predictions: Ragged) -> scoring.Compared:
        return scoring.compare(targets.values, predictions.values, targets.offsets, len(self.tags.kinds))

    def examine(
        self, targets: Ragged, predictions: Ragged, logits: Ragged, texts: Callable[[int], Texts]
    ) -> dict[str, Any]:
        return examined(targets, predictions, logits, self._decoded(logits)[1], self.tags.kinds, texts)

    def plot(self, assessment: Assessment, salt: str) -> tuple[str, str]:
        return "Calibration", reliability(assessment, salt, "probability of an entity", "share that is right")


def _tagged(table: Table, columns: Sequence[str]) -> Tagged:
    if len(columns) > 1:
        raise ValueError(f"label is {' '.join(columns)}; accepted: one column of tags, or of spans")
    beside = next(name for name in table.columns if name not in columns)
    return Tagged.of_table(table, columns[0], Sentences.of_table(table, beside))
