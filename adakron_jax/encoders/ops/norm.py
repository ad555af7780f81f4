"""LayerNorm, in the form that is fastest on each platform."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.xla.arrays import apart


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * scale + bias of each vector, in float32 or wider.

    Attributes:
      dtype: the result's type; None: that of x and the parameters.
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
    """Computes LayerNorm without the bias.

    On a TPU, mean and variance come from one pass over x, and so do the backward pass's two sums; on a CPU, computing
    those sums in one pass would make a training step a third slower.
    """
    return jax.lax.platform_dependent(
        x, scale, tpu=functools.partial(one_pass, eps), default=functools.partial(two_passes, eps)
    )


def two_passes(eps: float, x: Array, scale: Array) -> Array:
    """Takes the variance from differences to the mean."""
    wide = _wide(x)
    centred = wide - wide.mean(-1, keepdims=True)
    return centred * (jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps) * scale)


def one_pass(eps: float, x: Array, scale: Array) -> Array:
    """Takes the variance from the mean of squares."""
    centred, inverse = _centred(eps, x)
    return centred * (inverse * scale)


def one_pass_backward(eps: float, x: Array, scale: Array, cotangent: Array) -> tuple[Array, Array]:
    centred, inverse = _centred(eps, x)
    normed, slope = centred * inverse, cotangent * scale
    of_x = slope - slope.mean(-1, keepdims=True) - normed * (slope * normed).mean(-1, keepdims=True)
    of_scale = (cotangent * normed).sum(tuple(range(x.ndim - 1)), keepdims=True)
    return (inverse * of_x).astype(x.dtype), of_scale.astype(scale.dtype)


def _centred(eps: float, x: Array) -> tuple[Array, Array]:
    """Returns x - mean, and 1 / sqrt(variance + eps)."""
    wide = _wide(x)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.maximum(jnp.square(wide).mean(-1, keepdims=True) - jnp.square(mean), 0)
    return wide - mean, jax.lax.rsqrt(variance + eps)


def _wide(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _backward(eps: float, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    def of_two_passes(x: Array, scale: Array, cotangent: Array) -> Any:
        return jax.vjp(functools.partial(two_passes, eps), x, scale)[1](cotangent)

    of_one_pass = functools.partial(one_pass_backward, eps)
    x, scale = apart(*residuals)  # on a GPU, a mean that both passes share would be computed in a separate kernel
    return jax.lax.platform_dependent(x, scale, cotangent, tpu=of_one_pass, default=of_two_passes)


_normed.defvjp(lambda eps, x, scale: (_normed(eps, x, scale), (x, scale)), _backward)
