"""Compacter and Compacter++ (Karimi Mahabadi, Henderson and Ruder 2021).

A GELU bottleneck whose kernels are sums of Kronecker products,

    W = Σ_i A_i ⊗ (s_i t_i)       A_i [n, n]   s_i [in/n, rank]   t_i [rank, out/n]      i = 1 ... n

with A_i shared by all layers, places and directions.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import Parameters, promote
from adakron_jax.methods.bottleneck import ACTIVATIONS, PLACES, Bottleneck, Bottlenecks
from adakron_jax.methods.registry import register
from adakron_jax.splice import Splice, require


class HypercomplexDense(nn.Module):
    """x W + b; W is computed first, which costs next to nothing beside its matmul with x.

    Attributes:
      rule: the shared matrices A.
    """

    features: int
    rule: Float[Array, "n n n"]
    rank: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch d"]) -> Float[Array, "*batch features"]:
        n, d = len(self.rule), x.shape[-1]
        glorot = nn.initializers.glorot_uniform(batch_axis=0)
        left = self.param("left", glorot, (n, d // n, self.rank))
        right = self.param("right", glorot, (n, self.rank, self.features // n))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        kernel = jnp.einsum("ips,iqk,ikt->pqst", self.rule, left, right).reshape(d, self.features)
        x, kernel, bias = promote(x, kernel, bias, dtype=self.dtype)
        return matmul(x, kernel) + bias


class HypercomplexBottleneck(Bottleneck):
    """The bottleneck with hypercomplex kernels."""

    rank: int = 1

    def project(self, features: int, name: str, context: Mapping[str, Any]) -> nn.Module:
        (rule,) = context["shared"]
        return HypercomplexDense(features, rule, self.rank, self.dtype, name=name)


@register
@dataclasses.dataclass(frozen=True)
class Compacter(Bottlenecks):
    """Two hypercomplex bottlenecks per layer, at Houlsby's places; LayerNorms are frozen, as in AdapterHub.

    Attributes:
      reduction: hidden size over the bottleneck's width.
      phm_dim: n, a divisor of hidden size and width.
      phm_rank: the rank of s_i t_i.
      scales: as in Pfeiffer.
    """

    name: ClassVar[str] = "compacter"
    least = {"reduction": 1, "phm_dim": 1, "phm_rank": 1}
    reduction: int = 32
    phm_dim: int = 4
    phm_rank: int = 1
    scales: tuple[float, ...] = ()

    places: ClassVar[tuple[str, ...]] = tuple(PLACES)  # pyright: ignore[reportIncompatibleVariableOverride]
    normed: ClassVar[bool] = False

    def bottleneck(self, config: EncoderConfig, dtype: Any) -> Callable[..., nn.Module]:
        width, hidden = config.hidden_size // self.reduction, config.hidden_size
        valid = width > 0 and width % self.phm_dim == hidden % self.phm_dim == 0
        accepted = f"what reduces the hidden size {hidden} to a multiple of phm_dim {self.phm_dim}"
        require(valid, "reduction", self.reduction, accepted)
        return functools.partial(
            HypercomplexBottleneck,
            width,
            ACTIVATIONS["gelu"],
            normed=self.normed,
            dtype=dtype,
            scales=self.scales,
            rank=self.phm_rank,
        )

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        rule = "phm_rule", nn.initializers.normal(0.01), (self.phm_dim,) * 3
        return Splice(functools.partial(Parameters, (rule,)), label="")


@register
@dataclasses.dataclass(frozen=True)
class CompacterPlusPlus(Compacter):
    """One hypercomplex bottleneck per layer, at Pfeiffer's place."""

    name: ClassVar[str] = "compacter++"
    places: ClassVar[tuple[str, ...]] = ("ffn",)
    normed: ClassVar[bool] = True
