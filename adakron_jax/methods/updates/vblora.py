"""VB-LoRA (Li et al. 2024): LoRA whose columns of A and rows of B are assembled from one bank of vectors.

ΔW = A B. Each piece of v numbers of a column of A or a row of B is Σ_j p_j bank[i_j], where i are the indices of the
piece's k largest logits, and p is the softmax of these alone.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.arithmetic import Parameters
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update
from adakron_jax.splice import Leaves, Splice, require

Form = Literal["logits", "topk"]


@register
@dataclasses.dataclass(frozen=True)
class VBLoRA(Update):
    """Low-rank updates whose vectors are shared by all layers and targets.

    Attributes:
      r: the rank of the updates.
      vectors, vector_length: size of the bank; v divides every target's inputs and outputs.
      topk: vectors that are mixed in a piece.
      form: `logits`, or `topk`: the vectors that are mixed are fixed, and all their weights are trained but the last,
        which makes their sum 1. An adapter that peft saved without its logits has this form.
    """

    name: ClassVar[str] = "vblora"
    least = {"r": 1, "vectors": 1, "vector_length": 1}
    r: int = 4
    vectors: int = 90
    vector_length: int = 256
    topk: int = 2
    form: Form = "logits"

    def __post_init__(self):
        super().__post_init__()
        require(1 <= self.topk <= self.vectors, "topk", self.topk, f"1 to {self.vectors}, the vectors")

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        bank = "vector_bank", _uniform, (self.vectors, self.vector_length)
        return Splice(functools.partial(Parameters, (bank,)), label="")

    def trains(self, path: str) -> bool:
        return super().trains(path) and "/order_" not in path

    def check(self, target: str, sizes: Sizes) -> None:
        valid = not any(size % self.vector_length for size in sizes)
        require(valid, "vector_length", self.vector_length, f"a divisor of {sizes[0]} and {sizes[1]}")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        (inputs, outputs), v = target.sizes, self.vector_length
        kinds: dict[str, tuple[Any, int]] = {"logits": (nn.initializers.normal(0.1), self.vectors)}
        if self.form == "topk":
            first, even = functools.partial(_first, self.topk), nn.initializers.constant(1 / self.topk)
            kinds = {"order": (first, self.vectors), "weights": (even, self.topk - 1)}
        leaves = {
            (name := f"{kind}_{side}"): target.param(name, start, (*shape, last))
            for side, shape in (("a", (self.r, inputs // v)), ("b", (outputs // v, self.r)))
            for kind, (start, last) in kinds.items()
        }
        x, a, b = target.promoted(*self.matrices(leaves, *target.shared))
        return matmul(matmul(x, a), b)

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        a, b = map(np.asarray, self.matrices(leaves, shared["vector_bank"]))
        return a @ b

    def matrices(self, leaves: Mapping[str, Any], bank: Any) -> tuple[Float[Array, "d r"], Float[Array, "r out"]]:
        """Builds A and B from a target's leaves."""
        a, b = (pieces(leaves, side, bank, self.topk) for side in ("a", "b"))
        return a.reshape(self.r, -1).T, b.swapaxes(0, 1).reshape(self.r, -1)


def pieces(leaves: Mapping[str, Any], name: str, bank: Any, topk: int) -> Float[Array, "i j v"]:
    """Computes all pieces of a matrix from its leaves: `logits_{name}` [i, j, vectors], or `order_{name}`, which is
    largest at the index of the first vector, and `weights_{name}` [i, j, k - 1]."""
    of_logits = f"logits_{name}" in leaves
    largest, at = jax.lax.top_k(leaves[f"logits_{name}" if of_logits else f"order_{name}"], topk)
    if of_logits:
        weights = jax.nn.softmax(largest)
    else:
        given = jnp.asarray(leaves[f"weights_{name}"])
        weights = jnp.concatenate([given, 1 - given.sum(axis=-1, keepdims=True)], axis=-1)
    return jnp.einsum("ijk,ijkv->ijv", weights, jnp.asarray(bank)[at])


def _uniform(key: Array, shape: tuple[int, ...]) -> Float[Array, "vectors v"]:
    return jax.random.uniform(key, shape, minval=-0.02, maxval=0.02)


def _first(topk: int, key: Array, shape: tuple[int, ...]) -> Float[Array, "i j vectors"]:
    """Returns an order that begins with the first vectors."""
    del key
    return jnp.broadcast_to(jnp.maximum(topk - jnp.arange(shape[-1], dtype=jnp.float32), 0), shape)
