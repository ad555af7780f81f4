"""What a head predicts: one of several labels, any number of them, or a number."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

KINDS = ("classification", "multilabel", "regression")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A kind of question, with the names of its answers.

    Attributes:
      kind: `classification`: one label an example; `multilabel`: any number of them; `regression`: a number.
      labels: names in order of their codes; none of a regression.
      mean, scale: of a regression's targets in their own unit: a target is `mean + scale * logit`.

    Raises:
      ValueError: the kind is unknown, a label stands twice, or the labels do not go with the kind.
    """

    kind: str
    labels: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"problem is {self.kind!r}; accepted: {', '.join(KINDS)}")
        if (self.kind == "regression") == bool(self.labels):
            raise ValueError(
                f"labels of a {self.kind} are {list(self.labels)}; accepted: names, and none of a regression"
            )
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels are {list(self.labels)}; accepted: every label once")
        if not (np.isfinite([self.mean, self.scale]).all() and self.scale > 0):
            raise ValueError(f"mean and scale are {self.mean} and {self.scale}; accepted: numbers, and a scale above 0")

    @property
    def outputs(self) -> int:
        """Logits of an example."""
        return len(self.labels) or 1

    def predict(self, logits: Float[np.ndarray, "examples outputs"]) -> Shaped[np.ndarray, "examples *labels"]:
        """Label codes [examples], whether each label holds [examples, labels], or numbers in their unit [examples]."""
        if self.kind == "regression":
            return self.mean + self.scale * logits[:, 0]
        # A sigmoid of 0.5 is a logit of 0.
        return logits > 0 if self.kind == "multilabel" else logits.argmax(-1)

    def standardize(self, targets: Shaped[np.ndarray, "examples *labels"]) -> Shaped[np.ndarray, "examples *labels"]:
        """Targets as the head learns them: numbers as float32 `(target - mean) / scale`, all others as they are."""
        if self.kind == "regression":
            return ((targets - self.mean) / self.scale).astype(np.float32)
        return targets

    def probabilities(self, logits: Float[np.ndarray, "examples outputs"]) -> Float[np.ndarray, "examples labels"]:
        """Of every label: by softmax, or each by its sigmoid; ValueError of a regression, which has none."""
        if self.kind == "regression":
            raise ValueError("a regression has no probabilities; accepted: classification or multilabel")
        if self.kind == "multilabel":
            return np.exp(-np.logaddexp(0, -logits))
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)

    def predictions(
        self, logits: Float[np.ndarray, "examples outputs"], with_logits: bool = False
    ) -> list["Prediction"]:
        """What the logits of each example mean, as objects."""
        labels, scores = self.decide(logits)
        shares = self.probabilities(logits).tolist() if self.labels else [()] * len(logits)
        given = map(tuple, logits.tolist()) if with_logits else itertools.repeat(None)
        return [
            Prediction(label, score, dict(zip(self.labels, row, strict=True)), own)
            for label, score, row, own in zip(labels, scores, shares, given, strict=False)
        ]

    def decide(self, logits: Float[np.ndarray, "examples outputs"]) -> tuple[list[Any], list[float]]:
        """Labels and scores of all examples, as `Prediction` has them."""
        decided = self.predict(logits)
        if self.kind == "regression":
            return [None] * len(logits), decided.tolist()
        probabilities = self.probabilities(logits)
        if self.kind == "multilabel":
            labels = [tuple(itertools.compress(self.labels, row)) for row in decided.tolist()]
            return labels, np.maximum(probabilities, 1 - probabilities).min(axis=-1).tolist()
        return [self.labels[code] for code in decided.tolist()], probabilities.max(axis=-1).tolist()

    def as_json(self) -> dict[str, Any]:
        """The fields as `from_json` reads them."""
        return {"problem": self.kind, "labels": list(self.labels), "targets": {"mean": self.mean, "scale": self.scale}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Problem":
        targets = fields["targets"]
        return cls(fields["problem"], tuple(fields["labels"]), targets["mean"], targets["scale"])


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """What an example is.

    Attributes:
      label: the most probable one; of a multilabel problem all above 0.5; None of a regression.
      score: the label's probability; of a multilabel problem how sure the least sure of its decisions is; of a
        regression the number, in the unit of its targets.
      probabilities: of every label; none of a regression.
      logits: where they were asked for.
    """

    label: str | tuple[str, ...] | None
    score: float
    probabilities: Mapping[str, float]
    logits: tuple[float, ...] | None = None
