"""LoRA on frozen kernels that are decomposed first; both fuse into them exactly.

DoRA (Liu et al. 2024)      y = (m / n) ⊙ x (W + s A B) + b, n the norms of the columns of W + s A B, m trained
PiSSA (Meng et al. 2024)    y = x (W - W_r + s A B) + b, W_r the best approximation of W of rank r; s A B starts there

DoRA's n is a constant in the gradient, as its authors have it: computed anew in every pass, never differentiated.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.matmul import matmul
from adakron_jax.methods.arithmetic import biases, promote, times
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Factors, LoRA, Sizes
from adakron_jax.splice import DENSES, Leaves, Site, path_of, require


class Decomposing(LoRA):
    """What both have in common: initial values that follow from the kernels."""

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        """Initial values of the leaves of one kernel, by name, where they follow from it."""
        raise NotImplementedError

    def initial(self, base: Leaves, config: EncoderConfig) -> Leaves:
        leaves, chosen = {}, self.layer_numbers(config)
        for site in map(Site, self.targets):
            for layer, scale in zip(chosen, np.broadcast_to(self.scale_of(site), len(chosen)), strict=True):
                kernel = np.asarray(base[f"{DENSES[site]}/kernel".format(i=layer)])
                at = path_of(site, self.name).format(i=layer)
                leaves |= {f"{at}{name}": leaf for name, leaf in self.of_kernel(kernel, float(scale)).items()}
        return leaves


@register
@dataclasses.dataclass(frozen=True)
class DoRA(Decomposing):
    """Weight-decomposed low-rank adaptation: LoRA turns the kernel's columns, and a vector sets their norms."""

    name: ClassVar[str] = "dora"

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        return functools.partial(Decomposed, *super().module(target, sizes, dtype).args)

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        return {"magnitude": np.linalg.norm(kernel, axis=0)}

    def fused(
        self, kernel: np.ndarray, scale: np.float32, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        kernel = super().fused(kernel, scale, leaves, shared)
        return kernel * (leaves["magnitude"] / np.linalg.norm(kernel, axis=0))


class Decomposed(Factors):
    """(m / n) ⊙ x (W + s A B) + b, from y = x W + b."""

    @nn.compact
    def __call__(
        self,
        y: Float[Array, "*batch out"],
        inputs: Float[Array, "*batch d"],
        dense: Mapping[str, Array],
        layer: Any,
        **_: Any,
    ) -> Float[Array, "*batch out"]:
        a, b = self.factors(inputs.shape[-1], y.shape[-1])
        norms = jax.lax.stop_gradient(jnp.linalg.norm(dense["kernel"] + times(self.scale, a @ b, layer), axis=0))
        excess = self.param("magnitude", lambda _: norms) / norms - 1
        x, a, b, excess, *bias = promote(inputs, a, b, excess, *biases(dense), dtype=self.dtype)
        update = times(self.scale, matmul(matmul(x, a), b), layer)
        return y + update + excess * (y - sum(bias) + update)


@register
@dataclasses.dataclass(frozen=True)
class PiSSA(Decomposing):
    """Principal singular values and vectors adaptation: LoRA in place of the best approximation of the kernel.

    What it takes the place of is kept beside it, frozen: as a factor for each side, each the sum of two numbers, as
    the difference of a kernel and its approximation needs more digits than float32 has.
    """

    name: ClassVar[str] = "pissa"

    def __post_init__(self):
        super().__post_init__()
        require(min(self.scales, default=1.0) > 0, "scales", self.scales, "above 0")

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        return functools.partial(Residual, *super().module(target, sizes, dtype).args)

    def trains(self, path: str) -> bool:
        return super().trains(path) and "/principal_" not in path

    def of_kernel(self, kernel: np.ndarray, scale: float) -> dict[str, np.ndarray]:
        left, singular, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
        roots = np.sqrt(singular[: self.r])
        a, b = left[:, : self.r] * roots, roots[:, None] * right[: self.r]
        lora = {"lora_a": a / math.sqrt(scale), "lora_b": b / math.sqrt(scale)}
        return {name: x.astype(np.float32) for name, x in lora.items()} | {
            "principal_a": _in_two(a),
            "principal_b": _in_two(b),
        }

    def fused(
        self, kernel: np.ndarray, scale: np.float32, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        a, b = (leaves[name].sum(axis=0, dtype=np.float64) for name in ("principal_a", "principal_b"))
        return super().fused((kernel - a @ b).astype(np.float32), scale, leaves, shared)


def _in_two(x: np.ndarray) -> np.ndarray:
    """float64 as the sum of two numbers of float32 [2, ...]."""
    high = x.astype(np.float32)
    return np.stack([high, (x - high).astype(np.float32)])


class Residual(Factors):
    """x (W - W_r + s A B) + b, from y = x W + b."""

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch out"], inputs: Float[Array, "*batch d"], layer: Any, **_: Any
    ) -> Float[Array, "*batch out"]:
        a, b = self.factors(inputs.shape[-1], y.shape[-1])
        principal_a = self.param("principal_a", nn.initializers.zeros, (2, *a.shape)).sum(axis=0)
        principal_b = self.param("principal_b", nn.initializers.zeros, (2, *b.shape)).sum(axis=0)
        x, a, b, principal_a, principal_b = promote(inputs, a, b, principal_a, principal_b, dtype=self.dtype)
        update = times(self.scale, matmul(matmul(x, a), b), layer)
        return y + update - matmul(matmul(x, principal_a), principal_b)
