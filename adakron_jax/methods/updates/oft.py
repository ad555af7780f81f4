"""OFT (Qiu et al. 2023): rotations of a frozen matrix's inputs, y = x R W + b, R = blockdiag(R_1, R_2, ...).

Each block is made from a skew-symmetric Q [b, b], whose entries above the diagonal train:

    exact     (I - Q) (I + Q)⁻¹, Cayley's transform, orthogonal
    neumann   I + 2 Q + 2 Q² + ... + 2 Qᵗ⁻² + Qᵗ⁻¹, t terms of the series of (I + Q) (I - Q)⁻¹: nearly orthogonal, and
              a rotation in the opposite direction
"""

import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import biases, promote
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, require

Cayley = Literal["exact", "neumann"]


@register
@dataclasses.dataclass(frozen=True)
class OFT(Update):
    """Orthogonal fine-tuning.

    Attributes:
      block_size: b, a divisor of every target's inputs.
      cayley: how R is made from Q; `neumann` is peft's default.
      neumann_terms: t. As in peft, 3 gives the same as 4.
      scales: factors on Q, by default 1.
    """

    name: ClassVar[str] = "oft"
    least = {"block_size": 2, "neumann_terms": 2}
    block_size: int = 32
    cayley: Cayley = "exact"
    neumann_terms: int = 5

    @property
    def terms(self) -> int:
        """Number of terms of the series; 0 for the exact form."""
        return self.neumann_terms if self.cayley == "neumann" else 0

    def check(self, target: str, sizes: Sizes) -> None:
        require(sizes[0] % self.block_size == 0, "block_size", self.block_size, f"a divisor of {sizes[0]}")

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        b = self.block_size
        n = target.sizes[0] // b
        entries = target.param("rotation", nn.initializers.zeros, (n, b * (b - 1) // 2))
        x, r, kernel = target.promoted(rotations(target.scaled(entries), b, self.terms), target.dense["kernel"])
        turned = jnp.einsum("...ni,nij->...nj", x.reshape(*x.shape[:-1], n, b), r).reshape(x.shape)
        y, *bias = promote(matmul(turned, kernel), *biases(target.dense), dtype=target.dtype)
        return y + sum(bias)

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        r = np.asarray(rotations(scale * jnp.asarray(leaves["rotation"]), self.block_size, self.terms))
        return np.einsum("nij,njo->nio", r, kernel.reshape(*r.shape[:2], -1)).reshape(kernel.shape)


def rotations(entries: Float[Array, "n entries"], size: int, terms: int) -> Float[Array, "n size size"]:
    """Builds R of every block from Q's entries above the diagonal, row by row; as a series if it has terms."""
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
