"""An encoder and a classification head as one Flax module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.encoders.dropout import Dropout
from adakron_jax.encoders.inputs import Packed, blank
from adakron_jax.encoders.parts import Part
from adakron_jax.encoders.stack import Encoder
from adakron_jax.params import flatten


class RobertaHead(Part):
    """RoBERTa's classifier: dense, tanh, projection; it stands in for the pooler that RoBERTa lacks."""

    num_labels: int = 2

    @nn.compact
    def __call__(
        self, first: Float[Array, "rows slots hidden"], deterministic: bool
    ) -> Float[Array, "rows slots labels"]:
        drop = Dropout(self.config.classifier_dropout)
        x = jnp.tanh(self.dense(self.config.hidden_size, "dense")(drop(first, deterministic)))
        return self.dense(self.num_labels, "out_proj")(drop(x, deterministic))


class SequenceClassifier(Part):
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
