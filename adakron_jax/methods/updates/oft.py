"""OFT (Qiu et al. 2023): the inputs of a frozen matrix turned, y = x R W + b, R = blockdiag(R_1, R_2, ...).

Each block is made of a skew-symmetric Q [b, b], whose entries above the diagonal train:

    exact     (I - Q) (I + Q)⁻¹, Cayley's transform, orthogonal
    neumann   I + 2 Q + 2 Q² + ... + 2 Qᵗ⁻² + Qᵗ⁻¹, t terms of the series of (I + Q) (I - Q)⁻¹: nearly orthogonal, and
              turning the other way
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.matmul import matmul
from adakron_jax.methods.arithmetic import Scale, biases, promote, times
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Update
from adakron_jax.splice import require

Cayley = Literal["exact", "neumann"]


@register
@dataclasses.dataclass(frozen=True)
class OFT(Update):
    """Orthogonal fine-tuning.

    Attributes:
      block_size: b, a divisor of every target's inputs.
      cayley: how R is made of Q; `neumann` is peft's default.
      neumann_terms: t. As in peft, 3 are 4.
      scales: factors on Q, by default 1.
    """

    name: ClassVar[str] = "oft"
    block_size: int = 32
    cayley: Cayley = "exact"
    neumann_terms: int = 5

    def __post_init__(self):
        super().__post_init__()
        require(self.block_size >= 2, "block_size", self.block_size, "at least 2")
        require(self.cayley in get_args(Cayley), "cayley", self.cayley, ", ".join(get_args(Cayley)))
        require(self.neumann_terms >= 2, "neumann_terms", self.neumann_terms, "at least 2")

    @property
    def terms(self) -> int:
        """Terms of the series; 0 for the exact form."""
        return self.neumann_terms if self.cayley == "neumann" else 0

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        require(sizes[0] % self.block_size == 0, "block_size", self.block_size, f"a divisor of {sizes[0]}")
        return functools.partial(Turned, self.block_size, self.terms, self.scale_of(target), dtype)

    def fused(
        self, kernel: np.ndarray, scale: np.float32, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        r = np.asarray(rotations(scale * jnp.asarray(leaves["rotation"]), self.block_size, self.terms))
        return np.einsum("nij,njo->nio", r, kernel.reshape(*r.shape[:2], -1)).reshape(kernel.shape)


def rotations(entries: Float[Array, "n entries"], size: int, terms: int) -> Float[Array, "n size size"]:
    """R of every block from the entries of Q above the diagonal, row by row; by a series if it has terms."""
    rows, columns = np.triu_indices(size, 1)
    upper = jnp.zeros((len(entries), size, size), entries.dtype).at[:, rows, columns].set(entries)
    q, identity = upper - upper.swapaxes(1, 2), jnp.eye(size, dtype=entries.dtype)[None]
    if not terms:
        return jnp.linalg.solve(identity + q, identity - q)  # the two factors commute
    r = identity + 2 * q
    if terms > 2:
        power = q @ q
        r = r + 2 * power
        for _ in range(terms - 4):
            power = power @ q
            r = r + 2 * power
        r = r + power @ q
    return r


class Turned(nn.Module):
    """x R W + b."""

    block_size: int
    terms: int
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
        n, b = inputs.shape[-1] // self.block_size, self.block_size
        entries = self.param("rotation", nn.initializers.zeros, (n, b * (b - 1) // 2))
        r = rotations(times(self.scale, entries, layer), b, self.terms)
        x, r, kernel = promote(inputs, r, dense["kernel"], dtype=self.dtype)
        turned = jnp.einsum("...ni,nij->...nj", x.reshape(*x.shape[:-1], n, b), r).reshape(x.shape)
        y, *bias = promote(matmul(turned, kernel), *biases(dense), dtype=self.dtype)
        return y + sum(bias)
