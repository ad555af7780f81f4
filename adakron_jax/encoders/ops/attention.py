"""Multi-head attention within the segments of packed rows."""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from adakron_jax.encoders.inputs import Places
from adakron_jax.encoders.module import Part, Stream
from adakron_jax.encoders.ops import fused
from adakron_jax.encoders.ops.dropout import Dropout, dropped, words_like
from adakron_jax.encoders.ops.matmul import einsum
from adakron_jax.splice import KeysValues, Site
from adakron_jax.xla.arrays import apart

Projection = Callable[[Array, Array], Float[Array, "rows seq hidden"]]  # takes vectors and their segments


class Attention(Part):
    """Attention of some tokens to all tokens of their example; the layer adds residual and LayerNorm.

    Attributes:
      biases: whether the dense layers have biases.
      terms: number of matmuls that a score is the sum of.
    """

    biases: bool = True
    terms: int = 1
    of_offsets: ClassVar[Callable[..., Array]]  # only DeBERTa, whose stream has vectors of offsets, defines it

    @nn.compact
    def __call__(
        self,
        at: Float[Array, "rows queries hidden"],
        at_places: Places,
        stream: Stream,
        places: Places,
        everywhere: dict[str, Any],
    ) -> Float[Array, "rows queries hidden"]:
        config, layer, x = self.config, everywhere["layer"], stream.x
        of_queries, of_keys, of_values = apart(at, x, x)

        def projection(site: Site, name: str = "") -> Projection:
            project = self.projection(site, config.hidden_size, name or site.value, self.biases)
            return lambda x, segments: project(x, segments=segments, **everywhere)

        def by_head(y: Array) -> Float[Array, "rows heads seq head_dim"]:
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim).swapaxes(1, 2)

        query, key = projection(Site.QUERY), projection(Site.KEY)
        queries, keys = by_head(query(of_queries, at_places.segments)), by_head(key(of_keys, places.segments))
        values = by_head(projection(Site.VALUE)(of_values, places.segments))
        attended = KeysValues(
            keys=self.turn(keys, places, layer),
            values=values,
            mask=self.sees(at_places, places, layer)[:, None],
        )
        attended = self.splice(Site.KEYS_VALUES, attended, inputs=x, segments=places.segments, **everywhere)
        scaled = self.turn(queries, at_places, layer) / math.sqrt(self.terms * config.head_dim)
        if self.fused and stream.offsets is None and attended.gate is None and fused.supports(scaled, attended.keys):
            context = self.at_once(scaled, attended, everywhere["deterministic"])
        else:
            of_offsets = None
            if stream.offsets is not None:
                starts = None if at_places is places else at_places
                of_offsets = self.of_offsets((query, key), scaled, keys, stream.offsets, places, starts, everywhere)
            context = self.by_steps(scaled, attended, of_offsets, everywhere["deterministic"])
        context = context.swapaxes(1, 2).reshape(at.shape)
        context = self.splice(Site.ATTENTION_CONTEXT, context, segments=at_places.segments, **everywhere)
        return projection(Site.ATTENTION_DENSE, "dense")(context, at_places.segments)

    def at_once(self, scaled: Array, attended: KeysValues, deterministic: bool) -> Array:
        """Computes the context in one kernel."""
        drop, words = dropped(self.config.attention_dropout), None
        if drop and not deterministic:
            like = jnp.broadcast_to(attended.mask[:, :, :: fused.PARTS], fused.words_shape(scaled))
            words = words_like(self.make_rng("dropout"), like)
        return fused.attend(drop, scaled, attended.keys, attended.values, attended.mask, words)

    def by_steps(self, scaled: Array, attended: KeysValues, of_offsets: Array | None, deterministic: bool) -> Array:
        """Computes the context through scores and weights."""
        wide = jnp.promote_types(scaled.dtype, jnp.float32)
        scores = einsum("rhqd,rhkd->rhqk", scaled, attended.keys, wide=True)
        if of_offsets is not None:
            before = attended.keys.shape[2] - of_offsets.shape[-1]  # keys that a method added, which have no position
            scores = scores + jnp.pad(of_offsets, ((0, 0), (0, 0), (0, 0), (before, 0)))
        if attended.gate is not None:
            scores = scores * attended.gate
        scores = jnp.where(attended.mask, scores, jnp.finfo(wide).min)
        weights: Any = _softmax(attended.values.dtype, scores)
        weights = Dropout(self.config.attention_dropout)(weights, deterministic)
        if attended.gate is not None:
            weights = weights * attended.gate.astype(weights.dtype)
        return einsum("rhqk,rhkd->rhqd", weights, attended.values)

    def turn(
        self, x: Float[Array, "rows heads seq head_dim"], places: Places, layer: Any
    ) -> Float[Array, "rows heads seq head_dim"]:
        """Returns queries or keys, with positions applied if the architecture applies them here."""
        del places, layer
        return x

    def sees(self, at_places: Places, places: Places, layer: Any) -> Bool[Array, "rows queries keys"]:
        """Returns a mask, true where a query attends to a key."""
        del layer
        return at_places.segments[:, :, None] == places.segments[:, None, :]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _softmax(dtype: Any, scores: Float[Array, "*batch keys"]) -> Any:
    """Computes the softmax in `dtype`; its backward pass reads no wider array."""
    return jax.nn.softmax(scores).astype(dtype)


def _softmax_forward(dtype: Any, scores: Array) -> tuple[Array, Array]:
    weights: Any = _softmax(dtype, scores)
    return weights, weights


def _softmax_backward(dtype: Any, weights: Array, cotangent: Array) -> tuple[Array]:
    weights, slope = (x.astype(jnp.promote_types(dtype, jnp.float32)) for x in (weights, cotangent))
    return (weights * (slope - (weights * slope).sum(-1, keepdims=True)),)


_softmax.defvjp(_softmax_forward, _softmax_backward)
