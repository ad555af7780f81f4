"""LayerNorm, whose backward pass reads what is large once."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias of each vector, in float32 or wider.

    Attributes:
      dtype: of the result; None: that of x and parameters.
    """

    eps: float
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        of_all = (1,) * (x.ndim - 1) + scale.shape
        y: Any = _normed(self.eps, x, scale.reshape(of_all))
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, scale.shape).reshape(of_all)
        return y.astype(self.dtype or jnp.result_type(x, scale))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normed(eps: float, x: Array, scale: Array) -> Array:
    return _forward(eps, x, scale)[0]


def _forward(eps: float, x: Array, scale: Array) -> tuple[Array, tuple[Array, ...]]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = wide.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(_variance(wide, mean) + eps)
    return (wide - mean) * (inverse * scale), (x, mean, inverse, scale)


def _variance(x: Array, mean: Array) -> Array:
    """By a second pass over x, except on a TPU, where mean and variance come of one."""

    def of_squares(x: Array, mean: Array) -> Array:
        return jnp.maximum(jnp.square(x).mean(-1, keepdims=True) - jnp.square(mean), 0)

    def of_differences(x: Array, mean: Array) -> Array:
        return jnp.square(x - mean).mean(-1, keepdims=True)

    return jax.lax.platform_dependent(x, mean, tpu=of_squares, default=of_differences)


def _backward(eps: float, kept: tuple[Array, ...], cotangent: Array) -> tuple[Array, Array]:
    del eps
    x, mean, inverse, scale = kept
    normed = (x.astype(mean.dtype) - mean) * inverse
    slope = cotangent * scale
    of_x = slope - slope.mean(-1, keepdims=True) - normed * (slope * normed).mean(-1, keepdims=True)
    of_scale = (cotangent * normed).sum(tuple(range(x.ndim - 1)), keepdims=True)
    return (inverse * of_x).astype(x.dtype), of_scale.astype(scale.dtype)


_normed.defvjp(_forward, _backward)
