"""AdaKron's adapter as one Pallas kernel for GPUs, which reads h once and writes h + adapter(h).

The factors of the Kronecker product are first spread over the bottleneck, by exact matmuls with matrices of zeros and
ones; the product is then elementwise. The forward kernel keeps only y, the output of the down-projection. The backward
kernel recomputes the rest and returns all gradients but those of the two weight matrices, which are XLA's own matmuls.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from adakron_jax.xla import kernels
from adakron_jax.xla.kernels import dot
from adakron_jax.xla.precision import is_narrow

ROWS = 64  # tokens that a block of threads computes
CHUNK = 128  # channels that a block reads at a time
NARROWEST, WIDEST = 16, 128  # columns of a matmul: what the GPU needs at least, and what a block's registers hold


def supports(factors: tuple[int, ...], h: Any, dtype: Any) -> bool:
    """Returns whether the kernel handles these factors and an input of this shape [..., d], in this precision."""
    divides = math.prod(h.shape[:-1]) % ROWS == 0 and h.shape[-1] % CHUNK == 0
    return is_narrow(dtype) and divides and max(sum(factors), math.prod(factors)) <= WIDEST


def adapted(
    factors: tuple[int, ...],
    h: Float[Array, "*batch d"],
    down: Float[Array, "d width"],
    down_bias: Float[Array, " width"],
    up: Float[Array, "r d"],
    up_bias: Float[Array, " d"],
) -> Float[Array, "*batch d"]:
    """Returns h + GELU(y2 ⊗ y1) W_up + b_up, where (y1, y2) = h W_down + b_down, in the dtype of h.

    Args:
      factors: the widths of y1, y2 and so on; `width` is their sum and `r` their product.
    """

    def padded(x: Array, axis: int) -> Array:
        more = max(NARROWEST, 1 << (x.shape[axis] - 1).bit_length()) - x.shape[axis]
        return jnp.pad(x, [(0, more if side == axis else 0) for side in range(x.ndim)])

    rows, down, up = h.reshape(-1, h.shape[-1]), padded(down.astype(h.dtype), 1), padded(up.astype(h.dtype), 0)
    down_bias, up_bias = (bias.astype(jnp.float32)[None] for bias in (down_bias, up_bias))
    out: Any = _adapted(factors, rows, down, padded(down_bias, 1), up, up_bias)
    return out.reshape(h.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _adapted(factors: tuple[int, ...], *arrays: Array) -> Array:
    return _forward(factors, *arrays)[0]


def _forward(factors: tuple[int, ...], h: Array, down: Array, down_bias: Array, up: Array, up_bias: Array) -> Any:
    shapes = h.shape, (len(h), down.shape[1])
    out, y = _call(_forward_kernel, factors, (h,), (down, down_bias, up, up_bias), shapes)
    return out, (h, y, down, up)


def _backward(factors: tuple[int, ...], kept: tuple[Array, ...], grad_out: Array) -> tuple[Array, ...]:
    h, y, down, up = kept
    blocks = len(h) // ROWS
    shapes = h.shape, y.shape, (len(h), len(up)), (blocks, 1, y.shape[1]), (blocks, 1, h.shape[1])
    grad_h, grad_y, z, *of_biases = _call(_backward_kernel, factors, (grad_out, y), (down, up), shapes)
    grad_down, grad_up = (dot(x, grad, 0, 0).astype(h.dtype) for x, grad in ((h, grad_y), (z, grad_out)))
    grad_down_bias, grad_up_bias = (sums.sum(0) for sums in of_biases)
    return grad_h, grad_down, grad_down_bias, grad_up, grad_up_bias


_adapted.defvjp(_forward, _backward)


def _call(
    kernel: Any,
    factors: tuple[int, ...],
    by_row: Sequence[Array],
    whole: Sequence[Array],
    results: Sequence[tuple[int, ...]],
) -> list[Array]:
    """Runs a kernel, of which each block of threads reads its `ROWS` rows of `by_row` and all of `whole`.

    Args:
      results: the shapes of the results. [blocks, 1, columns] means float32 sums, one for each block.
    """
    from jax.experimental import pallas as pl  # imported here, since only GPUs need it

    def spec(shape: tuple[int, ...]) -> Any:
        if len(shape) == 3:
            return pl.BlockSpec((None, *shape[1:]), lambda block: (block, 0, 0))
        return pl.BlockSpec((ROWS, shape[1]), lambda block: (block, 0))

    dtypes = [by_row[0].dtype if len(shape) == 2 else jnp.float32 for shape in results]
    return kernels.call(
        functools.partial(kernel, factors),
        *by_row,
        *whole,
        warps=4,
        grid=(len(by_row[0]) // ROWS,),
        in_specs=[*(spec(x.shape) for x in by_row), *(pl.BlockSpec(x.shape, lambda block: (0, 0)) for x in whole)],
        out_specs=[spec(shape) for shape in results],
        out_shape=[jax.ShapeDtypeStruct(*result) for result in zip(results, dtypes, strict=True)],
        name=f"adapter{kernel.__name__}",
    )


def _over_chunks(d: int, of_chunk: Callable[[Any, Any], Any], start: Any) -> Any:
    """Loops over the channels; `of_chunk` takes the place of a chunk and the state."""
    from jax.experimental import pallas as pl

    return jax.lax.fori_loop(0, d // CHUNK, lambda number, state: of_chunk(pl.ds(number * CHUNK, CHUNK), state), start)


def _kron_of(factors: tuple[int, ...], y: Array, r: int) -> tuple[Array, list[Array], list[Array]]:
    """Returns the Kronecker product [rows, r] of the parts of y, each part spread over it, and what spreads them."""
    column, place = (jax.lax.broadcasted_iota(jnp.int32, (y.shape[1], r), axis) for axis in range(2))
    spreads, begin, step = [], 0, 1
    for factor in factors:
        spreads.append((column == begin + place // step % factor).astype(y.dtype))
        begin, step = begin + factor, step * factor
    parts = [dot(y, spread, 1, 0) for spread in spreads]
    return functools.reduce(jnp.multiply, parts), parts, spreads


def _normal(x: Array) -> tuple[Array, Array]:
    """Returns Φ(x), to 1e-7, and φ(x).

    Triton has no erf. This is formula 7.1.26 of Abramowitz and Stegun's Handbook of Mathematical Functions.
    """
    density = jnp.exp(-0.5 * x * x)
    t = 1 / (1 + 0.3275911 * math.sqrt(0.5) * jnp.abs(x))
    tail = 0.0
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = (tail + coefficient) * t
    tail *= 0.5 * density
    return jnp.where(x < 0, tail, 1 - tail), density / math.sqrt(2 * math.pi)


def _forward_kernel(factors: Any, h: Any, down: Any, down_bias: Any, up: Any, up_bias: Any, out: Any, y: Any) -> None:
    d, width = down.shape

    def project(at: Any, total: Array) -> Array:
        return total + dot(h[:, at], down[at, :], 1, 0)

    projected = _over_chunks(d, project, jnp.zeros((ROWS, width), jnp.float32)) + down_bias[...]
    y[...] = narrow = projected.astype(y.dtype)
    kron, _, _ = _kron_of(factors, narrow, len(up))
    z = (kron * _normal(kron)[0]).astype(out.dtype)

    def write(at: Any, _: None) -> None:
        added = dot(z, up[:, at], 1, 0) + up_bias[:, at]
        out[:, at] = (h[:, at].astype(jnp.float32) + added).astype(out.dtype)

    _over_chunks(d, write, None)


def _backward_kernel(
    factors: Any,
    grad_out: Any,
    y: Any,
    down: Any,
    up: Any,
    grad_h: Any,
    grad_y: Any,
    z: Any,
    grad_down_bias: Any,
    grad_up_bias: Any,
) -> None:
    d, width = down.shape

    def project(at: Any, total: Array) -> Array:
        return total + dot(grad_out[:, at], up[:, at], 1, 1)

    grad_z = _over_chunks(d, project, jnp.zeros((ROWS, len(up)), jnp.float32))
    kron, parts, spreads = _kron_of(factors, y[...], len(up))
    below, density = _normal(kron)
    z[...] = (kron * below).astype(z.dtype)
    grad_kron, wide = grad_z * (below + kron * density), jnp.zeros((ROWS, width), jnp.float32)
    for number, spread in enumerate(spreads):
        grad_part = functools.reduce(jnp.multiply, parts[:number] + parts[number + 1 :], grad_kron)
        wide += dot(grad_part.astype(spread.dtype), spread, 1, 1)
    grad_down_bias[...] = wide.sum(0, keepdims=True)
    grad_y[...] = narrow = wide.astype(grad_y.dtype)

    def write(at: Any, _: None) -> None:
        of_residual = grad_out[:, at].astype(jnp.float32)
        grad_up_bias[:, at] = of_residual.sum(0, keepdims=True)
        grad_h[:, at] = (of_residual + dot(narrow, down[at, :], 1, 1)).astype(grad_h.dtype)

    _over_chunks(d, write, None)
