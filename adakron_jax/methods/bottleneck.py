"""Bottleneck adapters: h + f(x W_down + b_down) W_up + b_up, with W_down [d, r] and W_up [r, d].

Pfeiffer et al. 2021:  one a layer, x = LN(h + residual), f = ReLU; the sub-layer's own frozen LayerNorm, used twice.
Houlsby et al. 2019:   two a layer, x = h, f = GELU.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.matmul import dot_general
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
      scales: factors on what is added to h, one a layer; none is 1 everywhere.
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


def at_places(module: Callable[..., nn.Module], places: Sequence[str]) -> dict[Site, Splice]:
    """The same module at each place."""
    return {PLACES[place]: Splice(module, label=place) for place in places}


def check_numbers(scales: tuple[float, ...]) -> None:
    require(all(map(math.isfinite, scales)), "scales", scales, "finite numbers")


def check_scales(scales: tuple[float, ...], config: EncoderConfig) -> None:
    """ValueError unless there is none, or one for every layer."""
    valid = len(scales) in (0, config.num_layers)
    require(valid, "scales", scales, f"none, or a number for each of {config.num_layers} layers")


def check_places(places: tuple[str, ...]) -> None:
    valid = 0 < len(places) == len(set(places)) and set(places) <= PLACES.keys()
    require(valid, "places", places, f"one or more of {', '.join(PLACES)}")


@register
@dataclasses.dataclass(frozen=True)
class Pfeiffer(Method):
    """One ReLU bottleneck a layer, in the feed-forward block; AdapterHub's `seq_bn`.

    Attributes:
      r: its width.
      places: the sub-layers that have one.
      activation: f.
      scales: a factor on what the adapter of each layer adds; by default 1 everywhere.
    """

    name: ClassVar[str] = "pfeiffer"
    least = {"r": 1}
    r: int = 48
    places: tuple[str, ...] = ("ffn",)
    activation: Activation = "relu"
    scales: tuple[float, ...] = ()

    def __post_init__(self):
        check_places(self.places)
        check_numbers(self.scales)

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        check_scales(self.scales, config)
        activation = ACTIVATIONS[self.activation]
        module = functools.partial(Bottleneck, self.r, activation, normed=True, dtype=dtype, scales=self.scales)
        return at_places(module, self.places)


@register
@dataclasses.dataclass(frozen=True)
class Houlsby(Method):
    """Two bottlenecks a layer, after the attention's and the feed-forward block's dense and dropout.

    Attributes:
      r: their width.
      form: `google`, the authors' code: GELU in its tanh form, truncated normal start of deviation 1e-3, all LayerNorms
        train. `adapterhub`, its `double_seq_bn`: SiLU, N(0, 0.02), LayerNorms frozen.
      places, scales: as Pfeiffer's.
      activation: f; `own` is the form's.
    """

    name: ClassVar[str] = "houlsby"
    least = {"r": 1}
    r: int = 64
    form: Form = "google"
    places: tuple[str, ...] = ("attention", "ffn")
    activation: DefaultOrOther = "own"
    scales: tuple[float, ...] = ()

    def __post_init__(self):
        check_places(self.places)
        check_numbers(self.scales)

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        check_scales(self.scales, config)
        google = self.form == "google"
        default = "gelu_tanh" if google else "silu"
        module = functools.partial(
            Bottleneck,
            self.r,
            ACTIVATIONS[default if self.activation == "own" else self.activation],
            normed=False,
            kernel_init=nn.initializers.truncated_normal(1e-3) if google else nn.initializers.normal(0.02),
            dtype=dtype,
            scales=self.scales,
        )
        return at_places(module, self.places)

    def trains(self, path: str) -> bool:
        return super().trains(path) or (self.form == "google" and "norm/" in path)
