"""Bottleneck adapters: h + f(x W_down + b_down) W_up + b_up, with W_down [d, r] and W_up [r, d].

Pfeiffer et al. 2021:  one per layer, x = LN(h + residual), f = ReLU; the sub-layer's own frozen LayerNorm, used twice.
Houlsby et al. 2019:   two per layer, x = h, f = GELU.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import dot_general
from adakron_jax.methods.arithmetic import times
from adakron_jax.methods.registry import register
from adakron_jax.splice import Method, Site, Splice, require

Form = Literal["google", "adapterhub"]
Place = Literal["attention", "ffn"]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "tanh"]
DefaultOrOther = Literal["own", "relu", "gelu", "gelu_tanh", "silu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}
PLACES = {"attention": Site.ATTENTION_OUTPUT, "ffn": Site.FFN_OUTPUT}


class Bottleneck(nn.Module):
    """The adapter.

    Attributes:
      width: r.
      activation: f.
      normed: whether x is LN(h + residual), or h itself.
      gate: builds a module that is called as `gate(x, segments)`; its result multiplies what is added to h.
      scales: factors on what is added to h, one per layer; empty for 1 everywhere.
    """

    width: int
    activation: Callable[[Array], Array]
    normed: bool
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    dtype: Any = None
    gate: Callable[..., nn.Module] | None = None
    scales: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, h: Float[Array, "*batch d"], **context: Any) -> Float[Array, "*batch d"]:
        x = context["norm"](h + context["residual"]) if self.normed else h
        z = self.activation(self.project(self.width, "down", context)(x))
        y = self.project(h.shape[-1], "up", context)(z)
        y = times(self.scales, y, context["layer"]) if self.scales else y
        return h + (y if self.gate is None else y * self.gate(name="gate")(x, context["segments"]))

    def project(self, features: int, name: str, context: Mapping[str, Any]) -> nn.Module:
        del context
        return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, dot_general=dot_general, name=name)


class Bottlenecks(Method):
    """The base class of methods whose modules are bottlenecks.

    Attributes:
      places: the sub-layers that have a bottleneck.
      scales: a factor on what the adapters of each layer add; by default 1 everywhere.
    """

    places: tuple[str, ...]
    scales: tuple[float, ...]

    def __post_init__(self):
        valid = 0 < len(self.places) == len(set(self.places)) and set(self.places) <= PLACES.keys()
        require(valid, "places", self.places, f"one or more of {', '.join(PLACES)}")
        require(all(map(math.isfinite, self.scales)), "scales", self.scales, "finite numbers")

    def bottleneck(self, config: EncoderConfig, dtype: Any) -> Callable[..., nn.Module]:
        """Returns a function that builds the module, the same at every place."""
        raise NotImplementedError

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        accepted = f"none, or a number for each of {config.num_layers} layers"
        require(len(self.scales) in (0, config.num_layers), "scales", self.scales, accepted)
        module = self.bottleneck(config, dtype)
        return {PLACES[place]: Splice(module, label=place) for place in self.places}


@register
@dataclasses.dataclass(frozen=True)
class Pfeiffer(Bottlenecks):
    """One ReLU bottleneck per layer, in the feed-forward block; AdapterHub's `seq_bn`.

    Attributes:
      r: width of the bottleneck.
      places: the sub-layers that have a bottleneck.
      activation: f.
      scales: a factor on what the adapter of each layer adds; by default 1 everywhere.
    """

    name: ClassVar[str] = "pfeiffer"
    least = {"r": 1}
    r: int = 48
    places: tuple[str, ...] = ("ffn",)
    activation: Activation = "relu"
    scales: tuple[float, ...] = ()

    def bottleneck(self, config: EncoderConfig, dtype: Any) -> Callable[..., nn.Module]:
        activation = ACTIVATIONS[self.activation]
        return functools.partial(Bottleneck, self.r, activation, normed=True, dtype=dtype, scales=self.scales)


@register
@dataclasses.dataclass(frozen=True)
class Houlsby(Bottlenecks):
    """Two bottlenecks per layer, after the dense layer and dropout of the attention and of the feed-forward block.

    Attributes:
      r: width of the bottlenecks.
      form: `google`, the authors' code: GELU in its tanh form, initial values from a truncated normal of deviation
        1e-3, all LayerNorms train. `adapterhub`, its `double_seq_bn`: SiLU, N(0, 0.02), LayerNorms frozen.
      places, scales: as in Pfeiffer.
      activation: f; `own` is the form's.
    """

    name: ClassVar[str] = "houlsby"
    least = {"r": 1}
    r: int = 64
    form: Form = "google"
    places: tuple[str, ...] = ("attention", "ffn")
    activation: DefaultOrOther = "own"
    scales: tuple[float, ...] = ()

    def bottleneck(self, config: EncoderConfig, dtype: Any) -> Callable[..., nn.Module]:
        google = self.form == "google"
        default = "gelu_tanh" if google else "silu"
        return functools.partial(
            Bottleneck,
            self.r,
            ACTIVATIONS[default if self.activation == "own" else self.activation],
            normed=False,
            kernel_init=nn.initializers.truncated_normal(1e-3) if google else nn.initializers.normal(0.02),
            dtype=dtype,
            scales=self.scales,
        )

    def trains(self, path: str) -> bool:
        return super().trains(path) or (self.form == "google" and "norm/" in path)
