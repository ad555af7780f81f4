"""AdaKron (Braga, Raganato and Pasi, LREC-COLING 2024).

A bottleneck adapter whose hidden vector is the Kronecker product of two small projections of the input h [d]:

    y1 = h W1 + b1          W1 [d, r1]      r1 = r / a
    y2 = h W2 + b2          W2 [d, r2]      r2 = a
    out = GELU(y2 ⊗ y1) W_up + b_up         W_up [r1 r2, d]

so that the down-projection has d (r1 + r2) weights instead of d r1 r2.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.module import gelu
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods import adakron_kernel
from adakron_jax.methods.arithmetic import Parameters, promote
from adakron_jax.methods.registry import register
from adakron_jax.splice import Method, Site, Splice, require
from adakron_jax.xla.arrays import by_itself, stored

Place = Literal["sequential", "pfeiffer"]


@register
@dataclasses.dataclass(frozen=True)
class AdaKron(Method):
    """One AdaKron adapter per layer, in the feed-forward block.

    Attributes:
      factors: widths of the down-projections, (r1, r2, ...) = (r/a, a); their product is the bottleneck r. A single
        factor is a plain GELU bottleneck.
      place: `sequential`, as in the authors' code: h + adapter(h) on the raw output of the block's last dense layer;
        dropout, residual and LayerNorm follow. `pfeiffer`, as the paper draws it: h + adapter(LN(h + residual)) after
        dropout.
    """

    name: ClassVar[str] = "adakron"
    factors: tuple[int, ...] = (12, 4)
    place: Place = "sequential"

    def __post_init__(self):
        _check_factors(self.factors)

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        site = Site.FFN_DENSE if self.place == "sequential" else Site.FFN_OUTPUT
        return {site: Splice(functools.partial(KronAdapter, self.factors, self.place, dtype), label="adakron")}


def _check_factors(factors: tuple[int, ...]) -> None:
    valid = bool(factors) and min(factors) >= 1
    require(valid, "factors", factors, "one or more whole numbers of at least 1")


class KronAdapter(nn.Module):
    """The adapter as a module for any Flax model: called on h [..., d], it returns h + adapter(h).

    >>> import jax, jax.numpy as jnp
    >>> adapter = KronAdapter(factors=(12, 4))
    >>> h = jnp.ones((8, 128, 768))  # any leading axes
    >>> variables = adapter.init(jax.random.key(0), h)
    >>> adapter.apply(variables, h).shape
    (8, 128, 768)

    Attributes:
      factors: as in `AdaKron`.
      place: `sequential` reads h alone; `pfeiffer` takes two more arguments, the `residual` of h's shape and the module
        `norm`, and reads norm(h + residual).
      dtype: the precision that it computes in; None: that of its input and parameters.

    Raises:
      ValueError: a factor is less than 1, or there are no factors.
    """

    factors: tuple[int, ...] = (12, 4)
    place: Place = "sequential"
    dtype: Any = None

    def __post_init__(self):
        _check_factors(self.factors)
        super().__post_init__()

    @nn.compact
    def __call__(self, h: Float[Array, "*batch d"], **context: Any) -> Float[Array, "*batch d"]:
        h, d = stored(h), h.shape[-1]
        downs = [self.down(d, number, context) for number in range(1, len(self.factors) + 1)]
        # All factors come from one matmul, so that the backward pass reads and writes the large arrays once.
        kernel, bias = (jnp.concatenate(leaves, axis=-1) for leaves in zip(*downs, strict=True))
        up = dense_leaves("up", math.prod(self.factors), d)
        sequential = self.place == "sequential"
        if context.get("fused") and sequential and adakron_kernel.supports(self.factors, h, self.dtype):
            return adakron_kernel.adapted(self.factors, h.astype(self.dtype), kernel, bias, *up)
        x = h if sequential else context["norm"](h + context["residual"])
        factors = jnp.split(self.affine(x, kernel, bias), list(itertools.accumulate(self.factors))[:-1], axis=-1)
        # The barrier covers the gradient too, which the sums over the factors' short axes would each recompute.
        z = by_itself(functools.reduce(kron, factors))
        return self.affine(gelu(z), *up) + h

    def down(self, d: int, number: int, context: Mapping[str, Any]) -> tuple[Array, Array]:
        """Returns the kernel [d, factor] and bias [factor] of one down-projection; `number` counts from 1."""
        del context
        return dense_leaves(f"down_{number}", d, self.factors[number - 1])

    def affine(self, x: Array, kernel: Array, bias: Array) -> Array:
        """Returns x kernel + bias, in the module's precision."""
        x, kernel, bias = promote(x, kernel, bias, dtype=self.dtype)
        return matmul(x, kernel) + bias


def dense_leaves(name: str, *shape: int) -> tuple[Array, Array]:
    """Creates the kernel and bias of a dense layer in the calling module."""
    leaves = ("kernel", nn.initializers.normal(0.02), shape), ("bias", nn.initializers.zeros, shape[-1:])
    kernel, bias = Parameters(leaves, name=name)()
    return kernel, bias


def kron(x: Float[Array, "*batch n"], y: Float[Array, "*batch m"]) -> Float[Array, "*batch nm"]:
    """Returns y ⊗ x = [y_1 x, ..., y_m x] (the paper's equation 1) for each vector of a batch."""
    return (y[..., :, None] * x[..., None, :]).reshape(*x.shape[:-1], -1)
