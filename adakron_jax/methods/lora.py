"""LoRA and its kin: learned updates of frozen matrices, y = x W + b + x ΔW; all fuse into W exactly.

LoRA (Hu et al. 2022):         ΔW = α/r A B            A [d, r], B [r, out]
VeRA (Kopiczko et al. 2024):   ΔW = A Λ_d B Λ_b        A [d, r], B [r, d] random, frozen, shared by all layers
KronA (Edalati et al. 2022):   ΔW = s A ⊗ B            A [in_1, out_1], B [in_2, out_2]
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.config import EncoderConfig
from adakron_jax.methods.promote import kaiming_uniform, promote
from adakron_jax.methods.subset import Head
from adakron_jax.splice import DENSES, Leaves, Method, Site, Splice, path_of, path_of_shared, register, require


@dataclasses.dataclass(frozen=True)
class Update(Method):
    """What the three have in common.

    Attributes:
      targets: the projections that are updated.
    """

    accepted: ClassVar[tuple[Site, ...]] = tuple(DENSES)
    targets: tuple[str, ...] = ("query", "value")

    def __post_init__(self):
        fine = 0 < len(self.targets) == len(set(self.targets)) and set(self.targets) <= set(self.accepted)
        require(fine, "targets", self.targets, f"one or more of {', '.join(self.accepted)}")

    def module(self, config: EncoderConfig, inputs: int, dtype: Any) -> functools.partial:
        """Builds the module of a target that reads `inputs` numbers a token."""
        raise NotImplementedError

    def delta(self, own: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]) -> np.ndarray:
        """ΔW of one layer, from its leaves by name and the shared ones."""
        raise NotImplementedError

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        inputs = {Site.FFN_DENSE: config.intermediate_size}
        return {
            site: Splice(self.module(config, inputs.get(site, config.hidden_size), dtype), label=site.value)
            for site in map(Site, self.targets)
        }

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        fused = {path: leaf for path, leaf in leaves.items() if f"@{self.name}/" not in path}
        shared = _below(leaves, path_of_shared(self.name))
        for site in map(Site, self.targets):
            own, kernel = _below(leaves, path_of(site, self.name)), f"{DENSES[site]}/kernel"
            deltas = [
                self.delta({name: leaf[layer] for name, leaf in own.items()}, shared)
                for layer in range(config.num_layers)
            ]
            fused[kernel] = fused[kernel] + np.stack(deltas)
        return Head(), fused


def _below(leaves: Leaves, prefix: str) -> dict[str, np.ndarray]:
    return {path.removeprefix(prefix): np.asarray(x) for path, x in leaves.items() if path.startswith(prefix)}


@register
@dataclasses.dataclass(frozen=True)
class LoRA(Update):
    """Low-rank updates.

    Attributes:
      r: their rank.
      alpha: α; the scale is α/r.
    """

    name: ClassVar[str] = "lora"
    r: int = 8
    alpha: float = 16.0

    def __post_init__(self):
        super().__post_init__()
        require(self.r >= 1, "r", self.r, "at least 1")
        require(self.alpha > 0, "alpha", self.alpha, "above 0")

    def module(self, config: EncoderConfig, inputs: int, dtype: Any) -> functools.partial:
        require(self.r <= config.hidden_size, "r", self.r, f"at most the hidden size, {config.hidden_size}")
        return functools.partial(LowRank, self.r, self.alpha / self.r, dtype)

    def delta(self, own: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.alpha / self.r * (own["lora_a"] @ own["lora_b"])


class LowRank(nn.Module):
    """y + scale · x A B; a gate, called as `gate(x, segments)`, stands in place of the scale."""

    r: int
    scale: float
    dtype: Any = None
    gate: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch out"], inputs: Float[Array, "*batch d"], segments: Array, **_: Any
    ) -> Float[Array, "*batch out"]:
        a = self.param("lora_a", kaiming_uniform, (inputs.shape[-1], self.r))
        b = self.param("lora_b", nn.initializers.zeros, (self.r, y.shape[-1]))
        x, a, b = promote(inputs, a, b, dtype=self.dtype)
        scale = self.scale if self.gate is None else self.gate(name="gate")(inputs, segments)
        return y + scale * (x @ a @ b)


@register
@dataclasses.dataclass(frozen=True)
class VeRA(Update):
    """Updates through two frozen random matrices; only two vectors a target learn.

    Attributes:
      r: columns of A, rows of B.
    """

    name: ClassVar[str] = "vera"
    accepted: ClassVar[tuple[Site, ...]] = (Site.QUERY, Site.KEY, Site.VALUE, Site.ATTENTION_DENSE)
    r: int = 1024

    def __post_init__(self):
        super().__post_init__()
        require(self.r >= 1, "r", self.r, "at least 1")

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        return Splice(functools.partial(Projections, config.hidden_size, self.r), label="frozen")

    def trains(self, path: str) -> bool:
        return super().trains(path) and "shared@" not in path

    def module(self, config: EncoderConfig, inputs: int, dtype: Any) -> functools.partial:
        return functools.partial(Scaled, dtype)

    def delta(self, own: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]) -> np.ndarray:
        return (shared["vera_a"] * own["lambda_d"]) @ (shared["vera_b"] * own["lambda_b"])


class Projections(nn.Module):
    """VeRA's A and B."""

    d: int
    r: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        a = self.param("vera_a", kaiming_uniform, (self.d, self.r))
        return a, self.param("vera_b", kaiming_uniform, (self.r, self.d))


class Scaled(nn.Module):
    """y + λ_b ⊙ (λ_d ⊙ x A) B."""

    dtype: Any = None

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch out"], inputs: Float[Array, "*batch d"], shared: tuple[Array, Array], **_: Any
    ) -> Float[Array, "*batch out"]:
        a, b = shared
        lambda_d = self.param("lambda_d", nn.initializers.constant(0.1), a.shape[1:])
        lambda_b = self.param("lambda_b", nn.initializers.zeros, b.shape[1:])
        x, a, b, lambda_d, lambda_b = promote(inputs, a, b, lambda_d, lambda_b, dtype=self.dtype)
        return y + (x @ a * lambda_d) @ b * lambda_b


@register
@dataclasses.dataclass(frozen=True)
class KronA(Update):
    """Kronecker products as updates.

    Attributes:
      a_shape: of A, divisors of the target's inputs and outputs; B has the quotients.
      scale: s.
    """

    name: ClassVar[str] = "krona"
    a_shape: tuple[int, ...] = (32, 32)
    scale: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        fine = len(self.a_shape) == 2 and min(self.a_shape) >= 1
        require(fine, "a_shape", self.a_shape, "two whole numbers of at least 1")
        require(self.scale > 0, "scale", self.scale, "above 0")

    def module(self, config: EncoderConfig, inputs: int, dtype: Any) -> functools.partial:
        sizes = (inputs, config.hidden_size)
        fine = not any(size % factor for size, factor in zip(sizes, self.a_shape, strict=True))
        require(fine, "a_shape", self.a_shape, f"divisors of {sizes[0]} and {sizes[1]}")
        return functools.partial(KroneckerProduct, self.a_shape, self.scale, dtype)

    def delta(self, own: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.scale * np.kron(own["kron_a"], own["kron_b"])


class KroneckerProduct(nn.Module):
    """y + s · x (A ⊗ B), without forming the product."""

    a_shape: tuple[int, ...]
    scale: float
    dtype: Any = None

    @nn.compact
    def __call__(
        self, y: Float[Array, "*batch out"], inputs: Float[Array, "*batch d"], **_: Any
    ) -> Float[Array, "*batch out"]:
        b_shape = (inputs.shape[-1] // self.a_shape[0], y.shape[-1] // self.a_shape[1])
        a = self.param("kron_a", kaiming_uniform, self.a_shape)
        b = self.param("kron_b", nn.initializers.zeros, b_shape)
        x, a, b = promote(inputs, a, b, dtype=self.dtype)
        x = x.reshape(*x.shape[:-1], self.a_shape[0], b_shape[0])
        update = jnp.einsum("...iq,is,qt->...st", x, a, b)
        return y + self.scale * update.reshape(y.shape)
