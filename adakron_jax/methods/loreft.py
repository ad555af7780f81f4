"""LoReFT (Wu et al. 2024): an intervention on the output of every layer, at the first and last tokens of an example.

    h + (h S + s - h P) Pᵀ         S, P [d, r], P with orthonormal columns

P = B G, as in AdapterHub: B is orthonormal and frozen, and G is the first columns of a product of Householder
reflections whose vectors train.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import dot_general, matmul
from adakron_jax.methods.arithmetic import kaiming_uniform, promote
from adakron_jax.methods.registry import register
from adakron_jax.splice import Method, Site, Splice, require


@register
@dataclasses.dataclass(frozen=True)
class LoReFT(Method):
    """Low-rank linear subspace representation fine-tuning.

    Attributes:
      r: the dimension of the subspace.
      prefix_positions: number of first tokens of an example that are changed.
      suffix_positions: number of last tokens, with separate parameters; a token that is both counts as one of the last.
    """

    name: ClassVar[str] = "loreft"
    least = {"r": 1, "prefix_positions": 0}
    r: int = 1
    prefix_positions: int = 3
    suffix_positions: int = 0

    def __post_init__(self):
        least = int(self.prefix_positions == 0)
        accepted = f"at least {least}" + " without prefix_positions" * least
        require(self.suffix_positions >= least, "suffix_positions", self.suffix_positions, accepted)

    @property
    def positions(self) -> dict[str, int]:
        """Number of tokens that each unit changes, by the unit's name."""
        positions = {"prefix": self.prefix_positions, "suffix": self.suffix_positions}
        return {unit: count for unit, count in positions.items() if count}

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        require(self.r <= config.hidden_size, "r", self.r, f"at most the hidden size, {config.hidden_size}")
        module = functools.partial(Intervention, self.r, tuple(self.positions.items()), dtype)
        return {Site.LAYER_OUTPUT: Splice(module, label="reft")}

    def trains(self, path: str) -> bool:
        return super().trains(path) and not path.endswith("/base")


class Intervention(nn.Module):
    """The units' outputs at the tokens that they change; other tokens pass unchanged."""

    r: int
    positions: tuple[tuple[str, int], ...]
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows seq d"],
        segments: Int[Array, "rows seq"],
        positions: Int[Array, "rows seq"],
        all_segments: Int[Array, "rows all"],
        **_: Any,
    ) -> Float[Array, "rows seq d"]:
        lengths = (segments[:, :, None] == all_segments[:, None, :]).sum(axis=-1)
        from_edge, changed = {"prefix": positions, "suffix": lengths - 1 - positions}, x
        for unit, count in self.positions:
            inside = (from_edge[unit] < count)[..., None]
            changed = jnp.where(inside, Unit(self.r, self.dtype, name=unit)(x), changed)
        return changed


class Unit(nn.Module):
    """h + (h S + s - h P) Pᵀ for every token."""

    r: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "rows seq d"]) -> Float[Array, "rows seq d"]:
        dense = {"kernel_init": kaiming_uniform, "dot_general": dot_general}
        source = nn.Dense(self.r, dtype=self.dtype, **dense, name="source")(x)
        x, p = promote(x, Orthonormal(self.r, name="projection")(x.shape[-1]), dtype=self.dtype)
        return x + matmul(source - matmul(x, p), p.T)


class Orthonormal(nn.Module):
    """P, at first B's first columns: the vectors start as unit vectors, whose reflections only change signs."""

    r: int

    @nn.compact
    def __call__(self, d: int) -> Float[Array, "d r"]:
        base = self.param("base", nn.initializers.orthogonal(), (d, d))
        original = self.param("original", lambda key, shape: -jnp.eye(*shape), (d, self.r))
        # Vector j is 0 above entry j, which is 1. Column j of G has the factor -1.
        vectors = jnp.tril(original, -1) + jnp.eye(d, self.r)
        g = -jnp.eye(d, self.r, dtype=vectors.dtype)
        for j in reversed(range(self.r)):
            v = vectors[:, j]
            g = g - (2 / (v @ v)) * jnp.outer(v, v @ g)
        return base @ g
