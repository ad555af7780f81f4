"""Barriers that tell XLA which arrays to compute separately and which matmuls not to combine."""

from typing import Any

import jax
from jaxtyping import Array, Shaped


def by_itself(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Returns x; on a CPU, x is computed once and stored with its axes in order before anything reads it.

    XLA would otherwise fuse x into its readers: it would compute x several times, or pass a matmul an operand whose
    axes are in another order, for which XLA has no narrow matmuls. At the barrier the last axes are joined into one,
    which leaves no other order; the first two stay separate, because a mesh shards rows and heads.
    """
    same: Any = lambda x: x  # noqa: E731
    flat: Any = lambda x: jax.lax.optimization_barrier(x.reshape(*x.shape[:2], -1)).reshape(x.shape)  # noqa: E731
    return jax.lax.platform_dependent(x, cpu=flat, default=same)


def apart(*arrays: Shaped[Array, "..."]) -> tuple[Any, ...]:
    """Returns the arrays, which XLA on a GPU then treats as different even where they are the same array.

    XLA would otherwise combine matmuls of one array into one in float32, then add each bias in a separate kernel.
    """
    barrier: Any = lambda *arrays: jax.lax.optimization_barrier(arrays)  # noqa: E731
    return jax.lax.platform_dependent(*arrays, cuda=barrier, default=lambda *arrays: arrays)


def stored(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Returns x; XLA on a TPU recomputes neither x nor its gradient in each part of a matmul that reads it."""
    return jax.lax.platform_dependent(x, tpu=jax.lax.optimization_barrier, default=lambda x: x)
