"""BERT and its kin: trained positions, LayerNorm after each residual, a plain GELU block."""

from collections.abc import Callable
from typing import Any, ClassVar

from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.encoders.inputs import Packed, Places
from adakron_jax.encoders.module import Part, Stream, gelu, take
from adakron_jax.encoders.ops.attention import Attention
from adakron_jax.encoders.ops.dropout import Dropout
from adakron_jax.splice import Site


class Embeddings(Part):
    """The normalised sum of word, position and token type embeddings, projected to the layers' width if it differs."""

    @nn.compact
    def __call__(self, inputs: Packed, everywhere: dict[str, Any]) -> Stream:
        config = self.config
        first = config.position_offset + self.method.first_position
        x = self.table(config.vocab_size, "word")(inputs.tokens)
        x = x + self.table(config.max_position_embeddings, "position")(inputs.positions + first)
        if config.type_vocab_size:
            x = x + self.table(config.type_vocab_size, "token_type")(inputs.token_types)
        x = Dropout(config.hidden_dropout)(self.norm()(x), everywhere["deterministic"])
        if config.embedding_width != config.hidden_size:
            x = self.dense(config.hidden_size, "projection")(x)
        return Stream(self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, **everywhere))


class FeedForward(Part):
    """Dense, exact GELU, dense."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows seq hidden"], places: Places, everywhere: dict[str, Any]
    ) -> Float[Array, "rows seq hidden"]:
        context = {"segments": places.segments, **everywhere}
        hidden = gelu(self.projection(Site.FFN_INNER, self.config.intermediate_size, "hidden")(x, **context))
        hidden = self.splice(Site.FFN_HIDDEN, hidden, **context)
        return self.projection(Site.FFN_DENSE, self.config.hidden_size, "dense")(hidden, **context)


class Layer(Part):
    """One transformer layer, computed for all tokens or only for those at `starts`."""

    attend: ClassVar[type[Attention]] = Attention

    @nn.compact
    def __call__(
        self,
        stream: Stream,
        places: Places,
        everywhere: dict[str, Any],
        starts: Int[Array, "rows slots"] | None = None,
    ) -> Stream:
        config, at, at_places = self.config, stream.x, places
        if starts is not None:
            at, at_places = take(at, starts), places.at(starts)

        def add_and_norm(
            site: Site, y: Array, residual: Array, norm: Callable[[Array], Array], dropout: float
        ) -> Array:
            y = Dropout(dropout)(y, everywhere["deterministic"])
            y = self.splice(site, y, residual=residual, norm=norm, segments=at_places.segments, **everywhere)
            return norm(y + residual)

        dropout = config.hidden_dropout if config.architecture.drops_attention_output else 0.0
        y = self.attend(*self.parts, name="attention")(at, at_places, stream, places, everywhere)
        at = add_and_norm(Site.ATTENTION_OUTPUT, y, at, self.norm("attention_norm"), dropout)
        y = FeedForward(*self.parts, name="ffn")(at, at_places, everywhere)
        x = add_and_norm(Site.FFN_OUTPUT, y, at, self.norm("ffn_norm"), config.hidden_dropout)
        x = self.splice(Site.LAYER_OUTPUT, x, **at_places.context(places), **everywhere)
        return Stream(x, offsets=stream.offsets)
