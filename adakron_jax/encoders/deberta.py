"""DeBERTa-v2 and v3 (He et al. 2021): positions enter attention alone, as vectors of the offsets between tokens.

A score is the sum of three matmuls: query and key, query and the offset's key, key and the offset's query. Every layer
computes an offset's query and key from the same vectors, with the projections that it uses for tokens. Each nearby
offset has its own vector; farther ones share vectors, the more the farther they are.
"""

import functools
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.lax import slice_in_dim
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import bert
from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Part, Stream, gelu, take
from adakron_jax.encoders.ops import attention
from adakron_jax.encoders.ops.attention import Projection
from adakron_jax.encoders.ops.dropout import Dropout
from adakron_jax.encoders.ops.matmul import einsum, matmul
from adakron_jax.splice import Site


@functools.cache
def _rows(config: EncoderConfig) -> Int[np.ndarray, " offsets"]:
    """Returns the table's row for every offset from -reach to reach; offsets beyond these share the last rows."""
    size, reach = config.position_buckets, config.relative_reach
    near, offsets = size // 2, np.arange(-reach, reach + 1)
    far = np.log(np.maximum(np.abs(offsets), near) / near) / math.log((reach - 1) / near)
    buckets = np.where(np.abs(offsets) <= near, offsets, np.sign(offsets) * (near + np.ceil(far * (near - 1))))
    return (size + buckets).clip(0, 2 * size - 1).astype(np.int32)


def _reached(seq: int, config: EncoderConfig) -> tuple[int, int]:
    """Returns the first and the last row that offsets within this number of tokens use."""
    reach, most = config.relative_reach, min(seq - 1, config.relative_reach)
    return int(_rows(config)[reach - most]), int(_rows(config)[reach + most])


def _of_offsets(vectors: Float[Array, "rows *rest"], offsets: Any, seq: Any, config: EncoderConfig) -> Array:
    """Returns the vectors of some offsets, from those of all rows or of the rows that are reached."""
    reach, whole = config.relative_reach, 2 * config.position_buckets
    rows = _rows(config) - (0 if len(vectors) == whole else _reached(seq, config)[0])
    at = offsets.clip(-reach, reach) + reach
    rows = rows[at] if isinstance(at, np.ndarray) else jnp.take(jnp.asarray(rows), at, axis=0)
    return jnp.take(vectors, rows, axis=0, mode="clip")


def _skewed(x: Float[Array, "rows heads seq offsets"]) -> Float[Array, "rows heads seq seq"]:
    """Moves column seq - i + j of row i to column j without a gather, and without a scatter in the backward pass."""
    *batch, seq, columns = x.shape
    moved = slice_in_dim(x.reshape(*batch, columns, seq), 1, columns, axis=-2)
    return slice_in_dim(moved.reshape(*batch, seq, columns - 1), 0, seq, axis=-1)


class Embeddings(Part):
    """Normalised word embeddings, and the normalised vectors of the offsets."""

    @nn.compact
    def __call__(self, inputs: Packed, everywhere: dict[str, Any]) -> Stream:
        config = self.config
        x = self.norm()(self.table(config.vocab_size, "word")(inputs.tokens))
        x = Dropout(config.hidden_dropout)(x, everywhere["deterministic"])
        x = self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, **everywhere)
        seq, first, last = inputs.tokens.shape[1], 0, 2 * config.position_buckets - 1
        # A method's result for some vectors may depend on the others, and a traced length is known only at run time.
        if isinstance(seq, int) and self.method.pointwise:
            first, last = _reached(seq, config)
        offsets = self.table(2 * config.position_buckets, "offset")(np.arange(first, last + 1))
        return Stream(x, offsets=self.norm("offset_norm")(offsets)[None])


class Attention(attention.Attention):
    """Attention that adds scores of the offset between query and key; keys that a method added have no offset."""

    terms: int = 3

    def of_offsets(
        self,
        projections: tuple[Projection, Projection],
        scaled: Float[Array, "rows heads queries head_dim"],
        keys: Float[Array, "rows heads keys head_dim"],
        vectors: Float[Array, "1 offsets hidden"],
        places: Places,
        starts: Places | None,
        everywhere: dict[str, Any],
    ) -> Float[Array, "rows heads queries keys"]:
        """Computes the part of the scores that depends on offsets between tokens, from the stream's offset vectors.

        Args:
          projections: to queries and to keys.
          starts: None, or the places of the queries if these are only the first tokens of examples.
        """
        config, seq = self.config, keys.shape[2]
        # The mask is drawn on ones, so that it is the same for all rows of a batch, wherever they are.
        mask = Dropout(config.hidden_dropout)(jnp.ones(vectors.shape, vectors.dtype), everywhere["deterministic"])
        vectors, segments = vectors * mask, jnp.ones(vectors.shape[:2], jnp.int32)
        heads = (config.num_heads, config.head_dim)
        of_queries, of_keys = (project(vectors, segments).reshape(-1, *heads) for project in projections)
        of_queries = of_queries / math.sqrt(self.terms * config.head_dim)
        numbers = np.arange if isinstance(seq, int) else jnp.arange
        if starts is not None:  # a key has one offset to these queries: to the start of its example
            of_queries, of_keys = (
                jnp.take(_of_offsets(x, -numbers(seq), seq, config), places.positions, axis=0)
                for x in (of_queries, of_keys)
            )
            from_queries = einsum("rhqd,rkhd->rhqk", scaled, of_keys)
            return from_queries + jnp.einsum("rhkd,rkhd->rhk", keys, of_queries)[:, :, None]
        offsets = seq - numbers(2 * seq)  # of query to key, in the order of `_skewed`, which ignores the first
        from_queries = einsum("rhqd,ohd->rhqo", scaled, _of_offsets(of_keys, offsets, seq, config))
        from_keys = einsum("rhkd,ohd->rhko", keys, _of_offsets(of_queries, -offsets, seq, config))
        return _skewed(from_queries) + _skewed(from_keys).swapaxes(2, 3)


class Layer(bert.Layer):
    """BERT's layer with DeBERTa's attention."""

    attend: ClassVar[type[attention.Attention]] = Attention


class Convolution(Part):
    """The convolution of the embeddings, with GELU, that is added to the first layer's output, then normalised.

    Only the largest v2 models have it. A token sees neighbours of its example alone.
    """

    @nn.compact
    def __call__(
        self,
        stream: Stream,
        starts: Int[Array, "rows slots"] | None,
        x: Float[Array, "rows seq hidden"],
        places: Places,
        deterministic: bool,
    ) -> Stream:
        config = self.config
        size, width, seq = config.conv_kernel, config.hidden_size, x.shape[1]
        normal = nn.initializers.normal(config.initializer_range)
        kernel = self.param("kernel", normal, (size, width, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        margin = (size // 2, size // 2)
        wider, segments = jnp.pad(x, ((0, 0), margin, (0, 0))), jnp.pad(places.segments, ((0, 0), margin))
        neighbours = [
            jnp.where((beside(segments) == places.segments)[:, :, None], beside(wider), 0)
            for beside in (lambda x, tap=tap: slice_in_dim(x, tap, tap + seq, axis=1) for tap in range(size))
        ]
        y = matmul(jnp.concatenate(neighbours, axis=-1), kernel.reshape(-1, width)) + bias[None, None]
        y = gelu(Dropout(config.hidden_dropout)(y, deterministic))
        y = y if starts is None else take(y, starts)
        return Stream(self.norm()(stream.x + y), offsets=stream.offsets)
