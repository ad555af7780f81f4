"""LoRA on frozen kernels that are decomposed first; both methods fuse into the kernels exactly.

DoRA (Liu et al. 2024)      y = (m / n) ⊙ x (W + s A B) + b, n the norms of the columns of W + s A B, m trained
PiSSA (Meng et al. 2024)    y = x (W - W_r + s A B) + b, W_r the best rank-r approximation of W, where s A B starts

DoRA's n is a constant in the gradient, as in its authors' code: recomputed in every pass, never differentiated.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import biases
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import LoRA, Target
from adakron_jax.splice import Leaves, require


class Decomposing(LoRA):
    """The base class of both, whose initial values depend on the kernels."""

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        """Returns the initial values, by name, of those leaves of one kernel that depend on it."""
        raise NotImplementedError

    def initial(self, base: Leaves, config: EncoderConfig) -> Leaves:
        leaves = {}
        for kernel, added, scale in self.kernels(config):
            values = self.of_kernel(np.asarray(base[kernel]), scale)
            leaves |= {f"{added}{name}": leaf for name, leaf in values.items()}
        return leaves


@register
@dataclasses.dataclass(frozen=True)
class DoRA(Decomposing):
    """Weight-decomposed low-rank adaptation: LoRA turns the kernel's columns, and a vector sets their norms."""

    name: ClassVar[str] = "dora"

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes (m / n) ⊙ x (W + s A B) + b from y = x W + b."""
        a, b = target.factors("lora", self.r)
        norms = jax.lax.stop_gradient(jnp.linalg.norm(target.dense["kernel"] + target.scaled(a @ b), axis=0))
        excess = target.param("magnitude", lambda _: norms) / norms - 1
        x, a, b, excess, *bias = target.promoted(a, b, excess, *biases(target.dense))
        update = target.scaled(matmul(matmul(x, a), b))
        return target.y + update + excess * (target.y - sum(bias) + update)

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        return {"magnitude": np.linalg.norm(kernel, axis=0)}

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        kernel = super().fused(kernel, scale, leaves, shared)
        return kernel * (leaves["magnitude"] / np.linalg.norm(kernel, axis=0))


@register
@dataclasses.dataclass(frozen=True)
class PiSSA(Decomposing):
    """Principal singular values and vectors adaptation: LoRA in place of the kernel's best low-rank approximation.

    The approximation is kept beside the kernel, frozen, as two factors. Each factor is the sum of two numbers, because
    the difference of a kernel and its approximation needs more digits than float32 has.
    """

    name: ClassVar[str] = "pissa"

    def __post_init__(self):
        super().__post_init__()
        require(min(self.scales, default=1.0) > 0, "scales", self.scales, "above 0")

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes x (W - W_r + s A B) + b from y = x W + b."""
        a, b = target.factors("lora", self.r)
        principal_a = target.param("principal_a", nn.initializers.zeros, (2, *a.shape)).sum(axis=0)
        principal_b = target.param("principal_b", nn.initializers.zeros, (2, *b.shape)).sum(axis=0)
        x, a, b, principal_a, principal_b = target.promoted(a, b, principal_a, principal_b)
        update = target.scaled(matmul(matmul(x, a), b))
        return target.y + update - matmul(matmul(x, principal_a), principal_b)

    def trains(self, path: str) -> bool:
        return super().trains(path) and "/principal_" not in path

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        left, singular, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
        roots = np.sqrt(singular[: self.r])
        a, b = left[:, : self.r] * roots, roots[:, None] * right[: self.r]
        lora = {"lora_a": a / math.sqrt(scale), "lora_b": b / math.sqrt(scale)}
        return {name: x.astype(np.float32) for name, x in lora.items()} | {
            "principal_a": _in_two(a),
            "principal_b": _in_two(b),
        }

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        a, b = (leaves[name].sum(axis=0, dtype=np.float64) for name in ("principal_a", "principal_b"))
        return super().fused((kernel - a @ b).astype(np.float32), scale, leaves, shared)


def _in_two(x: np.ndarray) -> np.ndarray:
    """Splits float64 into the sum of two float32 numbers [2, ...]."""
    high = x.astype(np.float32)
    return np.stack([high, (x - high).astype(np.float32)])
