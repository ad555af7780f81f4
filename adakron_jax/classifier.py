"""`TextClassifier`: texts in, predictions out."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.data.examples import Examples
from adakron_jax.data.frames import is_frame, of_frame
from adakron_jax.data.labels import SURROGATE
from adakron_jax.data.table import Table
from adakron_jax.data.texts import texts as text_cells
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.evaluation.assessment import Assessment, assess
from adakron_jax.hub.models import locate
from adakron_jax.methods import Full
from adakron_jax.model import attach, check_finite, fuse
from adakron_jax.params import Tree, flatten, split_params
from adakron_jax.predictor import logits_of, on_device
from adakron_jax.problems import Prediction, Problem
from adakron_jax.splice import is_added, is_trainable
from adakron_jax.tokenizer import Tokenizer

WINDOW = 8192  # texts that are sorted and packed at a time
CHARACTERS = 2**24  # of them at most, or one text
Text = str | tuple[str, str] | list[str]


class TextClassifier:
    """A trained adapter on its encoder, and the tokenizer. Several threads may use one at once.

    >>> import adakron_jax as ak
    >>> classifier = ak.TextClassifier.load("runs/reviews")
    >>> classifier.predict("a fine film").label in ("negative", "positive")
    True
    >>> [round(sum(each.probabilities.values()), 3) for each in classifier.predict(["a fine film", "a poor one"])]
    [1.0, 1.0]

    Attributes:
      model, params: as `from_pretrained` gives them.
      card: what the adapter says of itself: labels, problem, method, scores.
      tokenizer: the encoder's.
      result, table: of one that `train.fit` gave: the record of its run, and a frame of the grid's cells.
    """

    result: Any = None
    table: Any = None

    def __init__(self, model: SequenceClassifier, params: Tree, card: Card, tokenizer: Tokenizer):
        self.model, self.card, self.tokenizer = model, card, tokenizer
        self._params, self._placed = params, on_device(params, model)

    @classmethod
    def load(cls, run: str | Path, base: str = "", *, dtype: Any = "auto") -> "TextClassifier":
        """The classifier of a run's folder, or of an adapter's.

        Args:
          run: the folder.
          base: the encoder; by default the one that the adapter names.
          dtype: the precision it computes in, as `from_pretrained` takes it.

        Raises:
          ValueError: there is no adapter, it is damaged, or it was trained on another encoder.
        """
        model, params, card = attach(str(run), base, dtype)
        return cls(model, params, card, Tokenizer(locate(base or card.base), model.config.vocab_size))

    @property
    def params(self) -> Tree:
        return self._params

    @property
    def problem(self) -> Problem:
        return self.card.problem

    @overload
    def predict(self, texts: str | tuple[str, str], *, with_logits: bool = False) -> Prediction: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def predict(self, texts: Iterator[Text], *, with_logits: bool = False) -> Iterator[Prediction]: ...
    @overload
    def predict(self, texts: Iterable[Text], *, with_logits: bool = False) -> list[Prediction]: ...
    def predict(self, texts: Any, *, with_logits: bool = False) -> Any:
        """The prediction of one text, or those of many in their order.

        Texts are taken a window at a time, sorted by length and packed within it.

        Args:
          texts: a text, or a tuple of two texts that are read together; any iterable of texts or pairs, for a list; an
            iterator of them, for an iterator that reads on only as it is read; or a frame of pandas, polars, pyarrow
            or `datasets`, for a list, whose columns are those that the adapter names.

        Raises:
          ValueError: something is neither a text nor a pair of texts, or pairs and single texts are mixed.
        """
        if isinstance(texts, str | tuple):
            return next(self._stream(iter([texts]), with_logits))
        stream = self._stream(self._examples(texts), with_logits)
        return stream if isinstance(texts, Iterator) else list(stream)

    def _stream(self, texts: Iterator[Text], with_logits: bool) -> Iterator[Prediction]:
        for columns in _windows(texts):
            yield from self.problem.predictions(self.logits(columns), with_logits)

    def _examples(self, given: Any) -> Iterator[Text]:
        """Texts or pairs of what `predict` is given, of a frame its text columns."""
        if is_frame(given):
            columns = text_cells(of_frame(given, names := self.card.texts or ("text",)), names)
            return iter(columns[0]) if len(columns) == 1 else zip(*columns, strict=True)
        if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
            raise ValueError(f"texts are {given!r:.60}; accepted: a text, a pair, an iterable of them, or a frame")
        return iter(given)

    def encode(self, columns: Sequence[Sequence[str]]) -> Examples:
        """The texts of examples, or their first and their second texts, as the model reads them."""
        if (count := len(self.card.texts)) and len(columns) != count:
            raise ValueError(
                f"{len(columns)} texts an example; accepted: {count}, of which the model was trained "
                f"({' and '.join(self.card.texts)})"
            )
        return self.tokenizer.encode(columns, self.card.max_length)

    def logits(self, columns: Sequence[Sequence[str]]) -> Float[np.ndarray, "examples outputs"]:
        """Logits of all texts, or of all pairs given as first and as second texts; a window of them at a time."""
        windows = [[column[i : i + WINDOW] for column in columns] for i in range(0, max(1, len(columns[0])), WINDOW)]
        return np.concatenate([self.logits_of(self.encode(window)) for window in windows])

    def logits_of(self, examples: Examples) -> Float[np.ndarray, "examples outputs"]:
        """Logits of what `encode` gave."""
        return logits_of(self.model, self._placed, examples)

    def evaluate(self, texts: Iterable[Text], labels: Iterable[Any]) -> Assessment:
        """Every metric of the problem, with its interval, and where predictions go wrong.

        Args:
          texts: as `predict` takes several.
          labels: of each text its label, of a multilabel problem a list of labels, of a regression a number.

        Raises:
          ValueError: there is no text, not one label for each, or one that the problem does not have.
        """
        texts = list(self._examples(texts))
        cells = [label.item() if isinstance(label, np.generic) else label for label in labels]
        if not texts or len(texts) != len(cells):
            raise ValueError(f"{len(cells)} labels of {len(texts)} texts; accepted: one for each, and at least one")
        expected = self.problem.targets(Table("labels", range(len(cells)), {"label": cells}), ("label",))
        logits = [self.logits(columns) for columns in _windows(iter(texts))]
        return assess(self.problem, expected, np.concatenate(logits), texts)

    def fuse(self) -> "TextClassifier":
        """The same with the method fused into the encoder, which then costs nothing more than a plain one.

        Raises:
          ValueError: the method does not fuse; those that do are named.
        """
        model, params = fuse(self.model, self.params)
        before, trains = flatten(self.params), is_trainable(model.method)
        changed = (
            path for path, leaf in flatten(params).items() if not is_added(path) and leaf is not before.get(path)
        )
        if not all(map(trains, changed)):
            model = model.clone(method=Full())  # as an adapter that is all of the encoder, it can still be saved
        return TextClassifier(model, params, dataclasses.replace(self.card, method=model.method), self.tokenizer)

    def save(self, folder: str | Path) -> None:
        """Writes the portable adapter's folder."""
        tree, _ = split_params(self.params, adapter.is_portable(self.model.method))
        check_finite(tree)
        adapter.save(Path(folder), tree, self.card)


def _windows(texts: Iterator[Any]) -> Iterator[list[list[str]]]:
    """Windows of texts, as `logits` takes them; the last text of one may be beyond the limit of characters."""
    numbered = enumerate(texts)
    while True:
        window, characters = [], 0
        for number, text in itertools.islice(numbered, WINDOW):
            window.append(_example(text, number, like=window[0] if window else None))
            characters += sum(map(len, window[-1]))
            if characters > CHARACTERS:
                break
        if not window:
            return
        yield [list(column) for column in zip(*window, strict=True)]


def _example(text: Any, number: int, like: tuple[str, ...] | None) -> tuple[str, ...]:
    """One text or a pair, as many as another example has."""
    parts = (text,) if isinstance(text, str) else text
    valid = isinstance(parts, tuple | list) and len(parts) in ((1, 2) if like is None else (len(like),))
    if not valid or not all(isinstance(part, str) and not SURROGATE.search(part) for part in parts):
        raise ValueError(f"text {number} is {text!r:.60}; accepted: texts alone, or pairs of texts throughout")
    return tuple(parts)
