"""LoRA and its kin: trained updates of frozen matrices, y = x W + b + s x ΔW, which all fuse into W exactly.

LoRA (Hu et al. 2022):      ΔW = A B, s = α/r          A [in, r], B [r, out]
rank-stabilised scale (Kalajdzievski 2023):   s = α/√r
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import Scale, kaiming_uniform, promote, times, updated
from adakron_jax.methods.registry import register
from adakron_jax.methods.selective import Head
from adakron_jax.splice import DENSES, Leaves, Method, Site, Splice, path_of, path_of_shared, require

Sizes = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Target:
    """A dense layer during a pass, for the method that updates it.

    Attributes:
      name: the name in `targets`.
      y, x: the output and the input of the dense layer.
      dense: its parameters by name.
      shared: what the method's shared module returned.
      param: makes a leaf, as a Flax module's `param` does.
      dtype: the precision to compute in; None: that of x and the leaves.
      scaled: multiplies by s.
    """

    name: str
    y: Float[Array, "*batch out"]
    x: Float[Array, "*batch d"]
    dense: Mapping[str, Array]
    shared: Any
    param: Callable[..., Array]
    dtype: Any
    scaled: Callable[[Array], Array]

    @property
    def sizes(self) -> Sizes:
        """Numbers that the dense layer reads and returns per token."""
        return self.x.shape[-1], self.y.shape[-1]

    def factors(self, name: str, r: int) -> tuple[Float[Array, "d r"], Float[Array, "r out"]]:
        """Makes the leaves A and B of a low-rank product, which is zero at first."""
        inputs, outputs = self.sizes
        a = self.param(f"{name}_a", kaiming_uniform, (inputs, r))
        return a, self.param(f"{name}_b", nn.initializers.zeros, (r, outputs))

    def promoted(self, *arrays: Array) -> list[Array]:
        """Casts x and other arrays to the precision to compute in."""
        return promote(self.x, *arrays, dtype=self.dtype)

    def updated(self, update: Float[Array, "d out"]) -> Float[Array, "*batch out"]:
        """Returns the outputs y + s x ΔW, for a ΔW that has to be formed in any case."""
        return updated(self.y, self.x, self.scaled(update), self.dense, self.dtype)


@dataclasses.dataclass(frozen=True)
class Update(Method):
    """The base class of these methods: a subclass defines a target's outputs, and the kernel that it fuses into.

    Attributes:
      targets: the projections that are updated.
      scales: s of every target of the first layer, then of the second, and so on. By default s is the method's default
        everywhere.
    """

    accepted: ClassVar[tuple[Site, ...]] = tuple(DENSES)
    targets: tuple[str, ...] = ("query", "value")
    scales: tuple[float, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self):
        valid = 0 < len(self.targets) == len(set(self.targets)) and set(self.targets) <= set(self.accepted)
        require(valid, "targets", self.targets, f"one or more of {', '.join(self.accepted)}")
        require(all(map(math.isfinite, self.scales)), "scales", self.scales, "finite numbers")

    @property
    def default_scale(self) -> float:
        """The value of s if `scales` is empty."""
        return 1.0

    def scale_of(self, target: str) -> Scale:
        """Returns s of a target: one number, or one for every layer."""
        if not self.scales:
            return self.default_scale
        return self.scales[self.targets.index(target) :: len(self.targets)]

    def check(self, target: str, sizes: Sizes) -> None:
        """Raises ValueError if a target with these numbers of inputs and outputs cannot have such an update."""
        del target, sizes

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes x ΔW from the leaves that `target.param` makes."""
        raise NotImplementedError

    def outputs(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes what replaces the target's outputs y, with or without bias."""
        return target.y + target.scaled(self.added(target))

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        """Computes ΔW [in, out] of one layer from its leaves by name and the shared ones."""
        raise NotImplementedError

    def fused(self, kernel: np.ndarray, scale: np.float32, leaves: Leaves, shared: Leaves) -> np.ndarray:
        """Computes the kernel [in, out] of one layer with the update fused into it."""
        return kernel + scale * self.update(leaves, shared, kernel.shape)

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        count = config.num_layers * len(self.targets)
        require(len(self.scales) in (0, count), "scales", self.scales, f"none, or {count}: layers times targets")
        for target in self.targets:
            self.check(target, sizes(target, config))
        modules = {target: functools.partial(Updated, self, target, dtype) for target in self.targets}
        return {Site(target): Splice(module, label=target) for target, module in modules.items()}

    def kernels(self, config: EncoderConfig) -> Iterator[tuple[str, str, float]]:
        """Yields, for every updated kernel, its path, the path prefix of its update's leaves, and s."""
        chosen = self.layer_numbers(config)
        for site in map(Site, self.targets):
            for layer, scale in zip(chosen, np.broadcast_to(self.scale_of(site), len(chosen)), strict=True):
                kernel, added = f"{DENSES[site]}/kernel", path_of(site, self.name)
                yield kernel.format(i=layer), added.format(i=layer), float(scale)

    def fuse(self, leaves: Leaves, config: EncoderConfig) -> tuple[Method, Leaves]:
        fused = {path: leaf for path, leaf in leaves.items() if f"@{self.name}/" not in path}
        shared = below(leaves, path_of_shared(self.name))
        for kernel, added, scale in self.kernels(config):
            fused[kernel] = self.fused(np.asarray(fused[kernel]), np.float32(scale), below(leaves, added), shared)
        return Head(), fused


class Updated(nn.Module):
    """A target's outputs with a method's update; a gate, called as `gate(x, segments)`, replaces s."""

    method: Update
    target: str
    dtype: Any = None
    gate: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(
        self,
        y: Float[Array, "*batch out"],
        inputs: Float[Array, "*batch d"],
        dense: Mapping[str, Array],
        shared: Any,
        segments: Array,
        layer: Any,
        **_: Any,
    ) -> Float[Array, "*batch out"]:
        if self.gate is None:
            scaled = functools.partial(times, self.method.scale_of(self.target), layer=layer)
        else:
            scaled = functools.partial(operator.mul, self.gate(name="gate")(inputs, segments))
        return self.method.outputs(Target(self.target, y, inputs, dense, shared, self.param, self.dtype, scaled))


def sizes(target: str, config: EncoderConfig) -> Sizes:
    """Returns the numbers that a dense layer reads and returns per token."""
    inner = config.intermediate_size
    known = {Site.FFN_INNER: (config.hidden_size, inner), Site.FFN_DENSE: (inner, config.hidden_size)}
    return known.get(Site(target), (config.hidden_size, config.hidden_size))


def largest(targets: Iterable[str], config: EncoderConfig) -> Sizes:
    """Returns the most numbers that any of these targets reads, and the most that any returns."""
    inputs, outputs = zip(*(sizes(target, config) for target in targets), strict=True)
    return max(inputs), max(outputs)


def below(leaves: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    """Returns the leaves at paths with this prefix, by the rest of their paths."""
    return {path.removeprefix(prefix): np.asarray(x) for path, x in leaves.items() if path.startswith(prefix)}


@register
@dataclasses.dataclass(frozen=True)
class LoRA(Update):
    """Low-rank updates.

    Attributes:
      r: the rank of the updates.
      alpha: α; s is α/r.
      rank_stabilised: whether s is α/√r instead, so that updates of high rank train as fast as those of low rank.
    """

    name: ClassVar[str] = "lora"
    least = {"r": 1}
    r: int = 8
    alpha: float = 16.0
    rank_stabilised: bool = False

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", self.alpha, "above 0")

    @property
    def default_scale(self) -> float:
        return self.alpha / (self.r**0.5 if self.rank_stabilised else self.r)

    def check(self, target: str, sizes: Sizes) -> None:
        require(self.r <= min(sizes), "r", self.r, f"at most the hidden size, {min(sizes)}")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        x, a, b = target.promoted(*target.factors("lora", self.r))
        return matmul(matmul(x, a), b)

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        return leaves["lora_a"] @ leaves["lora_b"]
