"""Whether packed rows answer as padded ones do, and whether a segment sees nothing of its neighbours.

    python -m benchmarks.gpu.packed --data /path/to/glue --precision bf16

It runs the model as training does on this device and prints one JSON line: the largest differences, and whether they
are small enough. What a segment sees is asked twice: of its logits in training, dropout on, when all other segments of
its row become other words, and of the gradient of its loss. The logits have to stay the same to the last bit; for a
gradient a device may add up the same numbers in another order.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data import packing, tokenizer
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed, padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.forward import eval_step, of_split
from adakron_jax.hub.models import locate
from adakron_jax.methods import AdaKron
from adakron_jax.params import Tree, graft, merge_params, split_params
from adakron_jax.splice import is_trainable
from benchmarks.gpu.settings import MODEL
from train.data import tokens
from train.data.glue import TASKS

TOLERANCE = {"f32": 1e-4, "bf16": 5e-2}  # of logits packed and padded, relative to the largest logit
ORDER = 1e-6  # of a gradient summed in another order, relative to its largest element
OTHERS = 1000  # the first id of those that words are changed into


def build(folder: Path, precision: str) -> tuple[SequenceClassifier, Tree, Tree]:
    """A classifier as training builds it, with an adapter that does something: trainable and frozen parameters."""
    encoder, dtype = EncoderConfig.from_folder(folder), jnp.bfloat16 if precision == "bf16" else None
    model = SequenceClassifier(encoder, AdaKron(), dtype)
    base = pretrained.read(folder, encoder)
    params = graft(model.shapes(), base | model.fresh(jax.random.key(0), lambda path: path not in base))
    trainable, frozen = split_params(jax.tree.map(jnp.asarray, params), is_trainable(model.method))
    leaves, structure = jax.tree.flatten(trainable)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.05 * jax.random.normal(key, x.shape, x.dtype) for x, key in zip(leaves, keys, strict=True)]
    return model, structure.unflatten(moved), jax.tree.map(lambda x: jnp.asarray(x, dtype), frozen)


def difference(model: SequenceClassifier, trainable: Tree, frozen: Tree, examples: Examples) -> float:
    """The largest difference of logits, packed and padded, relative to the largest logit."""
    answer = jax.jit(lambda batch: eval_step(trainable, frozen, batch, model=model))
    packed = of_split(answer, examples, packing.plan(examples.lengths, len(examples), shapes=1))
    mask = np.arange(examples.lengths.max()) < examples.lengths[:, None]
    source = np.where(mask, examples.offsets[:-1, None] + np.arange(mask.shape[1]), 0)
    ids, types = (np.where(mask, array[source], 0) for array in (examples.tokens, examples.token_types))
    inputs = padded(*(jnp.asarray(array, jnp.int32) for array in (ids, mask, types)))
    apart = jax.jit(lambda inputs: model.apply({"params": merge_params(trainable, frozen)}, inputs))(inputs)
    apart = np.asarray(apart)[:, 0]
    return float(np.abs(packed - apart).max() / np.abs(apart).max())


def leak(model: SequenceClassifier, trainable: Tree, frozen: Tree, examples: Examples) -> dict[str, float]:
    """How much the first segment of every row changes when the others do: its logits, and the gradient of its loss.

    The gradient's change is relative to its largest element.
    """
    plan = packing.plan(examples.lengths, len(examples), shapes=1)
    batch = next(plan.batches(examples))[0]
    rows: Packed = jax.tree.map(lambda array: jnp.asarray(array[0]), batch.inputs)
    assert int(rows.segments.max()) > 1, "no row holds two examples"
    others = jax.random.randint(jax.random.key(2), rows.tokens.shape, OTHERS, model.config.vocab_size)
    changed = dataclasses.replace(rows, tokens=jnp.where(rows.segments > 1, others, rows.tokens))

    @jax.jit
    def first(trainable: Tree, rows: Packed) -> tuple[Any, Any]:
        def loss(trainable: Tree) -> tuple[Any, Any]:
            rngs = {"dropout": jax.random.key(3)}
            params = {"params": merge_params(trainable, frozen)}
            logits = model.apply(params, rows, deterministic=False, rngs=rngs)[:, 0]  # pyright: ignore
            return jnp.square(logits).mean(), logits

        grads, logits = jax.grad(loss, has_aux=True)(trainable)
        return logits, grads

    before, after = (first(trainable, inputs) for inputs in (rows, changed))
    logits, grads = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), before, after)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(before[1]))
    return {"logits": logits, "gradient": max(jax.tree.leaves(grads)) / largest}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of GLUE, or mini")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--task", default="mrpc")
    parser.add_argument("--precision", choices=tuple(TOLERANCE), default="f32")
    parser.add_argument("--examples", type=int, default=256)
    given = parser.parse_args(argv)
    jax.config.update("jax_default_matmul_precision", "float32" if given.precision == "f32" else None)
    folder = locate(given.model)
    encoder = EncoderConfig.from_folder(folder)
    cut = tokenizer.Tokenizer(folder, encoder.vocab_size)
    length = min(128, encoder.max_length)
    examples = tokens.load(given.data, TASKS[given.task], "validation", cut, length).first(given.examples)
    model = build(folder, given.precision)
    apart, seen = difference(*model, examples), leak(*model, examples)
    good = apart <= TOLERANCE[given.precision] and seen["logits"] == 0 and seen["gradient"] <= ORDER
    figures = {"examples": len(examples), "packed_padded": apart, "leak": seen, "good": good}
    print(json.dumps({"device": jax.devices()[0].device_kind, "precision": given.precision, **figures}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
