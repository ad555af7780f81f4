"""Multi-head attention within the segments of packed rows."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from adakron_jax.encoders.dropout import Dropout
from adakron_jax.encoders.inputs import Places
from adakron_jax.encoders.matmul import einsum
from adakron_jax.encoders.module import Part
from adakron_jax.splice import KeysValues, Site


class Attention(Part):
    """Attention of some tokens to all of their example; residual and LayerNorm are the layer's.

    Attributes:
      biases: whether the dense layers have them.
    """

    biases: bool = True

    @nn.compact
    def __call__(
        self,
        at: Float[Array, "rows queries hidden"],
        at_places: Places,
        x: Float[Array, "rows seq hidden"],
        places: Places,
        everywhere: dict[str, Any],
    ) -> Float[Array, "rows queries hidden"]:
        config, layer = self.config, everywhere["layer"]

        def project(site: Site, x: Array, places: Places, name: str = "") -> Float[Array, "rows seq hidden"]:
            context = {"segments": places.segments, **everywhere}
            return self.projected(site, x, config.hidden_size, name or site.value, self.biases, **context)

        def by_head(y: Array) -> Float[Array, "rows heads seq head_dim"]:
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim).swapaxes(1, 2)

        queries = project(Site.QUERY, at, at_places)
        keys, values = project(Site.KEY, x, places), project(Site.VALUE, x, places)
        attended = KeysValues(
            keys=self.turn(by_head(keys), places, layer),
            values=by_head(values),
            mask=self.sees(at_places, places, layer)[:, None],
        )
        attended = self.splice(Site.KEYS_VALUES, attended, inputs=x, segments=places.segments, **everywhere)
        wide = jnp.promote_types(queries.dtype, jnp.float32)
        scaled = self.turn(by_head(queries), at_places, layer) / math.sqrt(config.head_dim)
        scores = einsum("rhqd,rhkd->rhqk", scaled, attended.keys, wide=True)
        if attended.gate is not None:
            scores = scores * attended.gate
        scores = jnp.where(attended.mask, scores, jnp.finfo(wide).min)
        weights = jax.nn.softmax(scores).astype(attended.values.dtype)
        weights = Dropout(config.attention_dropout)(weights, everywhere["deterministic"])
        if attended.gate is not None:
            weights = weights * attended.gate.astype(weights.dtype)
        context = einsum("rhqk,rhkd->rhqd", weights, attended.values).swapaxes(1, 2).reshape(queries.shape)
        context = self.splice(Site.ATTENTION_CONTEXT, context, segments=at_places.segments, **everywhere)
        return project(Site.ATTENTION_DENSE, context, at_places, "dense")

    def turn(
        self, x: Float[Array, "rows heads seq head_dim"], places: Places, layer: Any
    ) -> Float[Array, "rows heads seq head_dim"]:
        """Queries or keys, with their positions in them if that is where the architecture puts them."""
        del places, layer
        return x

    def sees(self, at_places: Places, places: Places, layer: Any) -> Bool[Array, "rows queries keys"]:
        """Which tokens a query attends to."""
        del layer
        return at_places.segments[:, :, None] == places.segments[:, None, :]
