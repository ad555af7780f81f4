"""ModernBERT's training step on packed rows, relative to the same examples padded.

`python -m benchmarks.modernbert` takes AdaKron on ModernBERT-base's widths with random weights, and a batch of 32
examples whose lengths are drawn as those of short texts are: most far below the longest. Padded, every example has a
row to itself, as long as the longest of them needs.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data import packing
from adakron_jax.data.packing import Batch
from adakron_jax.data.tokenizer import Examples
from adakron_jax.methods import AdaKron
from benchmarks.dense import batch_step, in_turn, show

BASE = EncoderConfig(
    model_type="modernbert",
    vocab_size=50368,
    hidden_size=768,
    num_layers=22,
    num_heads=12,
    intermediate_size=1152,
    max_position_embeddings=8192,
    type_vocab_size=0,
    pad_id=50283,
    layer_norm_eps=1e-5,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    classifier_dropout=0.0,
    initializer_range=0.02,
    embedding_dropout=0.0,
    pooling="mean",
    global_every=3,
    window=128,
    global_theta=160_000.0,
    local_theta=10_000.0,
)


def random_examples(encoder: EncoderConfig, count: int, longest: int) -> Examples:
    """Random tokens; lengths are log-normal around a quarter of the longest, which one example has."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(longest / 4), 0.5, count), 4, longest).astype(int)
    lengths[0] = longest
    tokens = rng.integers(0, encoder.vocab_size, lengths.sum()).astype(np.int32)
    offsets, labels = np.cumsum([0, *lengths]), rng.integers(0, 2, count).astype(np.int32)
    return Examples(tokens, np.zeros_like(tokens), offsets, labels, empty_texts=0)


def batches(examples: Examples) -> dict[str, Batch]:
    """All examples as one batch, packed, and with a row for each."""
    plans = {"padded": packing.Plan(int(examples.lengths.max()), 1, (len(examples),), len(examples), 1, None, 1, 0.0)}
    plans["packed"] = packing.plan(examples.lengths, len(examples), shapes=1)
    return {name: next(plan.batches(examples))[0] for name, plan in plans.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=BASE.num_layers)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--longest", type=int, default=128, help="tokens of the longest example")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    encoder = dataclasses.replace(BASE, num_layers=args.layers)
    steps, known = [], []
    for name, batch in batches(random_examples(encoder, args.examples, args.longest)).items():
        print(f"compiling {name}: {batch.inputs.tokens[0].size:,} tokens", file=sys.stderr)
        step, facts = batch_step(encoder, {}, AdaKron(), batch)
        steps.append(step)
        known.append(facts)
    measured = in_turn(steps, args.rounds)
    show("rows", ["padded", "packed"], [facts | more for facts, more in zip(known, measured, strict=True)], args.json)


if __name__ == "__main__":
    main()
