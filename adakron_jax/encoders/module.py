"""What the encoders share: the stream between layers, GELU, and the base class of their modules."""

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
    """The values that pass from layer to layer.

    Attributes:
      x: what the next layer reads, normalised [rows, seq, hidden].
      residual: what the next layer adds to, if that is another value; else None.
      offsets: vectors of the offsets between tokens [1, offsets, hidden], from which attention computes keys and
        queries, if the architecture has them; else None.
    """

    x: Any
    residual: Any = None
    offsets: Any = None


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Computes the exact GELU, x Φ(x), by erf, which a CPU computes faster than jax.nn's erfc.

    The backward pass keeps x alone and recomputes Φ.
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
    """The base class of the encoders' modules: sizes, the method, and the precision they compute in.

    With `dtype` None they compute in the precision of parameters and inputs, float64 included. LayerNorm's statistics
    and the softmax are never narrower than float32. With `fused` attention and AdaKron's adapters are one kernel each,
    where there is one for their shapes.
    """

    config: EncoderConfig
    method: Method
    dtype: Any = None
    fused: bool = False

    @property
    def parts(self) -> tuple[EncoderConfig, Method, Any, bool]:
        """The arguments of a part's own parts."""
        return self.config, self.method, self.dtype, self.fused

    def dense(self, features: int, name: str, use_bias: bool = True) -> nn.Dense:
        normal = nn.initializers.normal(self.config.initializer_range)
        return nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=normal, dot_general=dot_general, name=name)

    def projection(self, site: Site, features: int, name: str, use_bias: bool = True) -> Callable[..., Array]:
        """Returns a dense layer and the site of its output, as a function of what the dense layer reads."""
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
        """Does the same as `splice`, as a function that passes several values through one module."""
        part = self.method.splices(self.method.seen_of(self.config), self.dtype).get(site)
        module = None if part is None else part.module(name=f"{site}@{self.method.name}")

        def splice(value: Any, layer: Any, **context: Any) -> Any:
            if module is None:
                return value
            return module(value, layer=self.method.counted(layer, self.config), fused=self.fused, **context)

        return splice

    def shared(self) -> Any:
        """Calls the method's shared module; None if it has none."""
        part = self.method.shared(self.method.seen_of(self.config), self.dtype)
        return None if part is None else part.module(name=f"shared@{self.method.name}")()


def take(x: Float[Array, "rows seq hidden"], at: Int[Array, "rows slots"]) -> Float[Array, "rows slots hidden"]:
    """Returns the vectors at given positions of each row."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)
