"""Dropout that draws cheap random bits."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, UInt

from adakron_jax.xla.arrays import by_itself

_WORD_BITS = 8  # bits of a random number that decide on one element of a mask
_PARTS = 32 // _WORD_BITS
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # Salmon et al. 2011, table 4
_PARITY = 0x1BD11BDA


@functools.partial(jax.jit, static_argnums=1)
def random_words(key: Array, shape: tuple[int, ...]) -> UInt[Array, "*shape"]:
    """Returns 32-bit words, those of `jax.random.bits`, whatever the key's implementation.

    For a Threefry key, the 20 rounds of Threefry-2x32 (Salmon et al. 2011) on each word's number are written out: on a
    CPU, JAX keeps them in a loop, which takes three times as long and cannot be fused with what uses the words.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.bits(key, shape, jnp.uint32)
    first, second = jax.random.key_data(key)
    keys = (first, second, first ^ second ^ jnp.uint32(_PARITY))
    number = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    x, y = jnp.broadcast_to(keys[0], shape), number + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << rotation | y >> (32 - rotation))
        x, y = x + keys[(group + 1) % 3], y + (keys[(group + 2) % 3] + jnp.uint32(group + 1))
    return x ^ y


def dropped(rate: float) -> int:
    """Returns how many of the 256 values of a mask's word drop an element at this rate."""
    return round(rate * 2**_WORD_BITS)


@jax.custom_batching.custom_vmap
def words_like(key: Array, like: Array) -> Array:
    """Returns random words in the shape of `like`, which may be a part of a batch."""
    return random_words(key, like.shape)


@words_like.def_vmap
def _words_of_parts(size: int, batched: list[bool], key: Array, like: Array) -> tuple[Array, bool]:
    """Gives parts of a batch under one key the whole batch's words; parts under separate keys get separate words."""
    del size
    of_key, of_like = (0 if is_batched else None for is_batched in batched)
    if of_key is None:
        return words_like(key, like), True
    return jax.vmap(lambda key, like: random_words(key, like.shape), (of_key, of_like))(key, like), True


class Dropout(nn.Module):
    """Inverted dropout.

    Bernoulli draws through float32 cost a quarter of a training step on a CPU. Here a word of few bits decides on each
    element, and the scale uses the rate that such words really give, so that the expectation is exact. The mask of a
    row does not depend on the number of rows, on how they are sharded, or on a vmap over parts of them; with keys of
    other implementations than Threefry, such as `rbg`, it may.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "rows n *d"], deterministic: bool) -> Float[Array, "rows n *d"]:
        drop = dropped(self.rate)
        if deterministic or drop == 0:
            return x

        def compared(parts: Callable[[Array, Array], Array]) -> Any:
            return lambda key, x: parts(key, x) >= drop

        key, like = self.make_rng("dropout"), jax.lax.stop_gradient(x)
        mask = jax.lax.platform_dependent(key, like, tpu=compared(parts_of_axis), default=compared(parts_of_words))
        return jnp.where(mask, x / (1 - drop / 2**_WORD_BITS), jnp.zeros_like(x))


def parts_of_words(key: Array, x: Array) -> Array:
    """Returns a random byte for each element: the words' bytes as they lie in memory."""
    words: Any = by_itself(words_like(key, x[..., ::_PARTS]))  # else XLA repeats the rounds for each byte
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]


def parts_of_axis(key: Array, x: Array) -> Array:
    """Does the same for a TPU, whose registers keep a word together: its bytes go to four parts of the second axis."""
    rows, size, *others = x.shape
    shifts = jax.lax.broadcasted_iota(jnp.uint32, (1, _PARTS, *(1 for _ in x.shape[1:])), 1) * _WORD_BITS
    # Each array has its own shifts, since masks that shared them would all be drawn at once.
    words, shifts = jax.lax.optimization_barrier((words_like(key, x[:, ::_PARTS]), shifts))
    parts = words[:, None] >> shifts & (2**_WORD_BITS - 1)
    return parts.reshape(rows, -1, *others)[:, :size]
