"""AdaMix (Wang et al. 2022) and MAdaKron (the AdaKron authors' repository): mixtures of down-projections.

Some down-projections of an adapter hold E experts. In training, every pass draws one expert per layer for the whole
batch, and a second pass with other draws keeps the predictions p1 and p2 alike:

    loss = CE(p1) + ½ [KL(p̄2 ‖ p1) + KL(p̄1 ‖ p2)]         p̄ is held constant

At evaluation the experts' weights are averaged, so that a mixture fuses into one plain adapter.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.methods.adakron import AdaKron, KronAdapter, dense_leaves
from adakron_jax.methods.registry import register
from adakron_jax.splice import Leaves, Method, Site, Splice, require

Mixture = Literal["full", "partial"]


def draw(key: Array, experts: int) -> Array:
    """Draws the number of the expert that serves a pass."""
    return jax.random.randint(key, (), 0, experts)


class Experts(nn.Module):
    """Kernel [d, features] and bias [features] of one of E dense layers, or of their average."""

    features: int
    experts: int
    averaged: bool

    @nn.compact
    def __call__(self, d: int) -> tuple[Array, Array]:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (self.experts, d, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.experts, self.features))
        if self.averaged:
            return kernel.mean(axis=0), bias.mean(axis=0)
        expert = draw(self.make_rng("dropout"), self.experts)
        return kernel[expert], bias[expert]


class MixedAdapter(KronAdapter):
    """AdaKron's adapter with experts.

    Attributes:
      experts: E.
      mixed: numbers of the factors whose down-projection holds experts, from 1.
    """

    experts: int = 4
    mixed: tuple[int, ...] = (1,)

    def down(self, d: int, number: int, context: Mapping[str, Any]) -> tuple[Array, Array]:
        name, width = "down" if len(self.factors) == 1 else f"down_{number}", self.factors[number - 1]
        if number not in self.mixed:
            return dense_leaves(name, d, width)
        return Experts(width, self.experts, context["deterministic"], name=name)(d)


@dataclasses.dataclass(frozen=True)
class _Mixed(Method):
    """The base class of AdaMix and MAdaKron.

    Attributes:
      experts: E.
      consistency: whether the second pass is made; never for a regression, which has no distribution.
    """

    least = {"experts": 2}
    experts: int = 4
    consistency: bool = True

    def plain(self) -> AdaKron:
        """Returns the adapter that the mixture fuses into."""
        raise NotImplementedError

    def mixed(self) -> tuple[int, ...]:
        """Returns the numbers of the factors that hold experts, from 1."""
        raise NotImplementedError

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        plain = self.plain()
        module = functools.partial(
            MixedAdapter, plain.factors, plain.place, dtype, experts=self.experts, mixed=self.mixed()
        )
        return {Site.FFN_DENSE: Splice(module, label=self.name)}

    def extra_losses(
        self, logits: Float[Array, "*batch labels"], again: Callable[[], Float[Array, "*batch labels"]]
    ) -> Float[Array, " *batch"] | float:
        if not self.consistency or logits.shape[-1] == 1:
            return 0.0
        first, second = jax.nn.log_softmax(logits), jax.nn.log_softmax(again())
        return 0.5 * (_divergence(second, first) + _divergence(first, second))

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        plain, fused = self.plain(), {}
        for path, leaf in leaves.items():
            at, mark, rest = path.partition(f"@{self.name}/")
            if not mark:
                fused[path] = leaf
                continue
            projection, kind = rest.split("/")
            projection = "down_1" if projection == "down" else projection
            if projection in {f"down_{number}" for number in self.mixed()}:
                leaf = np.asarray(leaf).mean(axis=0)
            fused[f"{at}@{plain.name}/{projection}/{kind}"] = leaf
        return plain, fused


def _divergence(target: Float[Array, "*batch labels"], given: Float[Array, "*batch labels"]) -> Float[Array, " *batch"]:
    """Computes KL(target ‖ given) of log-probabilities, with the target held constant."""
    target = jax.lax.stop_gradient(target)
    return jnp.sum(jnp.exp(target) * (target - given), axis=-1)


@register
@dataclasses.dataclass(frozen=True)
class AdaMix(_Mixed):
    """A GELU bottleneck at AdaKron's place, with experts in its down-projection.

    Attributes:
      r: width of the bottleneck.
    """

    name: ClassVar[str] = "adamix"
    least = {"experts": 2, "r": 1}
    r: int = 48

    def plain(self) -> AdaKron:
        return AdaKron((self.r,))

    def mixed(self) -> tuple[int, ...]:
        return (1,)


@register
@dataclasses.dataclass(frozen=True)
class MAdaKron(_Mixed):
    """AdaKron with experts.

    Attributes:
      factors: as in AdaKron.
      mixture: `full`, experts in every down-projection, or `partial`, in the last one alone, of width a.
    """

    name: ClassVar[str] = "madakron"
    factors: tuple[int, ...] = (12, 4)
    mixture: Mixture = "full"

    def __post_init__(self):
        super().__post_init__()
        require(len(self.factors) >= 2, "factors", self.factors, "two or more; a single one is adamix")
        self.plain()

    def plain(self) -> AdaKron:
        return AdaKron(self.factors)

    def mixed(self) -> tuple[int, ...]:
        last = len(self.factors)
        return tuple(range(1, last + 1)) if self.mixture == "full" else (last,)
