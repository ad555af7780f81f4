"""VB-LoRA (Li et al. 2024): LoRA whose columns of A and rows of B are put together from one bank of vectors.

ΔW = A B, each piece of v numbers of a column of A or of a row of B being Σ_j p_j bank[i_j]: i are the places of the
largest k of the piece's logits, p the softmax of these alone.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.matmul import matmul
from adakron_jax.methods.arithmetic import Scale, promote, times
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Update
from adakron_jax.splice import Splice, require

Form = Literal["logits", "topk"]


@register
@dataclasses.dataclass(frozen=True)
class VBLoRA(Update):
    """Low-rank updates whose vectors are shared by all layers and targets.

    Attributes:
      r: their rank.
      vectors, vector_length: of the bank; v divides every target's inputs and outputs.
      topk: vectors that are mixed in a piece.
      form: `logits`, or `topk`: which vectors are mixed is fixed, and what is trained are all their weights but the
        last, which is what is missing to 1. An adapter that peft saved without its logits has this form.
    """

    name: ClassVar[str] = "vblora"
    r: int = 4
    vectors: int = 90
    vector_length: int = 256
    topk: int = 2
    form: Form = "logits"

    def __post_init__(self):
        super().__post_init__()
        for name in ("r", "vectors", "vector_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(1 <= self.topk <= self.vectors, "topk", self.topk, f"1 to {self.vectors}, the vectors")
        require(self.form in get_args(Form), "form", self.form, ", ".join(get_args(Form)))

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        return Splice(functools.partial(Bank, self.vectors, self.vector_length), label="")

    def trains(self, path: str) -> bool:
        return super().trains(path) and "/order_" not in path

    def module(self, target: str, sizes: Sizes, dtype: Any) -> functools.partial:
        valid = not any(size % self.vector_length for size in sizes)
        require(valid, "vector_length", self.vector_length, f"a divisor of {sizes[0]} and {sizes[1]}")
        return functools.partial(Mixed, self.r, self.topk, self.form, self.scale_of(target), dtype)

    def update(self, leaves: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray], sizes: Sizes) -> np.ndarray:
        a, b = (pieces(leaves, name, shared["vector_bank"], self.topk) for name in ("a", "b"))
        return np.asarray(a).reshape(self.r, -1).T @ np.asarray(b).swapaxes(0, 1).reshape(self.r, -1)


def pieces(leaves: Mapping[str, Any], name: str, bank: Any, topk: int) -> Float[Array, "i j v"]:
    """All pieces of a matrix, from its leaves: `logits_{name}` [i, j, vectors], or `order_{name}`, which is largest
    where the first vector stands, and `weights_{name}` [i, j, k - 1]."""
    of_logits = f"logits_{name}" in leaves
    largest, at = jax.lax.top_k(leaves[f"logits_{name}" if of_logits else f"order_{name}"], topk)
    if of_logits:
        weights = jax.nn.softmax(largest)
    else:
        given = jnp.asarray(leaves[f"weights_{name}"])
        weights = jnp.concatenate([given, 1 - given.sum(axis=-1, keepdims=True)], axis=-1)
    return jnp.einsum("ijk,ijkv->ijv", weights, jnp.asarray(bank)[at])


def _first(topk: int, key: Array, shape: tuple[int, ...]) -> Float[Array, "i j vectors"]:
    """An order that begins with the first vectors."""
    del key
    return jnp.broadcast_to(jnp.maximum(topk - jnp.arange(shape[-1], dtype=jnp.float32), 0), shape)


class Bank(nn.Module):
    """The vectors [vectors, v]."""

    vectors: int
    vector_length: int

    @nn.compact
    def __call__(self) -> Float[Array, "vectors v"]:
        start = lambda key, shape: jax.random.uniform(key, shape, minval=-0.02, maxval=0.02)  # noqa: E731
        return self.param("vector_bank", start, (self.vectors, self.vector_length))


class Mixed(nn.Module):
    """y + s (x A) B."""

    r: int
    topk: int
    form: Form
    scale: Scale
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        y: Float[Array, "*batch out"],
        inputs: Float[Array, "*batch d"],
        shared: Float[Array, "vectors v"],
        layer: Any,
        **_: Any,
    ) -> Float[Array, "*batch out"]:
        vectors, v = shared.shape
        leaves = {}
        for name, shape in (("a", (self.r, inputs.shape[-1] // v)), ("b", (y.shape[-1] // v, self.r))):
            start = nn.initializers.normal(0.1)
            if self.form == "logits":
                leaves[f"logits_{name}"] = self.param(f"logits_{name}", start, (*shape, vectors))
            else:
                order = functools.partial(_first, self.topk)
                leaves[f"order_{name}"] = self.param(f"order_{name}", order, (*shape, vectors))
                even = nn.initializers.constant(1 / self.topk)
                leaves[f"weights_{name}"] = self.param(f"weights_{name}", even, (*shape, self.topk - 1))
        a, b = (pieces(leaves, name, shared, self.topk) for name in ("a", "b"))
        a, b = a.reshape(self.r, -1).T, b.swapaxes(0, 1).reshape(self.r, -1)
        x, a, b = promote(inputs, a, b, dtype=self.dtype)
        return y + times(self.scale, matmul(matmul(x, a), b), layer)
