"""What the encoders share."""

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.apart import OWN, Own, PerExample, alone, apart_of, at_site, by_part
from adakron_jax.splice import Method, Site, of_layers


@struct.dataclass
class Stream:
    """What goes from layer to layer.

    Attributes:
      x: what the next layer reads, normalised [rows, seq, hidden].
      residual: what it adds to, where that is another; else None.
    """

    x: Any
    residual: Any = None


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
    softmax are never narrower than float32.
    """

    config: EncoderConfig
    method: Method
    dtype: Any = None

    def dense(self, features: int, name: str, use_bias: bool = True) -> Callable[[Any], Array]:
        normal = nn.initializers.normal(self.config.initializer_range)
        return self.own(nn.Dense(features, use_bias, dtype=self.dtype, kernel_init=normal, name=name))

    def norm(self, name: str = "norm", use_bias: bool = True) -> Callable[[Any], Array]:
        eps = self.config.layer_norm_eps
        norm = nn.LayerNorm(eps, dtype=self.dtype, use_bias=use_bias, use_fast_variance=False, name=name)
        return self.own(norm)

    def table(self, rows: int, name: str) -> Callable[[Any], Array]:
        normal = nn.initializers.normal(self.config.initializer_range)
        width = self.config.embedding_width
        return self.own(nn.Embed(rows, width, dtype=self.dtype, embedding_init=normal, name=name))

    def own(self, module: nn.Module) -> Callable[[Any], Array]:
        """The module, or what applies every example's own leaves of it."""
        apart = apart_of(self)
        return cast(Any, module) if apart is None else Own(module, self, apart)

    def splice(self, site: Site, value: Any, **context: Any) -> Any:
        """Passes `value` through the method's module at `site`, if it has one."""
        return self.at(site, lambda module, value, **context: module(value, **context), value, **context)

    def at(self, site: Site, function: Callable[..., Any], *values: Any, **context: Any) -> Any:
        """`function(module, *values, **context)`, the module being the method's at `site`, or one that changes nothing.

        Where every example has a module of its own, the function sees one example at a time: `values`, and
        `inputs`, `residual` and `segments` of the context, with one row of its tokens.
        """
        part = self.method.splices(self.config, self.dtype).get(site)
        if part is None:
            return function(lambda value, **_: value, *values, **context)
        if first := self.method.layer_range(self.config).start:
            context["layer"] = context["layer"] - first
        name, apart = f"{site}@{self.method.name}", apart_of(self)
        if apart is None:
            return function(part.module(name=name), *values, **context)
        return at_site(part.module(parent=None), self.get_variable(OWN, name, {}), apart, function, values, context)

    def shared(self) -> Any:
        """What the method's shared module returns; a `PerExample` of it, where every example has its own."""
        config = of_layers(self.config, self.method.layer_range(self.config))
        part = self.method.shared(config, self.dtype)
        if part is None:
            return None
        name = f"shared@{self.method.name}"
        if apart_of(self) is None:
            return part.module(name=name)()
        make = jax.vmap(lambda own: alone(part.module(parent=None), own)())
        return PerExample(*map(make, by_part(self.get_variable(OWN, name))))


def take(x: Float[Array, "rows seq hidden"], at: Int[Array, "rows slots"]) -> Float[Array, "rows slots hidden"]:
    """The vectors at given positions of each row."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)
