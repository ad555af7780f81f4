"""Initial values and precision of modules whose parameters are plain arrays."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.xla.precision import is_narrow

# Uniform within ±1/√(inputs): Kaiming's rule with a = √5, as in LoRA's A by its authors and PyTorch's linear layers.
kaiming_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Parameters(nn.Module):
    """Parameters alone, as a tuple; `leaves` holds the name, initialiser and shape of each."""

    leaves: tuple[tuple[str, nn.initializers.Initializer, tuple[int, ...]], ...]

    @nn.compact
    def __call__(self) -> tuple[Array, ...]:
        return tuple(self.param(*leaf) for leaf in self.leaves)


def promote(x: Array, *params: Array, dtype: Any) -> list[Array]:
    """Casts x and parameters to one precision (`dtype`; None: their widest type); vectors get as many axes as x."""
    x, *others = promote_dtype(x, *params, dtype=dtype)
    return [x, *(y.reshape((1,) * (x.ndim - 1) + y.shape) if y.ndim == 1 else y for y in others)]


Scale = float | tuple[float, ...]


def times(scale: Scale, x: Array, layer: Any) -> Array:
    """Multiplies x by a number, or by the layer's number from a tuple with one for each layer."""
    return (jnp.asarray(scale, x.dtype)[layer] if isinstance(scale, tuple) else scale) * x


def updated(
    y: Float[Array, "*batch out"],
    x: Float[Array, "*batch d"],
    update: Float[Array, "d out"],
    dense: Mapping[str, Array],
    dtype: Any,
) -> Float[Array, "*batch out"]:
    """Returns y + x ΔW, where y is the output of a dense layer that reads x.

    Computes x (W + ΔW) + b where that loses nothing, since y itself is then never computed. In a narrow precision the
    sum would round away the small changes at the beginning of training.
    """
    x, kernel, update = promote(x, dense["kernel"], update, dtype=dtype)
    if is_narrow(x.dtype):
        return y + matmul(x, update)
    y, *bias = promote(matmul(x, kernel + update), *biases(dense), dtype=dtype)
    return y + sum(bias)


def biases(dense: Mapping[str, Array]) -> list[Array]:
    """Returns a dense layer's bias in a list, which is empty if it has none."""
    return [dense["bias"]] if "bias" in dense else []
