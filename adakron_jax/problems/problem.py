"""The contract of a problem, and the defaults that all kinds share."""

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

Targets = Shaped[np.ndarray, "examples *labels"]  # of problems whose head reads one vector per example
Logits = Float[np.ndarray, "examples outputs"]


@dataclasses.dataclass(frozen=True)
class Problem(abc.ABC):
    """One kind of problem: all that depends on what is predicted, from a table's cells to a page's section.

    A kind is one file in this folder and a line in `__init__.py`; no other code asks which kind a problem is. Targets
    and logits are arrays whose first axis is examples; for a head that reads tokens they are `Ragged`, by sentence.

    Attributes:
      labels: names in order of their codes; empty for a regression.

    Class attributes:
      name: the kind's name in `--problem` and `adapter.json`.
      reads: whether the head reads one vector per example or one per token.
      metrics: names; the first is the headline.
      independent: whether each label holds independently, so that logits are not one distribution over labels.
      transformers_type: the kind's name as `problem_type` of Hugging Face.
      mistakes_title, weight_head: the title of the list of mistakes, and the name of the number that orders it.
      label_heads: the names of a label, and of what has one.
      when_long: what happens to an example of more tokens than its limit, whose number follows.
      cell_types: column of `as_columns` -> a cell that shows its type, where an empty cell would not.
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
        """Number of logits of an example, or of a token."""

    @property
    def unit(self) -> tuple[float, float]:
        """(mean, scale) of the targets: a target is `mean + scale * logit`."""
        return 0.0, 1.0

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for every logit, for formats in which each logit has a name."""
        return self.labels

    # JSON

    def as_json(self) -> dict[str, Any]:
        """Returns the fields that `problems.from_json` reads."""
        mean, scale = self.unit
        return {"problem": self.name, "labels": list(self.labels), "targets": {"mean": mean, "scale": scale}}

    # Labels in tables

    @classmethod
    @abc.abstractmethod
    def of_count(cls, labels: int) -> "Problem":
        """Makes a problem of this number of labels, named by their numbers."""

    @classmethod
    def of_names(cls, labels: Sequence[str]) -> "Problem":
        """Makes a problem of labels with these names."""
        return cls(tuple(labels))

    @classmethod
    @abc.abstractmethod
    def suits(cls, table: Table, columns: Sequence[str]) -> bool:
        """Returns whether label columns look like this kind; the kinds are tried in turn."""

    @classmethod
    @abc.abstractmethod
    def infer(cls, table: Table, columns: Sequence[str]) -> "Problem":
        """Infers the problem of label columns of this kind; ValueError names the row or column at fault."""

    @abc.abstractmethod
    def targets(self, table: Table, columns: Sequence[str]) -> Any:
        """Returns the cells as targets, in their original unit.

        Raises:
          ValueError: a column is missing, or a cell is not a label of the problem; the row is named.
        """

    def named(self, table: Table, columns: Sequence[str]) -> Table:
        """Returns the rows with codes of labels, if the problem can have them, replaced by names."""
        return table

    def respelled(self, table: Table, columns: Sequence[str]) -> Iterator[str]:
        """Yields lines on cells that are read as a label with another spelling."""
        return iter(())

    def notes(self, targets: Mapping[str, Any]) -> Iterator[str]:
        """Yields lines on possible mistakes in the labels of each part: `train`, and the parts that are evaluated."""
        return iter(())

    def undrawn(self, targets: Any) -> str:
        """Returns why no row may be held out from the training rows, for a message; empty if there is no reason."""
        return ""

    def is_single(self, targets: Any) -> bool:
        """Returns whether all targets are of one class, so that scores mean nothing."""
        return False

    # Examples

    def read(self, table: Table, columns: Sequence[str]) -> list[list[Any]]:
        """Returns the cells of text columns for `encode`; ValueError names a row whose cell is not a text."""
        return texts(table, columns)

    def encode(
        self,
        tokenizer: Any,
        columns: Sequence[Sequence[Any]],
        max_length: int,
        done: Callable[[int], None] = ignore,
    ) -> Examples:
        """Encodes the texts of examples, or the first and second texts of pairs, for the head.

        Args:
          max_length: most tokens of an example.
          done: called now and then with the number of examples done.
        """
        return tokenizer.encode(columns, max_length, done)

    def labelled(self, examples: Examples, targets: Any) -> Examples:
        """Returns encoded examples with their targets."""
        return dataclasses.replace(examples, labels=targets)

    def targets_of(self, examples: Examples) -> Any:
        """Returns the targets of labelled examples, as `targets` does."""
        return examples.labels

    def arranged(self, examples: Examples, logits: Float[np.ndarray, "examples outputs"]) -> Any:
        """Converts the predictor's logits of examples to the form that the methods below take."""
        return logits

    def joined(self, logits: Sequence[Any]) -> Any:
        """Concatenates what `arranged` returned for parts of the examples."""
        return np.concatenate(logits)

    def texts_of(self, examples: Examples, tokenizer: Any) -> Callable[[int], Texts]:
        """Returns a function from an example's number to its texts, as far as the tokens preserve them."""
        return lambda i: tokenizer.decode(examples.tokens[slice(*examples.offsets[i : i + 2])].tolist())

    # Training

    @staticmethod
    @abc.abstractmethod
    def losses(logits: Float[Array, "*batch outputs"], targets: Shaped[Array, "..."]) -> Float[Array, " *batch"]:
        """Computes each example's loss from targets that `standardize` returned."""

    def initial_bias(self, targets: Any) -> Float[np.ndarray, " outputs"] | None:
        """Returns the bias that a new head starts from; None for the head's default."""
        return None

    def fitted(self, targets: Any) -> "Problem":
        """Returns the problem in the unit of its training targets; ValueError if nothing can be learned from them."""
        return self

    def standardize(self, targets: Any) -> Any:
        """Converts targets to the form that the head is trained on."""
        return targets

    def balanced(self, targets: Any) -> Float[np.ndarray, " examples"]:
        """Returns example weights with which every class counts the same; ValueError if there are no classes."""
        raise ValueError(f"class_weights is 'balanced'; accepted for a {self.name}: none")

    @abc.abstractmethod
    def strata(self, targets: Any) -> Shaped[np.ndarray, " examples"]:
        """Returns a key for each example; when parts are drawn, the examples of one key go into all of them."""

    def carriers(self, targets: Any) -> Iterator[np.ndarray]:
        """Yields the examples of each label, one of which has to stay in the training part."""
        return iter(())

    # Predictions

    @abc.abstractmethod
    def predict(self, logits: Any) -> Any:
        """Converts logits to predictions in the form of `targets`."""

    def probabilities(self, logits: Any) -> Float[np.ndarray, "examples labels"]:
        """Returns the probability of every label; ValueError if the problem has none."""
        raise ValueError(f"a {self.name} has no probabilities; accepted: classification or multilabel")

    @abc.abstractmethod
    def predictions(self, logits: Any, with_logits: bool = False) -> list[Any]:
        """Converts the logits of each example to a prediction object."""

    @abc.abstractmethod
    def as_columns(self, logits: Any, probabilities: bool = False) -> dict[str, list[Any]]:
        """Converts logits to columns of a table: `prediction`, `score`, and one per label if requested."""

    def record(self, prediction: Any, probabilities: bool = False) -> dict[str, Any]:
        """Returns a prediction as plain values, with its probabilities if requested."""
        left_out = ("logits",) if probabilities else ("logits", "probabilities")
        return {name: value for name, value in prediction.to_dict().items() if name not in left_out}

    @abc.abstractmethod
    def served(self, prediction: Any) -> list[Any]:
        """Returns the (label, score) pairs that a server sends for a prediction, the most probable first."""

    @abc.abstractmethod
    def collapsed(self, logits: Any) -> bool:
        """Returns whether every example gets the same prediction."""

    @abc.abstractmethod
    def constant(self, targets: Any) -> Any:
        """Returns the best prediction that is the same for all examples."""

    @abc.abstractmethod
    def constant_loss(self, targets: Any, weights: Float[np.ndarray, " examples"] | None) -> float:
        """Returns the least mean loss of one prediction for all, for targets from `standardize`."""

    # Evaluation

    def scores(self, targets: Any, predictions: Any, names: Sequence[str] = ()) -> dict[str, float]:
        """Returns metric -> value, for the problem's metrics unless others are named."""
        return {name: METRICS[name](targets, predictions) for name in names or self.metrics}

    def intervals(self, targets: Any, predictions: Any) -> dict[str, tuple[float, float]]:
        """Returns metric -> the interval of a bootstrap over examples, (low, high)."""
        return intervals(self.metrics, targets, predictions)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the rows and columns of a confusion matrix."""
        return self.labels

    @abc.abstractmethod
    def examine(self, targets: Any, predictions: Any, logits: Any, texts: Callable[[int], Texts]) -> dict[str, Any]:
        """Returns the fields of an `Assessment` that only this kind has."""

    @abc.abstractmethod
    def summary(self) -> str:
        """Returns what is predicted, such as `77 labels`."""

    @abc.abstractmethod
    def described(self) -> str:
        """Describes the problem: the kind, and its labels or unit."""

    @abc.abstractmethod
    def plot(self, assessment: Any, salt: str) -> tuple[str, str]:
        """Returns the title and the SVG of an `Assessment`'s plot on a page; `salt` begins the plot's ids."""
