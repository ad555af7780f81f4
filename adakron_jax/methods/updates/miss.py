"""MiSS (Kang and Yin 2024): updates of frozen matrices that repeat a few trained rows.

plain   ΔW[p, q] = D[p mod r, q]                        D [r, out]
mini    ΔW[p, q] = D[p mod r, q mod m]                  D [r, m]
bat     ΔW_io = D_oᵀ W_io + D_oᵀ, i and o blocks of r    D [out / r, r, r]

so that the plain form sums the inputs that are r apart, and multiplies the r sums by D.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, require

Form = Literal["plain", "mini", "bat"]


@register
@dataclasses.dataclass(frozen=True)
class MiSS(Update):
    """Matrix shard sharing.

    Attributes:
      r: trained rows; need not divide the inputs. With the form `bat`, the size of a block, which divides both sides.
      form: `plain`, or peft's `mini` and `bat`.
      mini_r: trained columns of the form `mini`, a divisor of the outputs.
    """

    name: ClassVar[str] = "miss"
    least = {"r": 1}
    r: int = 64
    form: Form = "plain"
    mini_r: int = 1

    def __post_init__(self):
        super().__post_init__()
        valid = self.mini_r == 1 or (self.mini_r > 1 and self.form == "mini")
        require(valid, "mini_r", self.mini_r, "1, or more with the form mini")

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """Returns the shape of D for a target of these inputs and outputs."""
        match self.form:
            case "mini":
                return self.r, self.mini_r
            case "bat":
                return sizes[1] // self.r, self.r, self.r
        return self.r, sizes[1]

    def check(self, target: str, sizes: Sizes) -> None:
        require(self.r <= sizes[0], "r", self.r, f"at most the inputs, {sizes[0]}")
        valid = self.form != "bat" or not any(size % self.r for size in sizes)
        require(valid, "r", self.r, f"a divisor of {sizes[0]} and {sizes[1]}, with the form bat")
        require(sizes[1] % self.mini_r == 0, "mini_r", self.mini_r, f"a divisor of {sizes[1]}")

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        shards = target.param("shards", nn.initializers.zeros, self.shape(target.sizes))
        x, kernel, shards = target.promoted(target.dense["kernel"], shards)
        if self.form == "bat":
            return target.updated(of_blocks(kernel, shards))
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % self.r)])
        sums = x.reshape(*x.shape[:-1], -1, self.r).sum(axis=-2)
        return target.y + target.scaled(jnp.tile(matmul(sums, shards), target.sizes[1] // shards.shape[1]))

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        shards = leaves["shards"]
        if self.form == "bat":
            return kernel + scale * np.asarray(of_blocks(kernel, shards))
        inputs, outputs = kernel.shape
        rows = shards[np.arange(inputs) % self.r]
        return kernel + scale * np.tile(rows, outputs // shards.shape[1])


def of_blocks(kernel: Any, blocks: Any) -> Float[Array, "in out"]:
    """Computes ΔW of the form `bat`."""
    outer, r, _ = blocks.shape
    cut = kernel.reshape(-1, r, outer, r)
    update = jnp.einsum("ibok,obc->icok", cut, blocks) + blocks.transpose(2, 0, 1)[None]
    return update.reshape(kernel.shape)
