"""The paper's adapter in a transformer that is not ours.

    python examples/kron_in_another_model.py

`ak.KronAdapter` is a Linen module for any [..., features]. A rule on the parameters' paths decides what trains.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import adakron_jax as ak


class Block(nn.Module):
    """A small pre-norm transformer layer, with an adapter after its feed-forward block."""

    features: int

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=4, name="attention")(nn.LayerNorm()(x))
        h = nn.Dense(self.features, name="out")(nn.gelu(nn.Dense(4 * self.features, name="in")(nn.LayerNorm()(x))))
        return x + ak.KronAdapter(factors=(4, 2), name="adapter")(h)


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(100, 32, name="embed")(tokens)
        for layer in range(2):
            x = Block(32, name=f"layer_{layer}")(x)
        return nn.Dense(2, name="head")(x.mean(axis=-2))


model, tokens = Model(), jax.random.randint(jax.random.key(0), (16, 12), 0, 100)
labels = tokens[:, 0] % 2
params = model.init(jax.random.key(1), tokens)["params"]
trainable, frozen = ak.split_params(params, lambda path: "/adapter/" in path or path.startswith("head/"))
optimizer = optax.adamw(1e-2)


@jax.jit
def step(trainable, opt_state):
    def loss_fn(trainable):
        logits = model.apply({"params": ak.merge_params(trainable, frozen)}, tokens)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, grads = jax.value_and_grad(loss_fn)(trainable)
    updates, opt_state = optimizer.update(grads, opt_state, trainable)
    return optax.apply_updates(trainable, updates), opt_state, loss


sizes = [sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree)) for tree in (trainable, frozen)]
print(f"{sizes[0]:,} parameters are trainable, {sizes[1]:,} frozen")
opt_state = optimizer.init(trainable)
for number in range(60):
    trainable, opt_state, loss = step(trainable, opt_state)
    if number % 20 == 19:
        print(f"step {number + 1}: loss {loss:.3f}")
