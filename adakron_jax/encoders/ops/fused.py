"""Attention as one kernel, for GPUs and short rows: scores, softmax, dropout and context of one row and head.

The values between queries and context never leave the chip; the backward pass recomputes them. A row's queries are
processed in four parts, one for each byte of the random words that decide what dropout keeps.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from adakron_jax.xla import kernels
from adakron_jax.xla.kernels import dot

PARTS = 4  # bytes of a word
LONGEST = 128  # tokens of a row, so that one head's keys, values and their gradients fit on the chip


def supports(queries: Any, keys: Any) -> bool:
    """Returns whether the kernel takes arrays of these shapes [rows, heads, seq, head_dim]."""
    seq, width = queries.shape[-2:]
    powers = all(size & (size - 1) == 0 for size in (seq, width))
    return queries.shape == keys.shape and powers and 16 * PARTS <= seq <= LONGEST and width >= 16


def words_shape(queries: Any) -> tuple[int, ...]:
    """Returns the shape of the words that decide which weights of these queries are dropped."""
    rows, heads, seq, _ = queries.shape
    return rows, heads, seq // PARTS, seq


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
    drop: int,
    queries: Float[Array, "rows heads seq head_dim"],
    keys: Float[Array, "rows heads seq head_dim"],
    values: Float[Array, "rows heads seq head_dim"],
    mask: Bool[Array, "rows 1 seq seq"],
    words: UInt32[Array, "rows heads part seq"] | None,
) -> Float[Array, "rows heads seq head_dim"]:
    """Computes softmax(queries keys^T, where the mask is true) values, without the weights that `words` drop."""
    (context,) = _call(_forward, 1, drop, mask, words, queries, keys, values)
    return context


def _attend_forward(drop: int, *arrays: Any) -> tuple[Array, tuple[Any, ...]]:
    return attend(drop, *arrays), arrays


def _attend_backward(drop: int, arrays: tuple[Any, ...], cotangent: Array) -> tuple[Any, ...]:
    *by_head, mask, words = arrays
    gradients = _call(_backward, 3, drop, mask, words, *by_head, cotangent)
    return *gradients, *jax.tree.map(lambda x: np.zeros(x.shape, jax.dtypes.float0), (mask, words))


attend.defvjp(_attend_forward, _attend_backward)


def _call(kernel: Any, results: int, drop: int, mask: Array, words: Array | None, *by_head: Array) -> list[Array]:
    """Returns results shaped like the first of `by_head`; all enter and leave the kernel laid out as by projections."""
    from jax.experimental import pallas as pl  # here, since only GPUs need it

    rows, heads, seq, width = by_head[0].shape
    block = pl.BlockSpec((None, seq, width), lambda row, head: (row, 0, head))
    specs = [pl.BlockSpec((None, seq, seq), lambda row, head: (row, 0, 0)), *[block] * len(by_head)]
    arrays = [mask[:, 0].astype(jnp.int8), *(x.swapaxes(1, 2).reshape(rows, seq, heads * width) for x in by_head)]
    if words is not None:
        specs.append(pl.BlockSpec((None, None, seq // PARTS, seq), lambda row, head: (row, head, 0, 0)))
        arrays.append(words)

    out = kernels.call(
        functools.partial(kernel, drop if words is not None else 0),
        *arrays,
        warps=4 if results == 1 else 8,
        grid=(rows, heads),
        in_specs=specs,
        out_specs=[block] * results,
        out_shape=[jax.ShapeDtypeStruct(arrays[1].shape, arrays[1].dtype)] * results,
        name=f"attention{kernel.__name__}",
    )
    return [x.reshape(rows, seq, heads, width).swapaxes(1, 2) for x in out]


def _weights(queries: Array, keys: Array, mask: Array) -> Array:
    scores = jnp.where(mask != 0, dot(queries, keys, 1, 1), jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _scale(words: Any, part: Any, drop: int) -> Array:
    """Returns the scale of each weight: 0 if it is dropped."""
    return jnp.where((words[...] >> (8 * part).astype(jnp.uint32) & 255) >= drop, 256 / (256 - drop), 0.0)


def _forward(drop: int, mask: Any, queries: Any, keys: Any, values: Any, *rest: Any) -> None:
    from jax.experimental import pallas as pl

    *words, context = rest
    size, k, v = keys.shape[0] // PARTS, keys[...], values[...]

    def of_part(part: Any, _: None) -> None:
        at = pl.ds(part * size, size)
        weights = _weights(queries[at, :], k, mask[at, :])
        for word in words:
            weights *= _scale(word, part, drop)
        context[at, :] = dot(weights.astype(v.dtype), v, 1, 0).astype(context.dtype)

    jax.lax.fori_loop(0, PARTS, of_part, None)


def _backward(drop: int, mask: Any, queries: Any, keys: Any, values: Any, cotangent: Any, *rest: Any) -> None:
    from jax.experimental import pallas as pl

    *words, of_queries, of_keys, of_values = rest
    size, k, v = keys.shape[0] // PARTS, keys[...], values[...]

    def of_part(part: Any, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        at = pl.ds(part * size, size)
        q, g = queries[at, :], cotangent[at, :]
        weights = dropped = _weights(q, k, mask[at, :])
        slope = dot(g, v, 1, 1)
        for word in words:
            scale = _scale(word, part, drop)
            slope, dropped = slope * scale, dropped * scale
        slope = (weights * (slope - (weights * slope).sum(-1, keepdims=True))).astype(k.dtype)
        of_queries[at, :] = dot(slope, k, 1, 0).astype(of_queries.dtype)
        return sums[0] + dot(slope, q, 0, 0), sums[1] + dot(dropped.astype(g.dtype), g, 0, 0)

    zeros = jnp.zeros(keys.shape, jnp.float32)
    sums = jax.lax.fori_loop(0, PARTS, of_part, (zeros, zeros))
    of_keys[...], of_values[...] = (total.astype(of_keys.dtype) for total in sums)
