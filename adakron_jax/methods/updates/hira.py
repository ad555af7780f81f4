"""HiRA (Huang et al. 2025), Hadamard high-rank updates of frozen matrices: ΔW = W ⊙ (A B), with A B of low rank."""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import promote
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, require


@register
@dataclasses.dataclass(frozen=True)
class HiRA(Update):
    """Updates that multiply the kernel, entry by entry, by a low-rank matrix.

    Attributes:
      r: the rank of that matrix.
    """

    name: ClassVar[str] = "hira"
    least = {"r": 1}
    r: int = 32

    def check(self, target: str, sizes: Sizes) -> None:
        require(self.r <= min(sizes), "r", self.r, f"at most the hidden size, {min(sizes)}")

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        kernel, a, b = promote(target.dense["kernel"], *target.factors("hira", self.r), dtype=target.dtype)
        return target.updated(kernel * matmul(a, b))

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        return kernel * (1 + scale * leaves["hira_a"] @ leaves["hira_b"])
