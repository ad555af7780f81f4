"""C3A (Chen et al. 2025): updates of frozen matrices that are circulant, block by block.

ΔW[s b + p, m b + q] = c[s, m, (p - q) mod b] / in
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.matmul import matmul
from adakron_jax.methods.arithmetic import Scale, promote, times
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Update
from adakron_jax.splice import require


@register
@dataclasses.dataclass(frozen=True)
class C3A(Update):
    """Block-circulant updates.

    Attributes:
      block_size: b, a divisor of every target's inputs and outputs.
    """

    name: ClassVar[str] = "c3a"
    block_size: int = 128

    def __post_init__(self):
        super().__post_init__()
        require(self.block_size >= 1, "block_size", self.block_size, "at least 1")

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        valid = not any(size % self.block_size for size in sizes)
        require(valid, "block_size", self.block_size, f"a divisor of {sizes[0]} and {sizes[1]}")
        return functools.partial(CirculantUpdate, self.block_size, self.scale_of(target), dtype)

    def update(self, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray], sizes: Sizes) -> np.ndarray:
        return np.asarray(block_circulant(jnp.asarray(leaves["circulant"]))) / np.float32(sizes[0])


def block_circulant(c: Float[Array, "s m b"]) -> Float[Array, "in out"]:
    """The matrix of these blocks. Repeated and cut into rows of 2 b - 1, a vector moves by one with every row."""
    s, m, b = c.shape
    rows = jnp.tile(c, 2 * b)[..., : b * (2 * b - 1)].reshape(s, m, b, 2 * b - 1)
    return rows[..., :b].transpose(0, 3, 1, 2).reshape(s * b, m * b)


class CirculantUpdate(nn.Module):
    """y + s x ΔW."""

    block_size: int
    scale: Scale
    dtype: Any = None

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch out"], inputs: Float[Array, "*batch d"], layer: Any, **_: Any
    ) -> Float[Array, "*batch out"]:
        b, d = self.block_size, inputs.shape[-1]
        c = self.param("circulant", nn.initializers.xavier_uniform(0, 1), (d // b, y.shape[-1] // b, b))
        x, update = promote(inputs, block_circulant(c) / d, dtype=self.dtype)
        return y + times(self.scale, matmul(x, update), layer)
