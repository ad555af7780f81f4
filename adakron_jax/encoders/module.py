"""What the encoders share."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import dot_general
from adakron_jax.encoders.ops.norm import LayerNorm
from adakron_jax.splice import Method, Site


@struct.dataclass
class Stream:
    """What goes from layer to layer.

    Attributes:
      x: what the next layer reads, normalised [rows, seq, hidden].
      residual: what it adds to, where that is another; else None.
      offsets: vectors of the offsets between tokens [1, offsets, hidden], of which attention makes keys and queries,
        where the architecture has such; else None.
    """

    x: Any
    residual: Any = None
    offsets: Any = None


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, x Φ(x), by erf, of which a CPU makes faster programs than of jax.nn's erfc.

    The backward pass keeps x alone, and computes Φ again.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_backward(x: Array, cotangent: Array) -> tuple[Array]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    slope = _normal_cdf(wide) + wide * jnp.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return (cotangent * slope.astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


class Part(nn.Module):
    """What the encoder's modules share: sizes, the method, and the precision they compute in.

    `dtype` None computes in the precision of parameters and inputs, float64 included. LayerNorm's statistics and the
    softmax are never narrower than float32. `fused` computes attention in one kernel where it can (`ops.fused`).
    """

    config: EncoderConfig
    method: Method
    dtype: Any = None
    fused: bool = False

    @property
    def parts(self) -> tuple[EncoderConfig, Method, Any, bool]:
        """What a part of this part is made of."""
        return self.config, self.method, self.dtype, self.fused

    def dense(self, features: int, name: str, use_bias: bool = True) -> nn.Dense:
        normal = nn.initializers.normal(self.config.initializer_range)
        return nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=normal, dot_general=dot_general, name=name)

    def projection(self, site: Site, features: int, name: str, use_bias: bool = True) -> Callable[..., Array]:
        """A dense and the site that its output passes, as a function of what the dense reads."""
        dense, splice = self.dense(features, name, use_bias), self.spliced(site)

        def project(x: Array, **context: Any) -> Array:
            y = dense(x)
            return splice(y, inputs=x, dense=dense.variables["params"], **context)

        return project

    def norm(self, name: str = "norm", use_bias: bool = True) -> Callable[[Any], Array]:
        return LayerNorm(self.config.layer_norm_eps, use_bias, self.dtype, name=name)

    def table(self, rows: int, name: str) -> Callable[[Any], Array]:
        normal = nn.initializers.normal(self.config.initializer_range)
        width = self.config.embedding_width
        return nn.Embed(rows, width, dtype=self.dtype, embedding_init=normal, name=name)

    def splice(self, site: Site, value: Any, **context: Any) -> Any:
        """Passes `value` through the method's module at `site`, if it has one."""
        return self.spliced(site)(value, **context)

    def spliced(self, site: Site) -> Callable[..., Any]:
        """The same as a function, which passes several values through one module."""
        part = self.method.splices(self.method.seen_of(self.config), self.dtype).get(site)
        module = None if part is None else part.module(name=f"{site}@{self.method.name}")

        def splice(value: Any, layer: Any, **context: Any) -> Any:
            if module is None:
                return value
            return module(value, layer=self.method.counted(layer, self.config), **context)

        return splice

    def shared(self) -> Any:
        """What the method's shared module returns."""
        part = self.method.shared(self.method.seen_of(self.config), self.dtype)
        return None if part is None else part.module(name=f"shared@{self.method.name}")()


def take(x: Float[Array, "rows seq hidden"], at: Int[Array, "rows slots"]) -> Float[Array, "rows slots hidden"]:
    """The vectors at given positions of each row."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)
