"""ModernBERT (Warner et al. 2024): rotary positions, alternating local and global attention, GeGLU, no biases.

LayerNorm precedes each block. Here it is computed after the residual of the previous block, where BERT's LayerNorm
is, so every layer has two, and the last layer's second is the encoder's final LayerNorm.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Part, Stream, gelu, take
from adakron_jax.encoders.ops import attention
from adakron_jax.encoders.ops.dropout import Dropout
from adakron_jax.splice import Site


class Embeddings(Part):
    """Normalised word embeddings; attention applies the positions."""

    @nn.compact
    def __call__(self, inputs: Packed, everywhere: dict[str, Any]) -> Stream:
        x = self.norm(use_bias=False)(self.table(self.config.vocab_size, "word")(inputs.tokens))
        x = Dropout(self.config.embedding_dropout)(x, everywhere["deterministic"])
        x = self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, **everywhere)
        return Stream(x, residual=x)


class Attention(attention.Attention):
    """Attention to the whole example in layers 0, g, 2 g, ..., to a window in the others; each kind has its angles."""

    biases: bool = False

    def is_global(self, layer: Any) -> Any:
        return layer % self.config.global_every == 0

    def turn(
        self, x: Float[Array, "rows heads seq head_dim"], places: Places, layer: Any
    ) -> Float[Array, "rows heads seq head_dim"]:
        """Rotates the pair (j, j + head_dim / 2) of every head by position * theta^(-2 j / head_dim)."""
        config, wide = self.config, jnp.promote_types(x.dtype, jnp.float32)
        exponents = -np.arange(0, config.head_dim, 2) / config.head_dim
        of_global, of_local = (
            jnp.asarray(theta**exponents, wide) for theta in (config.global_theta, config.local_theta)
        )
        frequencies = jnp.where(self.is_global(layer), of_global, of_local)
        angles = places.positions[:, None, :, None].astype(wide) * frequencies[None, None, None]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        left, right = jnp.split(x.astype(wide), 2, axis=-1)
        return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)

    def sees(self, at_places: Places, places: Places, layer: Any) -> Bool[Array, "rows queries keys"]:
        apart = jnp.abs(at_places.positions[:, :, None] - places.positions[:, None, :])
        within = self.is_global(layer) | (apart <= self.config.window // 2)
        return super().sees(at_places, places, layer) & within


class FeedForward(Part):
    """GELU of one half of the hidden units times the other half, then a dense layer."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows seq hidden"], places: Places, everywhere: dict[str, Any]
    ) -> Float[Array, "rows seq hidden"]:
        config, context = self.config, {"segments": places.segments, **everywhere}
        gate = self.dense(config.intermediate_size, "gate", use_bias=False)(x)
        inner = self.projection(Site.FFN_INNER, config.intermediate_size, "hidden", use_bias=False)(x, **context)
        hidden = self.splice(Site.FFN_HIDDEN, gelu(inner) * gate, **context)
        dropped = Dropout(config.hidden_dropout)(hidden, everywhere["deterministic"])
        return self.projection(Site.FFN_DENSE, config.hidden_size, "dense", use_bias=False)(dropped, **context)


class Layer(Part):
    """One transformer layer, computed for all tokens or only for those at `starts`."""

    @nn.compact
    def __call__(
        self,
        stream: Stream,
        places: Places,
        everywhere: dict[str, Any],
        starts: Int[Array, "rows slots"] | None = None,
    ) -> Stream:
        at, residual, at_places = stream.x, stream.residual, places
        if starts is not None:
            at, residual, at_places = take(at, starts), take(residual, starts), places.at(starts)

        def add(site: Site, y: Array, residual: Array) -> Array:
            # No LayerNorm comes between this and the next layers.
            context = {"residual": residual, "norm": lambda x: x, "segments": at_places.segments}
            return residual + self.splice(site, y, **context, **everywhere)

        y = Attention(*self.parts, name="attention")(at, at_places, stream, places, everywhere)
        y = Dropout(self.config.attention_dropout)(y, everywhere["deterministic"])
        residual = add(Site.ATTENTION_OUTPUT, y, residual)
        normed = self.norm("attention_norm", use_bias=False)(residual)
        residual = add(Site.FFN_OUTPUT, FeedForward(*self.parts, name="ffn")(normed, at_places, everywhere), residual)
        residual = self.splice(Site.LAYER_OUTPUT, residual, **at_places.context(places), **everywhere)
        return Stream(self.norm("ffn_norm", use_bias=False)(residual), residual)
