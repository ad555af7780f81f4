"""What modules with plain arrays as parameters share: how they start, and in what precision they compute."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.xla.precision import is_narrow

# Uniform within ±1/√(inputs): Kaiming's rule with a = √5, as LoRA's authors start A and linear layers of PyTorch start.
kaiming_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Parameters(nn.Module):
    """Parameters and nothing else, as a tuple; `leaves`: name, start and shape of each."""

    leaves: tuple[tuple[str, nn.initializers.Initializer, tuple[int, ...]], ...]

    @nn.compact
    def __call__(self) -> tuple[Array, ...]:
        return tuple(self.param(*leaf) for leaf in self.leaves)


def promote(x: Array, *params: Array, dtype: Any) -> list[Array]:
    """x and parameters in one precision (`dtype`, or None: the widest of theirs); vectors get as many axes as x."""
    x, *others = promote_dtype(x, *params, dtype=dtype)
    return [x, *(y.reshape((1,) * (x.ndim - 1) + y.shape) if y.ndim == 1 else y for y in others)]


Scale = float | tuple[float, ...]


def times(scale: Scale, x: Array, layer: Any) -> Array:
    """x times a number, or times the layer's own of one for every layer."""
    return (jnp.asarray(scale, x.dtype)[layer] if isinstance(scale, tuple) else scale) * x


def updated(
    y: Float[Array, "*batch out"],
    x: Float[Array, "*batch d"],
    update: Float[Array, "d out"],
    dense: Mapping[str, Array],
    dtype: Any,
) -> Float[Array, "*batch out"]:
    """y + x ΔW, y being the output of a dense that reads x.

    It is x (W + ΔW) + b where that loses nothing, as nothing is then computed of y. In a narrow sum the small changes
    at the beginning of training would be rounded away.
    """
    x, kernel, update = promote(x, dense["kernel"], update, dtype=dtype)
    if is_narrow(x.dtype):
        return y + matmul(x, update)
    y, *bias = promote(matmul(x, kernel + update), *biases(dense), dtype=dtype)
    return y + sum(bias)


def biases(dense: Mapping[str, Array]) -> list[Array]:
    """The bias of a dense, if it has one."""
    return [dense["bias"]] if "bias" in dense else []
