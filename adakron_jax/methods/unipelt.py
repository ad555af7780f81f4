"""UniPELT (Mao et al. 2022): an adapter, a prefix and low-rank updates at once, each behind a gate.

A gate is one number per example, the mean over its tokens of σ(x w + b). It multiplies

    the adapter     what the adapter adds; x is the adapter's input
    the prefix      its keys and values; x is the attention's input
    LoRA            its update, in place of α/r; x is the attention's input, with one gate for each projection

The authors average over padding too, so that results depend on the padded length; here a gate sees its example alone.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.methods.arithmetic import promote
from adakron_jax.methods.bottleneck import Pfeiffer
from adakron_jax.methods.prefix import Prefix, without_mlp
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import LoRA
from adakron_jax.splice import Leaves, Method, Site, Splice, compose, require

Part = Literal["adapter", "prefix", "lora"]


class Gate(nn.Module):
    """The gate of each token's example."""

    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "rows seq d"], segments: Int[Array, "rows seq"]) -> Float[Array, "rows seq 1"]:
        kernel = self.param("kernel", nn.initializers.normal(0.02), (x.shape[-1], 1))
        bias = self.param("bias", nn.initializers.zeros, (1,))
        x, kernel, bias = promote(x, kernel, bias, dtype=self.dtype)
        opened = nn.sigmoid(x @ kernel + bias)
        same = (segments[:, :, None] == segments[:, None, :]).astype(opened.dtype)
        return same @ opened / same.sum(axis=-1, keepdims=True)


@register
@dataclasses.dataclass(frozen=True)
class UniPELT(Method):
    """An adapter, a prefix and LoRA at once, each behind a gate.

    Attributes:
      parts: `adapter`, `prefix`, `lora`: the first two are the publication's AP, all three its APL.
      r: width of the adapter, which is Pfeiffer's.
      length, mlp, mid: as in `Prefix`.
      lora_r: rank of the updates.
      targets: the projections that LoRA updates.
    """

    name: ClassVar[str] = "unipelt"
    pointwise: ClassVar[bool] = False
    least = {"lora_r": 1}
    parts: tuple[str, ...] = ("adapter", "prefix", "lora")
    r: int = 48
    length: int = 10
    mlp: bool = True
    mid: int = 512
    lora_r: int = 8
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        valid = bool(self.parts) and set(self.parts) <= set(get_args(Part))
        require(valid, "parts", self.parts, f"one or more of {', '.join(get_args(Part))}")
        self.members()

    def members(self) -> list[tuple[str, Method]]:
        """Returns the parts as separate methods."""
        known = {
            "adapter": Pfeiffer(self.r),
            "prefix": Prefix(self.length, self.mlp, self.mid),
            "lora": LoRA(self.targets, r=self.lora_r),
        }
        return [(part, known[part]) for part in self.parts]

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        valid = "lora" not in self.parts or self.lora_r <= config.hidden_size
        require(valid, "lora_r", self.lora_r, f"at most {config.hidden_size}")
        gate = functools.partial(Gate, dtype)

        def gated(part: str, site: Site, splice: Splice) -> Splice:
            gates = site.value if part == "lora" else part
            module = functools.partial(splice.module, gate=gate)
            return dataclasses.replace(splice, module=module, renamed={"gate": f"gate.{gates}"})

        return compose(
            [
                {site: gated(part, site, splice) for site, splice in member.splices(config, dtype).items()}
                for part, member in self.members()
            ]
        )

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice | None:
        return next((splice for _, member in self.members() if (splice := member.shared(config, dtype))), None)

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        require(
            "prefix" in self.parts, "parts", self.parts, "a prefix among them: gates follow the input, and do not fuse"
        )
        require(self.mlp, "mlp", self.mlp, "true: a prefix without its MLP is as simple as it can be")
        return dataclasses.replace(self, mlp=False), without_mlp(leaves, self.name, self.layer_numbers(config))
