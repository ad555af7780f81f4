"""MiSS (Kang and Yin 2024): updates of frozen matrices that repeat a few trained rows.

plain   ΔW[p, q] = D[p mod r, q]                        D [r, out]
mini    ΔW[p, q] = D[p mod r, q mod m]                  D [r, m]
bat     ΔW_io = D_oᵀ W_io + D_oᵀ, i and o blocks of r    D [out / r, r, r]

so that the plain form sums the inputs that are r apart, and multiplies the r sums by D.
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
from adakron_jax.methods.arithmetic import Scale, promote, times, updated
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Update
from adakron_jax.splice import require

Form = Literal["plain", "mini", "bat"]


@register
@dataclasses.dataclass(frozen=True)
class MiSS(Update):
    """Matrix shard sharing.

    Attributes:
      r: trained rows; need not divide the inputs. Of the form `bat` the size of a block, which divides both sides.
      form: `plain`, or peft's `mini` and `bat`.
      mini_r: trained columns of the form `mini`, a divisor of the outputs.
    """

    name: ClassVar[str] = "miss"
    r: int = 64
    form: Form = "plain"
    mini_r: int = 1

    def __post_init__(self):
        super().__post_init__()
        require(self.r >= 1, "r", self.r, "at least 1")
        require(self.form in get_args(Form), "form", self.form, ", ".join(get_args(Form)))
        valid = self.mini_r == 1 or (self.mini_r > 1 and self.form == "mini")
        require(valid, "mini_r", self.mini_r, "1, or more with the form mini")

    def shape(self, sizes: Sizes) -> tuple[int, ...]:
        """D's, for a target of so many inputs and outputs."""
        match self.form:
            case "mini":
                return self.r, self.mini_r
            case "bat":
                return sizes[1] // self.r, self.r, self.r
        return self.r, sizes[1]

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        require(self.r <= sizes[0], "r", self.r, f"at most the inputs, {sizes[0]}")
        valid = self.form != "bat" or not any(size % self.r for size in sizes)
        require(valid, "r", self.r, f"a divisor of {sizes[0]} and {sizes[1]}, with the form bat")
        require(sizes[1] % self.mini_r == 0, "mini_r", self.mini_r, f"a divisor of {sizes[1]}")
        return functools.partial(Shards, self.shape(sizes), self.scale_of(target), dtype)

    def fused(
        self, kernel: np.ndarray, scale: np.float32, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        shards = leaves["shards"]
        if self.form == "bat":
            return kernel + scale * np.asarray(of_blocks(kernel, shards))
        inputs, outputs = kernel.shape
        rows = shards[np.arange(inputs) % self.r]
        return kernel + scale * np.tile(rows, outputs // shards.shape[1])


def of_blocks(kernel: Any, blocks: Any) -> Float[Array, "in out"]:
    """ΔW of the form `bat`."""
    outer, r, _ = blocks.shape
    cut = kernel.reshape(-1, r, outer, r)
    update = jnp.einsum("ibok,obc->icok", cut, blocks) + blocks.transpose(2, 0, 1)[None]
    return update.reshape(kernel.shape)


class Shards(nn.Module):
    """y + s x ΔW."""

    shape: tuple[int, ...]
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
        shards = self.param("shards", nn.initializers.zeros, self.shape)
        x, kernel, shards = promote(inputs, dense["kernel"], shards, dtype=self.dtype)
        if shards.ndim == 3:
            return updated(y, x, times(self.scale, of_blocks(kernel, shards), layer), dense, self.dtype)
        r, missing = len(shards), -x.shape[-1] % len(shards)
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)])
        sums = x.reshape(*x.shape[:-1], -1, r).sum(axis=-2)
        update = jnp.tile(matmul(sums, shards), y.shape[-1] // shards.shape[1])
        return y + times(self.scale, update, layer)
