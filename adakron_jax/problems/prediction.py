"""What a head predicts of an example."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adakron_jax.data.frames import frame_of


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

    def __repr__(self) -> str:
        label = "" if self.label is None else f"{self.label!r}, "
        return f"{type(self).__name__}({label}{self.score:.4g})"

    def to_dict(self) -> dict[str, Any]:
        """Its fields; probabilities and logits where it has them."""
        values = {name: getattr(self, name) for name in ("label", "score", "probabilities", "logits")}
        return {name: value for name, value in values.items() if name == "label" or value not in (None, {})}

    def to_frame(self) -> Any:
        """A pandas frame of labels and probabilities, the most probable first; of a regression of the number."""
        shares = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        return frame_of([{"label": name, "probability": share} for name, share in shares] or [{"score": self.score}])
