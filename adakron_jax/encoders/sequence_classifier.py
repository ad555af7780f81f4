"""An encoder with a head on examples, or on tokens, as one Flax module."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.architecture import Form
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import Pooling
from adakron_jax.architectures.paths import CLASSIFIER, POOLER
from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import Packed, blank, check
from adakron_jax.encoders.module import Part, gelu
from adakron_jax.encoders.ops.dropout import Dropout
from adakron_jax.params import flatten, graft

Reads = Literal["example", "token"]
OUTPUT_BIASES = (f"{CLASSIFIER}/bias", f"{CLASSIFIER}/out_proj/bias")  # of a head's logits, by the head's form
HeadForm = Literal["own", "linear", "tanh", "relu", "gelu"]
_ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "gelu": gelu}


class Head(Part):
    """Dense, activation, optional LayerNorm, projection, for encoders that have no pretrained pooler."""

    num_labels: int = 2
    form: Form = Form("tanh")

    @nn.compact
    def __call__(
        self, pooled: Float[Array, "rows slots hidden"], deterministic: bool
    ) -> Float[Array, "rows slots labels"]:
        drop, form = Dropout(self.config.classifier_dropout), self.form
        x = drop(pooled, deterministic) if form.drops_input else pooled
        x = _ACTIVATIONS[form.activation](self.dense(self.config.hidden_size, "dense", form.biases)(x))
        x = self.norm(use_bias=form.biases)(x) if form.normed else x
        return self.dense(self.num_labels, "out_proj")(drop(x, deterministic))


class SequenceClassifier(Part):
    """An encoder with a head on one vector of each example, or on the last hidden state of every token.

    The parameters are `encoder/...`, for BERT `pooler/...`, and the head `classifier/...`.

    Attributes:
      num_labels: number of logits of an example, or of a token; a regression has one.
      pooling: the vector the head reads: `pooler` is what the architecture itself gives its head (BERT's pretrained
        pooler on the first token; what ModernBERT's configuration says; else the first token), `first` the first
        token's last hidden state, `mean` the mean over the example's tokens.
      head: `own` is the architecture's own head (BERT: `linear`; RoBERTa: `tanh`); `linear` one projection; else a
        dense layer of the hidden size with that activation, and the projection.
      reads: `token` for logits of every token, by the architecture's own head for tokens; `pooling` is then ignored.
      remat: as in `Encoder`.
      card: an adapter's description of this model: problem, labels, base. It computes nothing: models that differ in it
        alone are equal, and share what is compiled.
    """

    num_labels: int = 2
    pooling: Pooling = "pooler"
    head: HeadForm = "own"
    reads: Reads = "example"
    remat: bool = False
    card: Any = dataclasses.field(default=None, compare=False, repr=False)

    @nn.compact
    def __call__(
        self, inputs: Packed, deterministic: bool = True
    ) -> Float[Array, "rows slots labels"] | Float[Array, "rows seq labels"]:
        """Computes logits of the example in each slot, or of each token."""
        check(inputs, self.config)
        encoder = Encoder(*self.parts, remat=self.remat, name="encoder")
        architecture = self.config.architecture
        of_tokens = self.reads == "token"
        if of_tokens:
            pooled = encoder(inputs, deterministic)
        elif self.pooling == "mean" or (self.pooling == "pooler" and self.config.pooling == "mean"):
            pooled = segment_means(encoder(inputs, deterministic), inputs)
        else:
            pooled = encoder(inputs, deterministic, jnp.asarray(inputs.starts))
        if architecture.pooler and self.pooling == "pooler" and not of_tokens:
            pooled = jnp.tanh(self.dense(self.config.hidden_size, POOLER)(pooled))
        native = architecture.token_form if of_tokens else architecture.form
        form = native if self.head == "own" else Form(self.head)
        if form.activation == "linear":
            pooled = Dropout(self.config.classifier_dropout)(pooled, deterministic)
            logits = self.dense(self.num_labels, CLASSIFIER)(pooled)
        else:
            head = Head(*self.parts, num_labels=self.num_labels, form=form, name=CLASSIFIER)
            logits = head(pooled, deterministic)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def shapes(self) -> dict[str, Any]:
        """Returns the parameter tree as shapes, without computing anything."""
        return jax.eval_shape(lambda: _initial(self, jax.random.key(0)))

    def fresh(self, key: Array, wanted: Any) -> dict[str, Array]:
        """Draws the leaves whose path satisfies `wanted`: path -> array. The others are never computed."""

        @jax.jit
        def initial(key: Array) -> dict[str, Array]:
            leaves = flatten(_initial(self, key))
            return {path: leaf for path, leaf in leaves.items() if wanted(path)}

        return initial(key)

    def start(self, key: Array, base: Mapping[str, Any]) -> dict[str, Any]:
        """Returns initial values of all leaves but the pretrained ones, `base`: path -> array."""
        return self.fresh(key, lambda path: path not in base) | self.method.initial(dict(base), self.config)

    def assemble(self, base: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
        """Builds all parameters from the pretrained leaves and the others, both path -> array.

        Pretrained leaves of a pooler or head that this model does not have are left out.

        Raises:
          ValueError: leaves are missing, unexpected or misshapen; all of them are listed.
        """
        shapes = self.shapes()
        leaves = {**base, **others}
        heads = (f"{POOLER}/", f"{CLASSIFIER}/")
        unread = {path for path in base if path.startswith(heads)} - flatten(shapes).keys()
        return graft(shapes, {path: leaf for path, leaf in leaves.items() if path not in unread})


@functools.partial(jax.jit, static_argnums=0)
def _initial(model: SequenceClassifier, key: Array) -> Any:
    """Draws all parameters; jitted, so that equal models are traced once."""
    return model.init(key, blank(1, 1, 1), mutable="params")["params"]


def readable(
    pooling: Pooling, head: HeadForm, config: EncoderConfig, base: Collection[str], reads: Reads = "example"
) -> tuple[Pooling, HeadForm]:
    """Returns the pooling and form of a new head on pretrained leaves at these paths; a head on tokens has no pooling.

    If the leaves lack the pooler that the head would read, as after masked-language training, the pooler is new and
    trains: it is then the first dense layer of a `tanh` head on the first token, which computes the same as both.
    """
    if reads == "token":
        return "pooler", head
    if pooling == "pooler" and config.architecture.pooler and f"{POOLER}/kernel" not in base:
        return "first", "tanh" if head in ("own", "linear") else head
    return pooling, head


def segment_means(x: Float[Array, "rows seq hidden"], inputs: Packed) -> Float[Array, "rows slots hidden"]:
    """Computes the mean over each example's tokens; zeros in slots without an example."""
    slots = jnp.arange(1, inputs.starts.shape[1] + 1)[None, :, None]
    inside = (inputs.segments[:, None, :] == slots).astype(x.dtype)
    return jnp.einsum("rst,rth->rsh", inside, x) / jnp.maximum(inside.sum(-1, keepdims=True), 1)
