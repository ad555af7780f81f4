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
from jaxtyping import Array, Float, Int

from adakron_jax.config import EncoderConfig
from adakron_jax.dropout import Dropout
from adakron_jax.params import Tree, flatten
from adakron_jax.splice import KeysValues, Method, Site, splice


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


@jax.custom_vjp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, x Φ(x), by erf, of which a CPU makes faster programs than of jax.nn's erfc.

    The backward pass keeps x alone, and computes Φ again.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * _normal_cdf(wide)).astype(x.dtype)


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_backward(x: Array, cotangent: Array) -> tuple[Array]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    slope = _normal_cdf(wide) + wide * jnp.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    return (cotangent * slope.astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


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
    def __call__(self, inputs: Packed, everywhere: dict[str, Any]) -> Float[Array, "rows seq hidden"]:
        config = self.config

        def table(rows: int, name: str) -> nn.Embed:
            normal = nn.initializers.normal(config.initializer_range)
            return nn.Embed(rows, config.hidden_size, dtype=self.dtype, embedding_init=normal, name=name)

        x = table(config.vocab_size, "word")(inputs.tokens)
        x = x + table(config.max_position_embeddings, "position")(inputs.positions + config.position_offset)
        x = x + table(config.type_vocab_size, "token_type")(inputs.token_types)
        x = Dropout(config.hidden_dropout)(self.norm()(x), everywhere["deterministic"])
        return self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, **everywhere)


class Attention(_Part):
    """Multi-head attention of some tokens to all of their example; residual and LayerNorm are the layer's."""

    @nn.compact
    def __call__(
        self,
        at: Float[Array, "rows queries hidden"],
        at_segments: Int[Array, "rows queries"],
        x: Float[Array, "rows seq hidden"],
        segments: Int[Array, "rows seq"],
        everywhere: dict[str, Any],
    ) -> Float[Array, "rows queries hidden"]:
        config = self.config

        def project(site: Site, x: Array, segments: Array) -> Float[Array, "rows heads seq head_dim"]:
            y = self.dense(config.hidden_size, site.value)(x)
            y = self.splice(site, y, inputs=x, segments=segments, **everywhere)
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim).swapaxes(1, 2)

        queries = project(Site.QUERY, at, at_segments)
        attended = KeysValues(
            keys=project(Site.KEY, x, segments),
            values=project(Site.VALUE, x, segments),
            mask=(at_segments[:, :, None] == segments[:, None, :])[:, None],
        )
        attended = self.splice(Site.KEYS_VALUES, attended, inputs=x, segments=segments, **everywhere)

        wide = jnp.promote_types(queries.dtype, jnp.float32)
        queries = queries / math.sqrt(config.head_dim)
        scores = jnp.einsum("rhqd,rhkd->rhqk", queries, attended.keys, preferred_element_type=wide)
        if attended.gate is not None:
            scores = scores * attended.gate
        scores = jnp.where(attended.mask, scores, jnp.finfo(wide).min)
        weights = jax.nn.softmax(scores).astype(attended.values.dtype)
        weights = Dropout(config.attention_dropout)(weights, everywhere["deterministic"])
        if attended.gate is not None:
            weights = weights * attended.gate.astype(weights.dtype)
        context = jnp.einsum("rhqk,rhkd->rhqd", weights, attended.values).swapaxes(1, 2).reshape(at.shape)

        context = self.splice(Site.ATTENTION_CONTEXT, context, segments=at_segments, **everywhere)
        y = self.dense(config.hidden_size, "dense")(context)
        return self.splice(Site.ATTENTION_DENSE, y, inputs=context, segments=at_segments, **everywhere)


class FeedForward(_Part):
    """Dense, exact GELU, dense."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows seq hidden"], segments: Int[Array, "rows seq"], everywhere: dict[str, Any]
    ) -> Float[Array, "rows seq hidden"]:
        hidden = gelu(self.dense(self.config.intermediate_size, "hidden")(x))
        hidden = self.splice(Site.FFN_HIDDEN, hidden, segments=segments, **everywhere)
        y = self.dense(self.config.hidden_size, "dense")(hidden)
        return self.splice(Site.FFN_DENSE, y, inputs=hidden, segments=segments, **everywhere)


class Layer(_Part):
    """One transformer layer, LayerNorm after each residual; of all tokens, or only of those at `starts`."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows seq hidden"],
        segments: Int[Array, "rows seq"],
        everywhere: dict[str, Any],
        starts: Int[Array, "rows slots"] | None = None,
    ) -> Float[Array, "rows out hidden"]:
        at, at_segments = x, segments
        if starts is not None:
            at, at_segments = take(x, starts), jnp.take_along_axis(segments, starts, axis=1)

        def add_and_norm(site: Site, y: Array, residual: Array, norm: nn.LayerNorm) -> Array:
            y = Dropout(self.config.hidden_dropout)(y, everywhere["deterministic"])
            y = self.splice(site, y, residual=residual, norm=norm, segments=at_segments, **everywhere)
            return norm(y + residual)

        parts = (self.config, self.method, self.dtype)
        y = Attention(*parts, name="attention")(at, at_segments, x, segments, everywhere)
        at = add_and_norm(Site.ATTENTION_OUTPUT, y, at, self.norm("attention_norm"))
        y = FeedForward(*parts, name="ffn")(at, at_segments, everywhere)
        return add_and_norm(Site.FFN_OUTPUT, y, at, self.norm("ffn_norm"))


class Encoder(_Part):
    """Embeddings and layers.

    The layers' parameters are stacked along a first axis. The first and the last layer stand outside the compiled
    loop over the others: below the first trained leaf there is nothing to differentiate, and of the last layer only
    the tokens that are asked for are computed. With `unroll` there is no loop; with `remat` the backward pass computes
    each layer a second time from the layer's input, which is then all that is kept of it. Neither changes the tree, nor
    results by more than rounding; both at once save a CPU no memory. Initialising makes the layers' parameters and
    computes nothing with them.
    """

    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(
        self, inputs: Packed, deterministic: bool = True, starts: Int[Array, "rows slots"] | None = None
    ) -> Float[Array, "rows out hidden"]:
        """The last hidden states, of all tokens or of those at `starts`."""
        config, parts = self.config, (self.config, self.method, self.dtype)
        shared = self.method.shared(config, self.dtype)
        everywhere = {
            "deterministic": deterministic,
            "shared": shared and shared.module(name=f"shared@{self.method.name}")(),
        }
        x = Embeddings(*parts, name="embeddings")(inputs, everywhere | {"layer": 0})

        layer = Layer(*parts, parent=None)
        params = self.param("layers", _init_layers, layer, everywhere)
        if self.is_initializing():
            return x if starts is None else take(x, starts)
        keys = None if deterministic else jax.random.split(self.make_rng("dropout"), config.num_layers)

        def one(x: Array, params: Any, number: Any, starts: Array | None = None) -> Any:
            rngs = {} if keys is None else {"dropout": keys[number]}
            return layer.apply(
                {"params": params}, x, inputs.segments, everywhere | {"layer": number}, starts, rngs=rngs
            )

        apply = jax.jit(jax.checkpoint(one) if self.remat else one)  # traced once for all layers
        inner = config.num_layers - 2
        sizes = [1, inner, 1] if inner > 1 and not self.unroll else [1] * config.num_layers
        *sections, last = _sections(params, sizes)
        number = 0
        for size, section in zip(sizes, sections, strict=False):
            if size == 1:
                x = apply(x, section, number)
            else:
                steps = (section, number + jnp.arange(size))
                x, _ = jax.lax.scan(lambda x, step: (apply(x, *step), None), x, steps)
            number += size
        if starts is None or self.method.pointwise:
            return apply(x, last, number, starts)
        return take(apply(x, last, number), starts)


def _init_layers(key: Array, layer: Layer, everywhere: dict[str, Any]) -> Any:
    """Fresh parameters of all layers, stacked."""
    x, segments = jnp.zeros((1, 1, layer.config.hidden_size)), jnp.ones((1, 1), jnp.int32)
    context = everywhere | {"deterministic": True, "layer": 0}
    one = lambda key: layer.init(key, x, segments, context)["params"]  # noqa: E731
    return jax.vmap(one)(jax.random.split(key, layer.config.num_layers))


def _sections(stacked: Tree, sizes: list[int]) -> list[Tree]:
    """Cuts stacked layers apart; one layer alone loses the axis. The gradient is one concatenation."""
    leaves, tree = jax.tree.flatten(stacked)
    cut = [jax.lax.split(leaf, sizes) for leaf in leaves]
    return [tree.unflatten([part[i][0] if size == 1 else part[i] for part in cut]) for i, size in enumerate(sizes)]


def take(x: Float[Array, "rows seq hidden"], at: Int[Array, "rows slots"]) -> Float[Array, "rows slots hidden"]:
    """The vectors at given positions of each row."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)


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
    unroll: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, inputs: Packed, deterministic: bool = True) -> Float[Array, "rows slots labels"]:
        parts = (self.config, self.method, self.dtype)
        encoder = Encoder(*parts, unroll=self.unroll, remat=self.remat, name="encoder")
        first = encoder(inputs, deterministic, inputs.starts)
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

        @jax.jit
        def initial(key: Array) -> dict[str, Array]:
            leaves = flatten(self.init(key, blank(1, 1, 1))["params"])
            return {path: leaf for path, leaf in leaves.items() if wanted(path)}

        return initial(key)


def blank(rows: int, seq: int, slots: int) -> Packed:
    """Rows of nothing but padding."""
    zeros = jnp.zeros((rows, seq), jnp.int32)
    return Packed(zeros, zeros, zeros, zeros, jnp.zeros((rows, slots), jnp.int32))
