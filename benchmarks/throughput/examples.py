"""The examples of a task, written down for programs that cannot read them by our code."""

import dataclasses
from pathlib import Path

import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data import packing
from adakron_jax.data.tokenizer import Tokenizer
from train.data import tokens
from train.data.glue import Task

_LONGER = {"rte": 256}


def padded_length(task: str) -> int:
    """Tokens that the authors' scripts pad a task's examples to, and at which every program here cuts them."""
    return _LONGER.get(task, 128)


def write_examples(
    path: Path, data: str, task: Task, split: str, encoder: EncoderConfig, tokenizer: Tokenizer, size: int, batches: int
) -> None:
    """Writes the token arrays of a split, and at least `batches` batches of `size` in the order of our seed 0."""
    examples = tokens.load(data, task, split, tokenizer, padded_length(task.name))
    plan = packing.plan(examples.lengths, size, seed=0)
    epochs = -(-batches // -(-len(examples) // size))
    order = np.concatenate([plan.bins(examples.lengths, epoch)[0] for epoch in range(epochs)])
    arrays = {name: value for name, value in dataclasses.asdict(examples).items() if name != "empty_texts"}
    np.savez(path, order=order, pad_id=encoder.pad_id, **arrays)
