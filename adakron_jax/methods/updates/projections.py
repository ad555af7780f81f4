"""Updates through frozen random matrices that all layers share, and a few trained numbers for each target.

VeRA (Kopiczko et al. 2024):      ΔW = A Λ_d B Λ_b        A [in, r], B [r, out]
RandLoRA (Albert et al. 2025):    ΔW = Uᵀ V, or its transpose, on the smaller and the larger side of W
                                  U [r n, smaller] the rows λ[k, g] A[k] ⊙ γ[g], V [r n, larger] the rows B[:, g, k]

RandLoRA has n bases of rank r, enough for ΔW to have full rank. peft numbers the rows of U by k and then g, those of V
by g and then k, so its pairs are not those of the publication's sum; this file follows peft, as its adapters do.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import Parameters, kaiming_uniform, promote
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update, largest
from adakron_jax.splice import Leaves, Splice, require


class Projecting(Update):
    """The base class of both, which keeps the projections that all layers share frozen."""

    def trains(self, path: str) -> bool:
        return super().trains(path) and "shared@" not in path


@register
@dataclasses.dataclass(frozen=True)
class VeRA(Projecting):
    """Updates through two frozen random matrices; only two vectors per target are trained.

    Attributes:
      r: columns of A, rows of B. Both are as large as the largest target needs; other targets use the first rows of A
        and columns of B.
    """

    name: ClassVar[str] = "vera"
    least = {"r": 1}
    r: int = 1024

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        inputs, outputs = largest(self.targets, config)
        a, b = ("vera_a", kaiming_uniform, (inputs, self.r)), ("vera_b", kaiming_uniform, (self.r, outputs))
        return Splice(functools.partial(Parameters, (a, b)), label="frozen")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        inputs, outputs = target.sizes
        a, b = target.shared[0][:inputs], target.shared[1][:, :outputs]
        lambda_d = target.param("lambda_d", nn.initializers.constant(0.1), a.shape[1:])
        lambda_b = target.param("lambda_b", nn.initializers.zeros, b.shape[1:])
        x, a, b, lambda_d, lambda_b = target.promoted(a, b, lambda_d, lambda_b)
        return matmul(matmul(x, a) * lambda_d, b) * lambda_b

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        a, b = shared["vera_a"][: sizes[0]], shared["vera_b"][:, : sizes[1]]
        return (a * leaves["lambda_d"]) @ (b * leaves["lambda_b"])


@register
@dataclasses.dataclass(frozen=True)
class RandLoRA(Projecting):
    """Full-rank updates: sums of frozen random matrices of rank r, with trained weights.

    Attributes:
      r: the rank of each matrix; the number of matrices is such that the ranks add up to the target's smaller side.
      alpha: α; s is α/r.
    """

    name: ClassVar[str] = "randlora"
    least = {"r": 1}
    r: int = 32
    alpha: float = 64.0

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", self.alpha, "above 0")

    @property
    def default_scale(self) -> float:
        return self.alpha / self.r

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        (smaller, larger), normal = self.sides(config), nn.initializers.normal(1.0)
        a = "randlora_a", normal, (self.r, smaller)
        b = "randlora_b", normal, (larger, count(smaller, self.r), self.r)
        return Splice(functools.partial(Parameters, (a, b)), label="frozen")

    def sides(self, config: EncoderConfig) -> Sizes:
        """Returns the smaller and the larger side of the shared bases, from any target's most inputs and outputs."""
        most = largest(self.targets, config)
        return min(most), max(most)

    def check(self, target: str, sizes: Sizes) -> None:
        require(self.r <= min(sizes), "r", self.r, f"at most the hidden size, {min(sizes)}")

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        smaller = min(target.sizes)
        bases = count(smaller, self.r)
        lambda_ = target.param("lambda", nn.initializers.zeros, (self.r, bases))
        gamma = target.param("gamma", nn.initializers.constant(1 / max(bases, smaller)), (bases, smaller))
        a, b = target.shared
        left, right = promote(*factors(a, b, lambda_, gamma, target.sizes), dtype=target.dtype)
        return target.updated(matmul(left, right))

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        bases = (shared["randlora_a"], shared["randlora_b"])
        left, right = factors(*bases, leaves["lambda"], leaves["gamma"], sizes)
        return left @ right


def factors(a: Any, b: Any, lambda_: Any, gamma: Any, sizes: Sizes) -> tuple[Any, Any]:
    """Returns [in, r n] and [r n, out], whose product is RandLoRA's ΔW, for arrays of NumPy or JAX."""
    smaller, larger = min(sizes), max(sizes)
    u = (lambda_[:, :, None] * a[:, None, :smaller] * gamma[None]).reshape(-1, smaller)
    v = b[:larger, : len(gamma)].reshape(larger, -1)
    return (u.T, v.T) if sizes[0] == smaller else (v, u)


def count(size: int, r: int) -> int:
    """Returns how many matrices of rank r add up to full rank."""
    return -(-size // r)
