"""Where XLA has to be told what to compute by itself, and what not to join."""

from typing import Any

import jax
from jaxtyping import Array, Shaped


def by_itself(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """x; on a CPU it is computed once, into memory and in the order of its axes, before anything reads it.

    XLA would make it part of what reads it: computed several times, or an operand of a matmul whose axes lie in another
    order, for which there are no narrow matmuls. It passes the barrier with its last axes as one, which leaves no other
    order; the first two stay apart, as a mesh divides rows and heads.
    """
    same: Any = lambda x: x  # noqa: E731
    flat: Any = lambda x: jax.lax.optimization_barrier(x.reshape(*x.shape[:2], -1)).reshape(x.shape)  # noqa: E731
    return jax.lax.platform_dependent(x, cpu=flat, default=same)


def apart(*arrays: Shaped[Array, "..."]) -> tuple[Any, ...]:
    """The arrays, which XLA on a GPU takes for different ones even where they are the same.

    It would join matmuls of one array into one in float32, and then add each bias in a kernel of its own.
    """
    barrier: Any = lambda *arrays: jax.lax.optimization_barrier(arrays)  # noqa: E731
    return jax.lax.platform_dependent(*arrays, cuda=barrier, default=lambda *arrays: arrays)


def stored(x: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """x; XLA on a TPU computes neither x nor its gradient anew in each part of a matmul that reads it."""
    return jax.lax.platform_dependent(x, tpu=jax.lax.optimization_barrier, default=lambda x: x)
