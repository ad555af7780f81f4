"""Bottleneck adapters: h + f(x W_down + b_down) W_up + b_up, with W_down [d, r] and W_up [r, d].

Pfeiffer et al. 2021:  one a layer, x = LN(h + residual), f = ReLU; the sub-layer's own frozen LayerNorm, used twice.
Houlsby et al. 2019:   two a layer, x = h, f = GELU.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.config import EncoderConfig
from adakron_jax.splice import Method, Site, Splice, register, require

Form = Literal["google", "adapterhub"]


class Bottleneck(nn.Module):
    """The adapter.

    Attributes:
      width: r.
      activation: f.
      normed: whether x is LN(h + residual), or h itself.
      gate: builds a module that is called as `gate(x, segments)`; its result multiplies what is added to h.
    """

    width: int
    activation: Callable[[Array], Array]
    normed: bool
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    dtype: Any = None
    gate: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, h: Float[Array, "*batch d"], **context: Any) -> Float[Array, "*batch d"]:
        x = context["norm"](h + context["residual"]) if self.normed else h
        z = self.activation(self.project(self.width, "down", context)(x))
        y = self.project(h.shape[-1], "up", context)(z)
        return h + (y if self.gate is None else y * self.gate(name="gate")(x, context["segments"]))

    def project(self, features: int, name: str, context: Mapping[str, Any]) -> nn.Module:
        del context
        return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)


def both_outputs(module: Callable[..., nn.Module]) -> dict[Site, Splice]:
    """The same at Houlsby's two places."""
    return {
        Site.ATTENTION_OUTPUT: Splice(module, label="attention"),
        Site.FFN_OUTPUT: Splice(module, label="ffn"),
    }


@register
@dataclasses.dataclass(frozen=True)
class Pfeiffer(Method):
    """One ReLU bottleneck a layer, in the feed-forward block; AdapterHub's `seq_bn`.

    Attributes:
      r: its width.
    """

    name: ClassVar[str] = "pfeiffer"
    r: int = 48

    def __post_init__(self):
        require(self.r >= 1, "r", self.r, "at least 1")

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        module = functools.partial(Bottleneck, self.r, nn.relu, normed=True, dtype=dtype)
        return {Site.FFN_OUTPUT: Splice(module, label="ffn")}


@register
@dataclasses.dataclass(frozen=True)
class Houlsby(Method):
    """Two bottlenecks a layer, after the attention's and the feed-forward block's dense and dropout.

    Attributes:
      r: their width.
      form: `google`, the authors' code: GELU in its tanh form, truncated normal start of deviation 1e-3, all LayerNorms
        learn. `adapterhub`, its `double_seq_bn`: SiLU, N(0, 0.02), LayerNorms frozen.
    """

    name: ClassVar[str] = "houlsby"
    r: int = 64
    form: Form = "google"

    def __post_init__(self):
        require(self.r >= 1, "r", self.r, "at least 1")
        require(self.form in get_args(Form), "form", self.form, ", ".join(get_args(Form)))

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        if self.form == "google":
            form = {"activation": nn.gelu, "kernel_init": nn.initializers.truncated_normal(1e-3)}
        else:
            form = {"activation": nn.silu}
        module = functools.partial(Bottleneck, self.r, **form, normed=False, dtype=dtype)
        return both_outputs(module)

    def trains(self, path: str) -> bool:
        return super().trains(path) or (self.form == "google" and "norm/" in path)
