"""HiRA (Huang et al. 2025), Hadamard high-rank updates of frozen matrices: ΔW = W ⊙ (A B), A B being of low rank."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.matmul import matmul
from adakron_jax.methods.arithmetic import Scale, kaiming_uniform, promote, times, updated
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Update
from adakron_jax.splice import require


@register
@dataclasses.dataclass(frozen=True)
class HiRA(Update):
    """Updates that are the kernel itself, entry by entry times a matrix of low rank.

    Attributes:
      r: the rank of that matrix.
    """

    name: ClassVar[str] = "hira"
    r: int = 32

    def __post_init__(self):
        super().__post_init__()
        require(self.r >= 1, "r", self.r, "at least 1")

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        require(self.r <= min(sizes), "r", self.r, f"at most the hidden size, {min(sizes)}")
        return functools.partial(Multiplied, self.r, self.scale_of(target), dtype)

    def fused(
        self, kernel: np.ndarray, scale: np.float32, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        return kernel * (1 + scale * leaves["hira_a"] @ leaves["hira_b"])


class Multiplied(nn.Module):
    """y + s x (W ⊙ (A B))."""

    r: int
    scale: Scale
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        y: Float[Array, "*batch out"],
        inputs: Float[Array, "*batch d"],
        dense: Mapping[str, Array],
        layer: Any,
        **_: Any,
    ) -> Float[Array, "*batch out"]:
        a = self.param("hira_a", kaiming_uniform, (inputs.shape[-1], self.r))
        b = self.param("hira_b", nn.initializers.zeros, (self.r, y.shape[-1]))
        kernel, a, b = promote(dense["kernel"], a, b, dtype=self.dtype)
        return updated(y, inputs, times(self.scale, kernel * matmul(a, b), layer), dense, self.dtype)
