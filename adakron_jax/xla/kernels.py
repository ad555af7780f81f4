"""Pallas kernels: compiled by Triton on a GPU, interpreted on a CPU."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def call(kernel: Callable[..., None], *arrays: Array, warps: int, **layout: Any) -> Any:
    """Runs a kernel on arrays; `layout` is what `pallas_call` takes: grid, specs, shapes of the results."""
    from jax.experimental import pallas as pl  # imported here, since only GPUs need it
    from jax.experimental.pallas import triton

    def run(settings: Any, *arrays: Array) -> Any:
        return pl.pallas_call(kernel, **layout, **settings)(*arrays)

    interpreted = functools.partial(run, {"interpret": True})
    compiled = functools.partial(run, {"compiler_params": triton.CompilerParams(num_warps=warps)})
    return jax.lax.platform_dependent(*arrays, cpu=interpreted, default=compiled)


def dot(x: Array, y: Array, x_axis: int, y_axis: int) -> Array:
    """The matmul of two matrices over the given axis of each, in float32."""
    return jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=jnp.float32)
