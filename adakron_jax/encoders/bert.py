"""BERT and RoBERTa as one Flax module, with a splice site wherever a method may want to enter.

Sequences come packed: a row holds one or several examples end to end, told apart by their segment number (0 is
padding). Attention stays within a segment. A padded batch is the case of one example a row.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.encoders.apart import OWN, places_of
from adakron_jax.encoders.dropout import Dropout
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.parts import Part, gelu, take
from adakron_jax.splice import KeysValues, Site


class Embeddings(Part):
    """The sum of word, position and token type embeddings, normalised."""

    @nn.compact
    def __call__(self, inputs: Packed, everywhere: dict[str, Any]) -> Float[Array, "rows seq hidden"]:
        config = self.config

        def table(rows: int, name: str) -> Callable[[Array], Array]:
            normal = nn.initializers.normal(config.initializer_range)
            return self.own(nn.Embed(rows, config.hidden_size, dtype=self.dtype, embedding_init=normal, name=name))

        x = table(config.vocab_size, "word")(inputs.tokens)
        x = x + table(config.max_position_embeddings, "position")(inputs.positions + config.position_offset)
        x = x + table(config.type_vocab_size, "token_type")(inputs.token_types)
        x = Dropout(config.hidden_dropout)(self.norm()(x), everywhere["deterministic"])
        return self.splice(Site.EMBEDDINGS, x, segments=inputs.segments, **everywhere)


class Attention(Part):
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

        def project(site: Site, x: Array, segments: Array) -> Float[Array, "rows seq hidden"]:
            y = self.dense(config.hidden_size, site.value)(x)
            return self.splice(site, y, inputs=x, segments=segments, **everywhere)

        drop = Dropout(config.attention_dropout)

        def by_head(y: Array) -> Float[Array, "rows heads seq head_dim"]:
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim).swapaxes(1, 2)

        def attend(
            module: Any, queries: Array, keys: Array, values: Array, at_segments: Array, segments: Array, **context: Any
        ) -> Float[Array, "rows queries hidden"]:
            mask = (at_segments[:, :, None] == segments[:, None, :])[:, None]
            attended = module(KeysValues(by_head(keys), by_head(values), mask), segments=segments, **context)
            wide = jnp.promote_types(queries.dtype, jnp.float32)
            scaled = by_head(queries) / math.sqrt(config.head_dim)
            scores = jnp.einsum("rhqd,rhkd->rhqk", scaled, attended.keys, preferred_element_type=wide)
            if attended.gate is not None:
                scores = scores * attended.gate
            scores = jnp.where(attended.mask, scores, jnp.finfo(wide).min)
            weights = jax.nn.softmax(scores).astype(attended.values.dtype)
            weights = drop(weights, context["deterministic"])
            if attended.gate is not None:
                weights = weights * attended.gate.astype(weights.dtype)
            return jnp.einsum("rhqk,rhkd->rhqd", weights, attended.values).swapaxes(1, 2).reshape(queries.shape)

        projected = (
            project(Site.QUERY, at, at_segments),
            project(Site.KEY, x, segments),
            project(Site.VALUE, x, segments),
        )
        context = self.at(Site.KEYS_VALUES, attend, *projected, at_segments, segments, inputs=x, **everywhere)
        context = self.splice(Site.ATTENTION_CONTEXT, context, segments=at_segments, **everywhere)
        y = self.dense(config.hidden_size, "dense")(context)
        return self.splice(Site.ATTENTION_DENSE, y, inputs=context, segments=at_segments, **everywhere)


class FeedForward(Part):
    """Dense, exact GELU, dense."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "rows seq hidden"], segments: Int[Array, "rows seq"], everywhere: dict[str, Any]
    ) -> Float[Array, "rows seq hidden"]:
        hidden = gelu(self.dense(self.config.intermediate_size, "hidden")(x))
        hidden = self.splice(Site.FFN_HIDDEN, hidden, segments=segments, **everywhere)
        y = self.dense(self.config.hidden_size, "dense")(hidden)
        return self.splice(Site.FFN_DENSE, y, inputs=hidden, segments=segments, **everywhere)


class Layer(Part):
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

        def add_and_norm(site: Site, y: Array, residual: Array, norm: Callable[[Array], Array]) -> Array:
            y = Dropout(self.config.hidden_dropout)(y, everywhere["deterministic"])
            y = self.splice(site, y, residual=residual, norm=norm, segments=at_segments, **everywhere)
            return norm(y + residual)

        parts = (self.config, self.method, self.dtype)
        y = Attention(*parts, name="attention")(at, at_segments, x, segments, everywhere)
        at = add_and_norm(Site.ATTENTION_OUTPUT, y, at, self.norm("attention_norm"))
        y = FeedForward(*parts, name="ffn")(at, at_segments, everywhere)
        return add_and_norm(Site.FFN_OUTPUT, y, at, self.norm("ffn_norm"))


class Encoder(Part):
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
        everywhere = {"deterministic": deterministic, "shared": self.shared()}
        x = Embeddings(*parts, name="embeddings")(inputs, everywhere | {"layer": 0})

        layer = Layer(*parts, parent=None)
        places, own = places_of(self), self.get_variable(OWN, "layers", {})
        if places is None:
            params = self.param("layers", _init_layers, layer, everywhere)
        else:  # fresh ones have no use for what is every example's own
            params = self.get_variable("params", "layers")
        if self.is_initializing():
            return x if starts is None else take(x, starts)
        keys = None if deterministic else jax.random.split(self.make_rng("dropout"), config.num_layers)

        def one(x: Array, leaves: Any, number: Any, starts: Array | None = None) -> Any:
            rngs = {} if keys is None else {"dropout": keys[number]}
            variables = {"params": leaves[0]} | ({} if places is None else {OWN: {**leaves[1], "places": places}})
            return layer.apply(variables, x, inputs.segments, everywhere | {"layer": number}, starts, rngs=rngs)

        apply = jax.jit(jax.checkpoint(one) if self.remat else one)  # traced once for all layers
        inner = config.num_layers - 2
        sizes = [1, inner, 1] if inner > 1 and not self.unroll else [1] * config.num_layers
        *sections, last = _sections((params, own), sizes)
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


def _sections(stacked: Any, sizes: list[int]) -> list[Any]:
    """Cuts stacked layers apart; one layer alone loses the axis. The gradient is one concatenation."""
    leaves, tree = jax.tree.flatten(stacked)
    cut = [jax.lax.split(leaf, sizes) for leaf in leaves]
    return [tree.unflatten([part[i][0] if size == 1 else part[i] for part in cut]) for i, size in enumerate(sizes)]
