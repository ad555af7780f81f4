"""Methods that add nothing and train a part of the encoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.methods.registry import register
from adakron_jax.splice import Method, Site, Splice


@register
@dataclasses.dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: everything is trained."""

    name: ClassVar[str] = "full"

    def trains(self, path: str) -> bool:
        return True


@register
@dataclasses.dataclass(frozen=True)
class Head(Method):
    """A linear probe: nothing but the classification head is trained."""

    name: ClassVar[str] = "head"


@register
@dataclasses.dataclass(frozen=True)
class BitFit(Method):
    """Every bias of the encoder, LayerNorms' and pooler's included (Ben Zaken, Ravfogel and Goldberg 2022)."""

    name: ClassVar[str] = "bitfit"

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        if not config.architecture.biases:
            raise ValueError(f"method {self.name} trains biases; {config.model_type} has none: take another method")
        return {}

    def trains(self, path: str) -> bool:
        return path.endswith("/bias")


@register
@dataclasses.dataclass(frozen=True)
class LNTuning(Method):
    """Scale and bias of every LayerNorm of the encoder, the embeddings' included (Qi et al. 2022)."""

    name: ClassVar[str] = "ln_tuning"

    def trains(self, path: str) -> bool:
        return "norm/" in path
