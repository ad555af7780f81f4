"""The authors' optimiser: AdamW, linear warm-up and decay, clipping by the global norm."""

import math
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from adakron_jax.params import flatten, unflatten

MAX_GRAD_NORM = 1.0
SMALL = 2**16  # elements; leaves up to this size are joined, as a kernel for each of a hundred costs more


@typing.no_type_check  # JAX builds it from shapes and shardings too
@struct.dataclass
class LinearSchedule:
    """The learning rate of each step, from arrays, so that runs of any learning rate and length share an executable.

    Attributes:
      peak: the highest learning rate.
      steps: the number of steps after which it is 0.
      warmup: the number of steps over which it rises from 0 to its peak.
    """

    peak: Float[Array, "*runs"]
    steps: Int[Array, "*runs"]
    warmup: Int[Array, "*runs"]

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        rise = jnp.where(self.warmup > 0, step / jnp.maximum(1, self.warmup), 1.0)
        fall = jnp.maximum(0, self.steps - step) / jnp.maximum(1, self.steps - self.warmup)
        return self.peak * jnp.minimum(rise, fall)


def linear_schedule(peak: float, steps: int, warmup_ratio: float) -> LinearSchedule:
    """Returns a schedule from 0 up to `peak` over ceil(warmup_ratio * steps) steps, then down to 0 at `steps`."""
    numbers: tuple[Any, Any, Any] = (np.float32(peak), np.int32(steps), np.int32(math.ceil(warmup_ratio * steps)))
    return LinearSchedule(*numbers)


def decays(params: Any) -> Any:
    """Returns the mask of the leaves under weight decay: all but biases and LayerNorms."""
    return unflatten({path: not path.endswith("bias") and "norm/" not in path for path in flatten(params)})


def joined(grads: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """Returns the gradients, with the small ones joined into a vector, and the function that splits them again.

    All small leaves of one shape are read from that vector, so that XLA on a GPU updates them in one kernel.
    """
    leaves, tree = jax.tree.flatten(grads)
    is_small = [leaf.size <= SMALL for leaf in leaves]
    vector, parted = ravel_pytree([leaf if small else None for leaf, small in zip(leaves, is_small, strict=True)])

    def split_again(arrays: list[Array]) -> Any:
        large = iter(arrays[1:])
        return tree.unflatten(next(large) if leaf is None else leaf for leaf in parted(arrays[0]))

    return [vector, *(leaf for leaf, small in zip(leaves, is_small, strict=True) if not small)], split_again


def norm(grads: Any) -> Float[Array, ""]:
    """Returns the norm of all gradients together."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(x)) for x in joined(grads)[0]))


def clipped(grads: Any) -> Any:
    """Returns the gradients, scaled down if their norm is above MAX_GRAD_NORM."""
    scale = MAX_GRAD_NORM / jnp.maximum(norm(grads), MAX_GRAD_NORM)
    arrays, split_again = joined(grads)
    return split_again([x * scale.astype(x.dtype) for x in arrays])


def adamw(weight_decay: float) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov and Hutter 2019) with the authors' constants, after clipping by the global norm of the
    gradients, which are those of the trainable parameters only. Its updates are for a learning rate of 1."""
    return optax.chain(
        optax.stateless(lambda grads, params: clipped(grads)),
        optax.adamw(1.0, b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay, mask=decays),
    )
