"""The contract of a problem, and what all kinds of problem share."""

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Array, Float, Shaped

from adakron_jax.data.examples import Examples, Texts, ignore
from adakron_jax.data.table import Table
from adakron_jax.data.texts import texts
from adakron_jax.evaluation.metrics import METRICS, intervals

Targets = Shaped[np.ndarray, "examples *labels"]  # of problems whose head reads one vector an example
Logits = Float[np.ndarray, "examples outputs"]


@dataclasses.dataclass(frozen=True)
class Problem(abc.ABC):
    """One kind of problem: all that depends on what is predicted, from a table's cells to a page's section.

    A kind is one file beside this one and a line in `__init__.py`; nobody else asks which kind a problem is. Targets
    and logits are arrays whose first axis is examples; of a head that reads tokens, `Ragged` by sentence.

    Attributes:
      labels: names in order of their codes; none of a regression.

    Class attributes:
      name: of the kind, as `--problem` and `adapter.json` have it.
      reads: whether the head reads one vector an example or one a token.
      metrics: names; the first is the headline.
      independent: each label holds or not by itself, so that logits are not of one distribution over labels.
      transformers_type: what Hugging Face's `problem_type` calls it.
      mistakes_title, weight_head: what the list of mistakes is called, and the number that it is ordered by.
      label_heads: what a label is called, and what has one.
      when_long: what becomes of an example of more tokens than its limit, which follows.
      cell_types: of a column that `as_columns` gives, a cell that has its type, where an empty one would not tell.
    """

    labels: tuple[str, ...] = ()

    name: ClassVar[str]
    reads: ClassVar[Literal["example", "token"]] = "example"
    metrics: ClassVar[tuple[str, ...]]
    independent: ClassVar[bool] = False
    transformers_type: ClassVar[str]
    mistakes_title: ClassVar[str] = "most confident mistakes"
    weight_head: ClassVar[str] = "probability"
    label_heads: ClassVar[tuple[str, str]] = ("label", "examples")
    when_long: ClassVar[str] = "cut at"
    cell_types: ClassVar[Mapping[str, Any]] = {}

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """Logits of an example, or of a token."""

    @property
    def unit(self) -> tuple[float, float]:
        """(mean, scale) of the targets: a target is `mean + scale * logit`."""
        return 0.0, 1.0

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for every logit, for formats in which each has one."""
        return self.labels

    # JSON

    def as_json(self) -> dict[str, Any]:
        """The fields as `problems.from_json` reads them."""
        mean, scale = self.unit
        return {"problem": self.name, "labels": list(self.labels), "targets": {"mean": mean, "scale": scale}}

    # Labels in tables

    @classmethod
    @abc.abstractmethod
    def of_count(cls, labels: int) -> "Problem":
        """The problem of so many labels, named by their numbers."""

    @classmethod
    def of_names(cls, labels: Sequence[str]) -> "Problem":
        """The problem of labels with these names."""
        return cls(tuple(labels))

    @classmethod
    @abc.abstractmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Whether label columns look like this kind; the kinds are asked in turn."""

    @classmethod
    @abc.abstractmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Problem":
        """The problem that label columns pose, given its kind; ValueError names the row or column at fault."""

    @abc.abstractmethod
    def targets(self, table: Table, columns: Sequence[str]) -> Any:
        """The cells as targets, in their own unit.

        Raises:
          ValueError: a column is missing, or names the row whose cell is no label of the problem.
        """

    def named(self, table: Table, columns: Sequence[str]) -> Table:
        """The rows, with codes of labels, where there may be such, replaced by their names."""
        return table

    def respelled(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        """Lines on cells that are taken for a label which is spelled otherwise."""
        return iter(())

    def notes(self, targets: Mapping[str, Any]) -> Iterator[str]:
        """Lines on what may be a mistake in the labels of each part: `train`, and those that are evaluated."""
        return iter(())

    def undrawn(self, targets: Any) -> str:
        """Why no row may be taken from the training rows, for a message; empty if there is no reason."""
        return ""

    def is_single(self, targets: Any) -> bool:
        """Whether the targets are one class alone, so that scores say nothing."""
        return False

    # Examples

    def read(self, table: Table, columns: Sequence[str]) -> list[list[Any]]:
        """The cells of text columns as `encode` takes them; ValueError names the row whose cell is no text."""
        return texts(table, columns)

    def encode(
        self,
        tokenizer: Any,
        columns: Sequence[Sequence[Any]],
        max_length: int,
        done: Callable[[int], None] = ignore,
    ) -> Examples:
        """The texts of examples, or their first and their second texts, as the head reads them.

        Args:
          max_length: tokens of an example at most.
          done: told how many are done, every now and then.
        """
        return tokenizer.encode(columns, max_length, done)

    def labelled(self, examples: Examples, targets: Any) -> Examples:
        """Encoded examples with their targets."""
        return dataclasses.replace(examples, labels=targets)

    def targets_of(self, examples: Examples) -> Any:
        """The targets of labelled examples, as `targets` gives them."""
        return examples.labels

    def arranged(self, examples: Examples, logits: Float[np.ndarray, "examples outputs"]) -> Any:
        """What the predictor gives for examples, as the methods below take it."""
        return logits

    def joined(self, logits: Sequence[Any]) -> Any:
        """What `arranged` gave for parts of the examples, as one."""
        return np.concatenate(logits)

    def texts_of(self, examples: Examples, tokenizer: Any) -> Callable[[int], Texts]:
        """From an example's number to its texts, as far as its tokens keep them."""
        return lambda i: tokenizer.decode(examples.tokens[slice(*examples.offsets[i : i + 2])].tolist())

    # Training

    @staticmethod
    @abc.abstractmethod
    def losses(logits: Float[Array, "*batch outputs"], targets: Shaped[Array, "..."]) -> Float[Array, " *batch"]:
        """Each example's loss, of targets as `standardize` gives them."""

    def initial_bias(self, targets: Any) -> Float[np.ndarray, " outputs"] | None:
        """The bias that a new head starts from; None for the head's own."""
        return None

    def fitted(self, targets: Any) -> "Problem":
        """The problem in the unit of its training targets; ValueError if nothing can be learned of them."""
        return self

    def standardize(self, targets: Any) -> Any:
        """Targets as the head learns them."""
        return targets

    def balanced(self, targets: Any) -> Float[np.ndarray, " examples"]:
        """Weights of the examples with which every class counts the same; ValueError if there are no classes."""
        raise ValueError(f"class_weights is 'balanced'; accepted: none, of a {self.name}")

    @abc.abstractmethod
    def strata(self, targets: Any) -> Shaped[np.ndarray, " examples"]:
        """A key for each example; parts are drawn so that examples of one key go into all of them."""

    def carriers(self, targets: Any) -> Iterator[np.ndarray]:
        """The examples of each label, of which one has to stay in the training part."""
        return iter(())

    # Predictions

    @abc.abstractmethod
    def predict(self, logits: Any) -> Any:
        """What logits mean, as `targets` has it."""

    def probabilities(self, logits: Any) -> Float[np.ndarray, "examples labels"]:
        """Of every label; ValueError of a problem that has none."""
        raise ValueError(f"a {self.name} has no probabilities; accepted: classification or multilabel")

    @abc.abstractmethod
    def predictions(self, logits: Any, with_logits: bool = False) -> list[Any]:
        """What the logits of each example mean, as objects."""

    @abc.abstractmethod
    def as_columns(self, logits: Any, probabilities: bool = False) -> dict[str, list[Any]]:
        """What logits mean as columns of a table: `prediction`, `score`, and one a label if asked for."""

    def record(self, prediction: Any, probabilities: bool = False) -> dict[str, Any]:
        """A prediction as plain values, its probabilities if asked for."""
        left_out = ("logits",) if probabilities else ("logits", "probabilities")
        return {name: value for name, value in prediction.to_dict().items() if name not in left_out}

    @abc.abstractmethod
    def served(self, prediction: Any) -> list[Any]:
        """(label, score) of a prediction as a server answers it, the most probable first."""

    @abc.abstractmethod
    def collapsed(self, logits: Any) -> bool:
        """Whether every example gets the same prediction."""

    @abc.abstractmethod
    def constant(self, targets: Any) -> Any:
        """The best prediction that is the same for all."""

    @abc.abstractmethod
    def constant_loss(self, targets: Any, weights: Float[np.ndarray, " examples"] | None) -> float:
        """The least mean loss of one prediction for all, of targets as `standardize` gives them."""

    # Evaluation

    def scores(self, targets: Any, predictions: Any, names: Sequence[str] = ()) -> dict[str, float]:
        """Metric -> value; of the problem's metrics unless others are named."""
        return {name: METRICS[name](targets, predictions) for name in names or self.metrics}

    def intervals(self, targets: Any, predictions: Any) -> dict[str, tuple[float, float]]:
        """Metric -> the interval of a bootstrap over examples, (low, high)."""
        return intervals(self.metrics, targets, predictions)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the rows and columns of a confusion matrix are."""
        return self.labels

    @abc.abstractmethod
    def examine(self, targets: Any, predictions: Any, logits: Any, texts: Callable[[int], Texts]) -> dict[str, Any]:
        """The fields of an `Assessment` that only this kind has."""

    @abc.abstractmethod
    def summary(self) -> str:
        """What is predicted, such as `77 labels`."""

    @abc.abstractmethod
    def described(self) -> str:
        """What a table turned out to ask: the kind, and its labels or unit."""

    @abc.abstractmethod
    def plot(self, assessment: Any, salt: str) -> tuple[str, str]:
        """The title and the SVG of an `Assessment`'s plot on a page; `salt` begins the plot's ids."""
