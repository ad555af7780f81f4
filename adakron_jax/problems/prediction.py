"""The prediction for an example."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adakron_jax.data.frames import frame_of


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for an example.

    Attributes:
      label: the most probable label; for a multilabel problem all above 0.5; for a regression None.
      score: the label's probability; for a multilabel problem the probability of its least certain decision; for a
        regression the number, in the unit of its targets.
      probabilities: of every label; empty for a regression.
      logits: the logits, if they were requested.
    """

    label: str | tuple[str, ...] | None
    score: float
    probabilities: Mapping[str, float]
    logits: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        label = "" if self.label is None else f"{self.label!r}, "
        return f"{type(self).__name__}({label}{self.score:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields; probabilities and logits only if the prediction has them."""
        values = {name: getattr(self, name) for name in ("label", "score", "probabilities", "logits")}
        return {name: value for name, value in values.items() if name == "label" or value not in (None, {})}

    def to_frame(self) -> Any:
        """Returns a pandas frame of labels and probabilities, most probable first; for a regression, of the number."""
        shares = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        return frame_of([{"label": name, "probability": share} for name, share in shares] or [{"score": self.score}])
