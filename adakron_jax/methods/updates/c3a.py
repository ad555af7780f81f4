"""C3A (Chen et al. 2025): updates of frozen matrices that are circulant, block by block.

ΔW[s b + p, m b + q] = c[s, m, (p - q) mod b] / in
"""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, require


@register
@dataclasses.dataclass(frozen=True)
class C3A(Update):
    """Block-circulant updates.

    Attributes:
      block_size: b, a divisor of every target's inputs and outputs.
    """

    name: ClassVar[str] = "c3a"
    least = {"block_size": 1}
    block_size: int = 128

    def check(self, target: str, sizes: Sizes) -> None:
        valid = not any(size % self.block_size for size in sizes)
        require(valid, "block_size", self.block_size, f"a divisor of {sizes[0]} and {sizes[1]}")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        (d, outputs), b = target.sizes, self.block_size
        c = target.param("circulant", nn.initializers.xavier_uniform(0, 1), (d // b, outputs // b, b))
        return matmul(*target.promoted(block_circulant(c) / d))

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        return np.asarray(block_circulant(jnp.asarray(leaves["circulant"]))) / np.float32(sizes[0])


def block_circulant(c: Float[Array, "s m b"]) -> Float[Array, "in out"]:
    """Builds the matrix of these blocks. Repeated and cut into rows of 2 b - 1, a vector shifts by one per row."""
    s, m, b = c.shape
    rows = jnp.tile(c, 2 * b)[..., : b * (2 * b - 1)].reshape(s, m, b, 2 * b - 1)
    return rows[..., :b].transpose(0, 3, 1, 2).reshape(s * b, m * b)
