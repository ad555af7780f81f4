"""Trained elementwise scales of the encoder's values; all fuse into its matrices exactly.

(IA)³ (Liu et al. 2022):        keys, values and the feed-forward block's hidden units, times a vector
Hadamard (Chen et al. 2024):    the self-attention's output, times a vector, plus a vector
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.paths import ATTENTION_NORM, without_layer
from adakron_jax.methods.arithmetic import promote
from adakron_jax.methods.registry import register
from adakron_jax.methods.selective import Head
from adakron_jax.splice import DENSES, Leaves, Method, Site, Splice, path_of, require

Place = Literal["after_dense", "context"]
# Values that are not a projection's output -> the site of the projection that reads them.
SCALED_INPUTS = {Site.ATTENTION_CONTEXT: Site.ATTENTION_DENSE, Site.FFN_HIDDEN: Site.FFN_DENSE}


class Scale(nn.Module):
    """w ⊙ x, with w starting at 1.

    Attributes:
      leaf: the name of w.
    """

    leaf: str
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch d"], **_: Any) -> Float[Array, "*batch d"]:
        x, w = promote(x, self.param(self.leaf, nn.initializers.ones, x.shape[-1:]), dtype=self.dtype)
        return x * w


@register
@dataclasses.dataclass(frozen=True)
class IA3(Method):
    """(IA)³: Infused Adapter by Inhibiting and Amplifying Inner Activations.

    Attributes:
      targets: the values that are scaled: outputs of projections, or the sites in `SCALED_INPUTS`. AdapterHub's form
        has `ffn_inner`, before the activation, in place of `ffn_hidden`.
    """

    name: ClassVar[str] = "ia3"
    targets: tuple[str, ...] = ("key", "value", "ffn_hidden")

    def __post_init__(self):
        accepted = (*DENSES, *SCALED_INPUTS)
        valid = 0 < len(self.targets) == len(set(self.targets)) and set(self.targets) <= set(accepted)
        require(valid, "targets", self.targets, f"one or more of {', '.join(accepted)}")

    def leaf(self, target: str) -> str:
        """Returns the name of a target's vector."""
        return "ffn" if target == Site.FFN_HIDDEN else target

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        return {
            Site(target): Splice(functools.partial(Scale, self.leaf(target), dtype), label="ia3")
            for target in self.targets
        }

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        fused = dict(leaves)
        for layer, site in itertools.product(self.layer_numbers(config), map(Site, self.targets)):
            dense = DENSES[SCALED_INPUTS.get(site, site)].format(i=layer)
            scale = np.asarray(fused.pop(f"{path_of(site, self.name)}{self.leaf(site)}".format(i=layer)))
            if site in SCALED_INPUTS:
                fused[f"{dense}/kernel"] = fused[f"{dense}/kernel"] * scale[:, None]
            else:
                _scale_outputs(fused, dense, scale)
        return Head(), fused


class Affine(nn.Module):
    """w ⊙ x + b, which starts as x."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch d"], **_: Any) -> Float[Array, "*batch d"]:
        weight = self.param("weight", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        x, weight, bias = promote(x, weight, bias, dtype=self.dtype)
        return x * weight + bias


@register
@dataclasses.dataclass(frozen=True)
class Hadamard(Method):
    """The Hadamard adapter; the LayerNorm after it trains too.

    Attributes:
      place: `after_dense`, on the output of the attention's dense layer, or `context`, on its input. The publication
        allows both.
    """

    name: ClassVar[str] = "hadamard"
    place: Place = "after_dense"

    @property
    def site(self) -> Site:
        return Site.ATTENTION_DENSE if self.place == "after_dense" else Site.ATTENTION_CONTEXT

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        return {self.site: Splice(functools.partial(Affine, dtype), label="hadamard")}

    def trains(self, path: str) -> bool:
        return super().trains(path) or without_layer(path).startswith(f"{ATTENTION_NORM}/")

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        if not config.architecture.biases:
            raise ValueError(f"method {self.name} cannot be fused: {config.model_type} has no bias to take up its own")
        fused = dict(leaves)
        for layer in self.layer_numbers(config):
            dense = DENSES[Site.ATTENTION_DENSE].format(i=layer)
            added = path_of(self.site, self.name).format(i=layer)
            weight, bias = np.asarray(fused.pop(f"{added}weight")), np.asarray(fused.pop(f"{added}bias"))
            if self.place == "after_dense":
                _scale_outputs(fused, dense, weight)
                fused[f"{dense}/bias"] = fused[f"{dense}/bias"] + bias
            else:
                kernel = np.asarray(fused[f"{dense}/kernel"])
                fused[f"{dense}/kernel"] = kernel * weight[:, None]
                fused[f"{dense}/bias"] = fused[f"{dense}/bias"] + bias @ kernel
        return Head(), fused


def _scale_outputs(leaves: Leaves, dense: str, scale: np.ndarray) -> None:
    """Scales the outputs of a dense layer, with or without a bias."""
    kernel, bias = f"{dense}/kernel", f"{dense}/bias"
    leaves[kernel] = leaves[kernel] * scale[None]
    if bias in leaves:
        leaves[bias] = leaves[bias] * scale
