"""BERT and RoBERTa as one Flax module, with a splice site wherever a method may want to enter.

Sequences come packed: a row holds one or several examples end to end, told apart by their segment number (0 is
padding). Attention stays within a segment. A padded batch is the case of one example a row.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from adakron_jax.config import EncoderConfig
from adakron_jax.splice import Method, Site, splice

_WORD_BITS = 16  # of a random number that decides on one element of a dropout mask


@struct.dataclass
class Packed:
    """Rows of fixed length that hold several examples end to end.

    Attributes:
      tokens, token_types: ids [rows, seq].
      segments: number of the example within its row, from 1; 0 at padding [rows, seq].
      positions: index of the token within its example, from 0 [rows, seq].
      starts: where each example of the row begins; 0 in slots without an example. Slot s holds segment s + 1.
        [rows, slots]
    """

    tokens: Any
    token_types: Any
    segments: Any
    positions: Any
    starts: Any


def padded(
    input_ids: Int[Array, "rows seq"], attention_mask: Int[Array, "rows seq"], token_type_ids: Int[Array, "rows seq"]
) -> Packed:
    """A right-padded batch, as tokenizers make it, in packed form: one example a row."""
    rows, seq = input_ids.shape
    return Packed(
        tokens=input_ids,
        token_types=token_type_ids,
        segments=attention_mask,
        positions=jnp.broadcast_to(jnp.arange(seq), (rows, seq)) * attention_mask,
        starts=jnp.zeros((rows, 1), jnp.int32),
    )


class Dropout(nn.Module):
    """Inverted dropout from cheap random bits.

    Bernoulli draws through float32 cost a quarter of a training step on CPU. Here each element is decided by a word
    of few bits, and the scale uses the rate that such words really give, so that the expectation is exact. The mask
    of a row does not depend on how many rows there are, nor on how they are sharded.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], deterministic: bool) -> Float[Array, "*shape"]:
        drop = round(self.rate * 2**_WORD_BITS)
        if deterministic or drop == 0:
            return x
        words = 32 // _WORD_BITS
        bits = jax.random.bits(self.make_rng("dropout"), (*x.shape[:-1], -(-x.shape[-1] // words)), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(bits, jnp.dtype(f"uint{_WORD_BITS}"))
        bits = bits.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
        return jnp.where(bits >= drop, x / (1 - drop / 2**_WORD_BITS), jnp.zeros_like(x))


class _Part(nn.Module):
    """What the encoder's modules share: sizes, the method, and the precision they compute in.

    `dtype` None computes in the precision of parameters and inputs, float64 included. LayerNorm's statistics and the
    softmax are never narrower than float32.
    """

    config: EncoderConfig
    method: Method
    dtype: Any = None

    def dense(self, features: int, name: str) -> nn.Dense:
        normal = nn.initializers.normal(self.config.initializer_range)
        return nn.Dense(features, dtype=self.dtype, kernel_init=normal, name=name)

    def norm(self, name: str = "norm") -> nn.LayerNorm:
        return nn.LayerNorm(self.config.layer_norm_eps, dtype=self.dtype, use_fast_variance=False, name=name)

    def splice(self, site: Site, value: Any, **context: Any) -> Any:
        return splice(self.method, self.config, site, value, dtype=self.dtype, **context)


class Embeddings(_Part):
    """The sum of word, position and token type embeddings, normalised."""

    @nn.compact
    def __call__(self, inputs: Packed, deterministic: bool) -> Float[Array, "rows seq hidden"]:
        config = self.config

        def table(rows: int, name: str) -> nn.Embed:
            normal = nn.initializers.normal(config.initializer_range)
            return nn.Embed(rows, config.hidden_size, dtype=self.dtype, embedding_init=normal, name=name)

        x = table(config.vocab_size, "word")(inputs.tokens)
        x = x + table(config.max_position_embeddings, "position")(inputs.positions + config.position_offset)
        x = x + table(config.type_vocab_size, "token_type")(inputs.token_types)
        x = Dropout(config.hidden_dropout)(self.norm()(x), deterministic)
        return self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, deterministic=deterministic)


class Attention(_Part):
    """Multi-head self-attention up to its output dense; residual and LayerNorm are the layer's."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows seq hidden"],
        mask: Bool[Array, "rows 1 seq seq"],
        segments: Int[Array, "rows seq"],
        deterministic: bool,
    ) -> Float[Array, "rows seq hidden"]:
        config = self.config
        everywhere = {"segments": segments, "deterministic": deterministic}

        def project(site: Site) -> Float[Array, "rows heads seq head_dim"]:
            y = self.dense(config.hidden_size, site.value)(x)
            y = self.splice(site, y, inputs=x, **everywhere)
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim).swapaxes(1, 2)

        queries, keys, values = (project(site) for site in (Site.QUERY, Site.KEY, Site.VALUE))
        keys, values, mask = self.splice(Site.KEYS_VALUES, (keys, values, mask), inputs=x, **everywhere)

        wide = jnp.promote_types(queries.dtype, jnp.float32)
        queries = queries / math.sqrt(config.head_dim)
        scores = jnp.einsum("rhqd,rhkd->rhqk", queries, keys, preferred_element_type=wide)
        scores = jnp.where(mask, scores, jnp.finfo(wide).min)
        weights = jax.nn.softmax(scores).astype(values.dtype)
        weights = Dropout(config.attention_dropout)(weights, deterministic)
        context = jnp.einsum("rhqk,rhkd->rhqd", weights, values).swapaxes(1, 2).reshape(x.shape)

        y = self.dense(config.hidden_size, "dense")(context)
        return self.splice(Site.ATTENTION_DENSE, y, inputs=context, **everywhere)


class FeedForward(_Part):
    """Dense, exact GELU, dense."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows seq hidden"], segments: Int[Array, "rows seq"], deterministic: bool
    ) -> Float[Array, "rows seq hidden"]:
        everywhere = {"segments": segments, "deterministic": deterministic}
        hidden = nn.gelu(self.dense(self.config.intermediate_size, "hidden")(x), approximate=False)
        hidden = self.splice(Site.FFN_HIDDEN, hidden, **everywhere)
        y = self.dense(self.config.hidden_size, "dense")(hidden)
        return self.splice(Site.FFN_DENSE, y, inputs=hidden, **everywhere)


class Layer(_Part):
    """One transformer layer, LayerNorm after each residual; a step of the scan over layers."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows seq hidden"],
        mask: Bool[Array, "rows 1 seq seq"],
        segments: Int[Array, "rows seq"],
        deterministic: bool,
    ) -> tuple[Float[Array, "rows seq hidden"], None]:
        def add_and_norm(site: Site, y: Array, residual: Array, norm: nn.LayerNorm) -> Array:
            y = Dropout(self.config.hidden_dropout)(y, deterministic)
            y = self.splice(site, y, residual=residual, norm=norm, segments=segments, deterministic=deterministic)
            return norm(y + residual)

        parts = (self.config, self.method, self.dtype)
        y = Attention(*parts, name="attention")(x, mask, segments, deterministic)
        x = add_and_norm(Site.ATTENTION_OUTPUT, y, x, self.norm("attention_norm"))
        y = FeedForward(*parts, name="ffn")(x, segments, deterministic)
        return add_and_norm(Site.FFN_OUTPUT, y, x, self.norm("ffn_norm")), None


class Encoder(_Part):
    """Embeddings and layers; returns the last hidden states.

    The layers' parameters are stacked along a first axis; `unroll` says how many of them the compiled loop holds at
    a time, and changes neither the tree nor the numbers.
    """

    unroll: int = 1

    @nn.compact
    def __call__(self, inputs: Packed, deterministic: bool = True) -> Float[Array, "rows seq hidden"]:
        parts = (self.config, self.method, self.dtype)
        x = Embeddings(*parts, name="embeddings")(inputs, deterministic)
        mask = (inputs.segments[:, :, None] == inputs.segments[:, None, :])[:, None]
        layers = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=self.config.num_layers,
            unroll=self.unroll,
        )(*parts, name="layers")
        x, _ = layers(x, mask, inputs.segments, deterministic)
        return x


class RobertaHead(_Part):
    """RoBERTa's classifier: dense, tanh, projection; it stands in for the pooler that RoBERTa lacks."""

    num_labels: int = 2

    @nn.compact
    def __call__(
        self, first: Float[Array, "rows slots hidden"], deterministic: bool
    ) -> Float[Array, "rows slots labels"]:
        drop = Dropout(self.config.classifier_dropout)
        x = jnp.tanh(self.dense(self.config.hidden_size, "dense")(drop(first, deterministic)))
        return self.dense(self.num_labels, "out_proj")(drop(x, deterministic))


class SequenceClassifier(_Part):
    """An encoder and a head on each example's first token; a regression has one label.

    The parameters are `encoder/...`, for BERT `pooler/...`, and the head `classifier/...`.
    """

    num_labels: int = 2
    unroll: int = 1

    @nn.compact
    def __call__(self, inputs: Packed, deterministic: bool = True) -> Float[Array, "rows slots labels"]:
        parts = (self.config, self.method, self.dtype)
        hidden = Encoder(*parts, unroll=self.unroll, name="encoder")(inputs, deterministic)
        first = jnp.take_along_axis(hidden, inputs.starts[:, :, None], axis=1)
        if self.config.model_type == "roberta":
            logits = RobertaHead(*parts, num_labels=self.num_labels, name="classifier")(first, deterministic)
        else:
            pooled = jnp.tanh(self.dense(self.config.hidden_size, "pooler")(first))
            pooled = Dropout(self.config.classifier_dropout)(pooled, deterministic)
            logits = self.dense(self.num_labels, "classifier")(pooled)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def shapes(self) -> dict[str, Any]:
        """The parameter tree as shapes, without computing anything."""
        return jax.eval_shape(self.init, jax.random.key(0), blank(1, 1, 1))["params"]

    def fresh(self, key: Array, wanted: Any) -> dict[str, Array]:
        """Initial values of the leaves whose path satisfies `wanted`: path -> array. The others are never computed."""
        from adakron_jax.params import flatten

        @jax.jit
        def initial(key: Array) -> dict[str, Array]:
            leaves = flatten(self.init(key, blank(1, 1, 1))["params"])
            return {path: leaf for path, leaf in leaves.items() if wanted(path)}

        return initial(key)


def blank(rows: int, seq: int, slots: int) -> Packed:
    """Rows of nothing but padding."""
    zeros = jnp.zeros((rows, seq), jnp.int32)
    return Packed(zeros, zeros, zeros, zeros, jnp.zeros((rows, slots), jnp.int32))
