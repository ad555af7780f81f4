"""KronA (Edalati et al. 2022), updates of frozen matrices that are Kronecker products: ΔW = A ⊗ B.

With ranks, A or B is itself a product of two narrow matrices, as in LyCORIS' LoKr.
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.methods.arithmetic import kaiming_uniform
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, require


@register
@dataclasses.dataclass(frozen=True)
class KronA(Update):
    """Kronecker products as updates.

    Attributes:
      a_shape: the shape of A, divisors of the target's inputs and outputs; B has the quotients. Two numbers, or two for
        each target in turn.
      scale: s.
      ranks: the ranks of A and of B, 0 for a matrix that is not a product. Two numbers, or two for each target in turn;
        by default neither is a product.
    """

    name: ClassVar[str] = "krona"
    a_shape: tuple[int, ...] = (32, 32)
    scale: float = 1.0
    ranks: tuple[int, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        counts = (2, 2 * len(self.targets))
        valid = len(self.a_shape) in counts and min(self.a_shape) >= 1
        require(valid, "a_shape", self.a_shape, "two whole numbers of at least 1, or two for each target")
        valid = len(self.ranks) in (0, *counts) and min(self.ranks, default=0) >= 0
        require(valid, "ranks", self.ranks, "none, two whole numbers of at least 0, or two for each target")
        require(self.scale > 0, "scale", self.scale, "above 0")

    @property
    def default_scale(self) -> float:
        return self.scale

    def shape_of(self, target: str) -> Sizes:
        """Returns the shape of a target's A."""
        return self._of(target, self.a_shape)

    def ranks_of(self, target: str) -> Sizes:
        """Returns the ranks of a target's A and B."""
        return self._of(target, self.ranks or (0, 0))

    def _of(self, target: str, pairs: tuple[int, ...]) -> Sizes:
        first = 2 * self.targets.index(target) if len(pairs) > 2 else 0
        return pairs[first], pairs[first + 1]

    def check(self, target: str, sizes: Sizes) -> None:
        valid = not any(size % factor for size, factor in zip(sizes, self.shape_of(target), strict=True))
        require(valid, "a_shape", self.a_shape, f"divisors of {sizes[0]} and {sizes[1]}")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes x (A ⊗ B) without forming the product."""
        (inputs, outputs), (rows, columns), ranks = target.sizes, self.shape_of(target.name), self.ranks_of(target.name)
        a = _factor(target, "kron_a", (rows, columns), ranks[0], kaiming_uniform)
        b = _factor(target, "kron_b", (inputs // rows, outputs // columns), ranks[1], nn.initializers.zeros)
        x, a, b = target.promoted(a, b)
        x = x.reshape(*x.shape[:-1], rows, inputs // rows)
        return jnp.einsum("...iq,is,qt->...st", x, a, b).reshape(target.y.shape)

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        a, b = (
            leaves[name] if name in leaves else leaves[f"{name}_1"] @ leaves[f"{name}_2"]
            for name in ("kron_a", "kron_b")
        )
        return np.kron(a, b)


def _factor(target: Target, name: str, shape: Sizes, rank: int, init: nn.initializers.Initializer) -> Array:
    """Makes A or B, or the two matrices whose product it is."""
    if not rank:
        return target.param(name, init, shape)
    left = target.param(f"{name}_1", kaiming_uniform, (shape[0], rank))
    return left @ target.param(f"{name}_2", init, (rank, shape[1]))
