"""`TextClassifier`, which predicts from texts, and the base class that it shares with `TokenClassifier`."""

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, overload

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.data.examples import Examples
from adakron_jax.data.frames import cells_of, frame_like, is_frame, of_frame
from adakron_jax.data.labels import SURROGATE
from adakron_jax.data.table import Table
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
from adakron_jax.xla.precision import fuses

WINDOW = 8192  # texts that are sorted and packed at a time
CHARACTERS = 2**24  # characters beyond which a window ends
Text = str | tuple[str, str] | list[str]  # a text, a pair, or the words of one text
Columns = Sequence[Sequence[Any]]  # the texts of examples, or the first and the second texts of pairs

_Kind = TypeVar("_Kind", bound="Classifier")


class Classifier(abc.ABC):
    """The base class of classifiers. Several threads may use one at once.

    Attributes:
      model, params: as returned by `from_pretrained`.
      card: the adapter's description: labels, problem, method, scores.
      tokenizer: the encoder's.
      result, table: set by `train.fit`: the record of its run, and a frame of the grid's cells.
    """

    result: Any = None
    table: Any = None
    reads: ClassVar[Literal["example", "token"]]
    accepted: ClassVar[str]  # what an example may be
    elsewhere: ClassVar[str]  # what reads adapters of the other kind

    def __init__(self, model: SequenceClassifier, params: Tree, card: Card, tokenizer: Tokenizer):
        if card.problem.reads != self.reads:
            raise ValueError(f"the adapter predicts {card.problem.described()}; accepted: {self.elsewhere}")
        self.model, self.card, self.tokenizer = model, card, tokenizer
        self._params, self._placed = params, on_device(params, model)

    @classmethod
    def load(
        cls: type[_Kind], run: str | Path, base: str = "", *, dtype: Any = "auto", trust: str | Sequence[str] = ()
    ) -> _Kind:
        """Loads the classifier of a run or an adapter.

        Args:
          run: the folder.
          base: the encoder; by default the one that the adapter names.
          dtype: the precision to compute in, as in `from_pretrained`.
          trust: modules from which an adapter of the hub may import the code of its method.

        Raises:
          ValueError: there is no adapter, it is damaged, was trained on another encoder, or predicts something else.
        """
        return cls(*loaded(run, base, dtype, trust))

    @property
    def params(self) -> Tree:
        return self._params

    @property
    def problem(self) -> Problem:
        return self.card.problem

    def __repr__(self) -> str:
        said = f"{self.card.method.name} on {self.card.base}: {self.problem.described()}"
        return f"{type(self).__name__}({said})"

    def _predict(self, texts: Any, problem: Problem, with_logits: bool = False, probabilities: bool = False) -> Any:
        if is_frame(texts):
            logits = self.logits(self._columns(texts))
            given = {"logits": logits.tolist()} if with_logits else {}
            return frame_like(texts, problem.as_columns(logits, probabilities) | given)
        if isinstance(texts, str | tuple):
            return next(self._stream(iter([texts]), problem, with_logits))
        stream = self._stream(self._examples(texts), problem, with_logits)
        return stream if isinstance(texts, Iterator) else list(stream)

    def _stream(self, texts: Iterator[Any], problem: Problem, with_logits: bool) -> Iterator[Any]:
        for columns in self._windows(texts):
            yield from problem.predictions(self.logits(columns), with_logits)

    def _examples(self, given: Any) -> Iterator[Any]:
        """Returns the examples given to `predict`; of a frame, its text columns."""
        if is_frame(given):
            columns = self._columns(given)
            return iter(columns[0]) if len(columns) == 1 else zip(*columns, strict=True)
        if isinstance(given, Mapping | bytes) or not isinstance(given, Iterable):
            raise ValueError(f"texts are {given!r:.60}; accepted: a text, a pair, an iterable of them, or a frame")
        cells = getattr(given, "to_pylist", None)  # pyarrow's cells are not texts
        return iter(cells() if cells else given)

    def _columns(self, frame: Any) -> Columns:
        """Returns a frame's text columns, under the names that the adapter has for them."""
        names = self.card.texts or ("text",)
        return self.problem.read(of_frame(frame, names), names)

    def encode(self, columns: Columns) -> Examples:
        """Encodes the texts of examples, or the first and second texts of pairs, for the model."""
        if (count := len(self.card.texts)) and len(columns) != count:
            raise ValueError(
                f"{len(columns)} texts per example; accepted: {count}, as the model was trained on "
                f"({' and '.join(self.card.texts)})"
            )
        return self.problem.encode(self.tokenizer, columns, self.card.max_length)

    def logits(self, columns: Columns) -> Any:
        """Computes logits of all examples, window by window: an array [examples, outputs], or `Ragged` for words."""
        windows = [[column[i : i + WINDOW] for column in columns] for i in range(0, max(1, len(columns[0])), WINDOW)]
        return self.problem.joined([self.logits_of(self.encode(window)) for window in windows])

    def logits_of(self, examples: Examples) -> Any:
        """Computes the logits of what `encode` returned."""
        return self.problem.arranged(examples, logits_of(self.model, self._placed, examples))

    def assess(self, columns: Columns, targets: Any, problem: Problem | None = None) -> Assessment:
        """Compares predictions of examples with their targets, as returned by `Problem.targets`."""
        texts = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        return assess(problem or self.problem, targets, self.logits(columns), texts)

    def _evaluate(self, given: Any, labels: Any, problem: Problem) -> Assessment:
        if is_frame(labels):
            raise ValueError("labels are a frame; accepted: one of its columns, or another iterable of labels")
        if labels is not None:
            cells = {"label": cells_of(labels)}
        elif is_frame(given) and self.card.label:
            cells = of_frame(given, self.card.label).columns
        else:
            raise ValueError("no labels; accepted: one for each text, or a frame with the columns that were trained on")
        texts, count = list(self._examples(given)), len(next(iter(cells.values())))
        if not texts or len(texts) != count:
            raise ValueError(f"{count} labels for {len(texts)} texts; accepted: one for each, and at least one")
        targets = problem.targets(Table("labels", range(count), {"text": texts} | cells), list(cells))
        windows = list(self._windows(iter(texts)))
        columns = [list(itertools.chain.from_iterable(parts)) for parts in zip(*windows, strict=True)]
        return self.assess(columns, targets, problem)

    def fuse(self: _Kind) -> _Kind:
        """Returns the classifier with the method fused into the encoder, which then costs no more than a plain one.

        Raises:
          ValueError: the method does not fuse; the message lists those that do.
        """
        model, params = fuse(self.model, self.params)
        before, trains = flatten(self.params), is_trainable(model.method)
        changed = (
            path for path, leaf in flatten(params).items() if not is_added(path) and leaf is not before.get(path)
        )
        if not all(map(trains, changed)):
            model = model.clone(method=Full())  # so that it can still be saved, as an adapter of the whole encoder
        return type(self)(model, params, dataclasses.replace(self.card, method=model.method), self.tokenizer)

    def save(self, folder: str | Path) -> None:
        """Writes the portable adapter's folder."""
        tree, _ = split_params(self.params, adapter.is_portable(self.model.method))
        check_finite(tree)
        adapter.save(Path(folder), tree, self.card)

    def _windows(self, texts: Iterator[Any]) -> Iterator[list[list[Any]]]:
        """Yields windows of texts for `logits`; the last text of a window may exceed the limit of characters."""
        numbered, like = enumerate(texts), None
        while True:
            window, characters = [], 0
            for number, text in itertools.islice(numbered, WINDOW):
                parts = self.parts(text)
                kind = parts and (len(parts), type(parts[0]))
                if not parts or like not in (None, kind):
                    raise ValueError(f"text {number} is {text!r:.60}; accepted: {self.accepted}")
                like = kind
                window.append(parts)
                characters += sum(len(part) if isinstance(part, str) else sum(map(len, part)) for part in parts)
                if characters > CHARACTERS:
                    break
            if not window:
                return
            yield [list(column) for column in zip(*window, strict=True)]

    @staticmethod
    @abc.abstractmethod
    def parts(text: Any) -> Sequence[Any] | None:
        """Returns the one or two cells of an example; None if it is not an example."""


class TextClassifier(Classifier):
    """A trained adapter on its encoder, with the tokenizer. Several threads may use one at once.

    >>> import adakron_jax as ak
    >>> classifier = ak.TextClassifier.load("runs/reviews")
    >>> classifier.predict("a fine film").label in ("negative", "positive")
    True
    >>> [round(sum(each.probabilities.values()), 3) for each in classifier.predict(["a fine film", "a poor one"])]
    [1.0, 1.0]

    Attributes:
      model, params: as returned by `from_pretrained`.
      card: the adapter's description: labels, problem, method, scores.
      tokenizer: the encoder's.
      result, table: set by `train.fit`: the record of its run, and a frame of the grid's cells.
    """

    reads = "example"
    accepted = "texts alone, or pairs of texts throughout"
    elsewhere = "an adapter that labels texts; ak.TokenClassifier and ak.load take this one"

    @overload
    def predict(self, texts: str | tuple[str, str], *, with_logits: bool = False) -> Prediction: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def predict(self, texts: Iterator[Text], *, with_logits: bool = False) -> Iterator[Prediction]: ...
    @overload
    def predict(self, texts: Iterable[Text], *, with_logits: bool = False) -> list[Prediction]: ...
    @overload
    def predict(self, texts: Any, *, with_logits: bool = False, probabilities: bool = False) -> Any: ...
    def predict(self, texts: Any, *, with_logits: bool = False, probabilities: bool = False) -> Any:
        """Returns the prediction for one text, or the predictions for several in their order.

        Texts are processed a window at a time; each window is sorted by length and packed.

        Args:
          texts: a text, or a tuple of two texts that are read together; any iterable of texts or pairs, which gives a
            list; an iterator of them, which gives an iterator that reads on only as it is read; or a frame of pandas,
            polars, pyarrow or `datasets` with the columns that the adapter names, which gives a frame of the same
            library, with the same index if it has one, and the columns `prediction` and `score`.
          with_logits: return logits too.
          probabilities: for a frame, add a column with each label's probability.

        Raises:
          ValueError: something is neither a text nor a pair of texts, or pairs and single texts are mixed.
        """
        return self._predict(texts, self.problem, with_logits, probabilities)

    def evaluate(self, texts: Iterable[Text] | Any, labels: Iterable[Any] | None = None) -> Assessment:
        """Computes every metric of the problem, with its interval, and where predictions go wrong.

        Args:
          texts: several texts as in `predict`, or a frame.
          labels: an iterable, or a frame's column: for each text its label, for a multilabel problem a list of labels,
            for a regression a number. By default the frame's labels, in the columns that were trained on.

        Raises:
          ValueError: there is no text, there is not one label for each, or the problem does not have a label.
        """
        return self._evaluate(texts, labels, self.problem)

    @staticmethod
    def parts(text: Any) -> Sequence[str] | None:
        parts = (text,) if isinstance(text, str) else text
        valid = isinstance(parts, tuple | list) and len(parts) in (1, 2) and all(map(is_text, parts))
        return parts if valid else None


def loaded(
    run: str | Path, base: str, dtype: Any, trust: str | Sequence[str]
) -> tuple[SequenceClassifier, Tree, Card, Tokenizer]:
    """Loads the parts of a classifier, from the arguments of `Classifier.load`."""
    model, params, card = attach(str(run), base, dtype, trust)
    model = model.clone(fused=fuses(model.dtype, devices=1))  # since its parameters are not sharded
    return model, params, card, Tokenizer(locate(base or card.base), model.config.vocab_size)


def is_text(value: Any) -> bool:
    """Returns whether the value is a text that UTF-8 can encode."""
    return isinstance(value, str) and not SURROGATE.search(value)
