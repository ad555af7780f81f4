"""A training step on dense rows: no padding, random tokens."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data.packing import Batch, side_by_side
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.files import write_whole
from adakron_jax.params import budget, graft, merge_params, split_params
from adakron_jax.problems import Classification
from adakron_jax.splice import Method, is_own, is_trainable
from train.engine import optim
from train.engine.sharding import make_shardings
from train.engine.step import compile_steps, init_state
from train.options.mesh import MeshShape

SLOTS = 4  # examples of a row


def dense_step(
    encoder: EncoderConfig, base: pretrained.Leaves, method: Method, rows: int, seq: int, **more: Any
) -> tuple[Callable[[], None], dict[str, Any]]:
    """As `batch_step`, on a dense batch of rows x seq tokens."""
    return batch_step(encoder, base, method, dense_batch(encoder, rows, seq), **more)


def batch_step(
    encoder: EncoderConfig, base: pretrained.Leaves, method: Method, batch: Batch, runs: int = 1, dtype: Any = None
) -> tuple[Callable[[], None], dict[str, Any]]:
    """A function that takes one training step of `runs` runs together, each on the batch, and waits for it; and what
    is known of it before it runs.

    Args:
      base: pretrained leaves; the others are random.
      dtype: what the model computes in; None for float32.
    """
    model = SequenceClassifier(encoder, method, dtype, num_labels=2)
    params = graft(model.shapes(), base | model.fresh(jax.random.key(0), lambda path: path not in base))
    trainable, frozen = split_params(jax.tree.map(jnp.array, params), is_trainable(method))
    frozen = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), frozen)
    schedule = optim.linear_schedule(1e-4, 1000, 0.06)
    optimizer = optim.adamw(0.1)
    shardings = make_shardings(MeshShape(), encoder)
    state = init_state(trainable, optimizer, schedule, 0)
    steps = compile_steps(model, Classification.losses, optimizer, shardings, state, frozen)
    state, frozen = (jax.device_put(tree, shardings.of(tree)) for tree in (state, frozen))
    step = steps.train
    if runs > 1:
        step, batch = steps.together, side_by_side([batch] * runs)
        seeds = jnp.arange(runs, dtype=jnp.uint32)
        stack = lambda tree: jax.tree.map(lambda x: jnp.stack([x] * runs), tree)  # noqa: E731
        own, base = split_params(frozen, is_own)
        state, frozen = dataclasses.replace(stack(state), seed=seeds), merge_params(stack(own), base)
    batch = jax.device_put(batch)

    def once() -> None:
        nonlocal state
        state, metrics = step(state, frozen, batch)
        jax.block_until_ready(metrics)

    once()
    (executable,) = step.executables.values()
    known = {
        "trainable": budget(params, is_trainable(method))["method"],
        "compile_seconds": step.seconds,
        "temporary_bytes": executable.memory_analysis().temp_size_in_bytes,  # pyright: ignore
        "frozen_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(frozen)),
    }
    return once, known


def dense_batch(encoder: EncoderConfig, rows: int, seq: int) -> Batch:
    """Rows filled by SLOTS examples of equal length."""
    rng, length = np.random.default_rng(0), seq // SLOTS
    tokens = rng.integers(encoder.pad_id + 1, encoder.vocab_size, (1, rows, seq)).astype(np.int32)
    of_row = lambda values: np.broadcast_to(values.astype(np.int32), (1, rows, len(values)))  # noqa: E731
    inputs = Packed(
        tokens=tokens,
        token_types=np.zeros_like(tokens),
        segments=of_row(np.repeat(np.arange(1, SLOTS + 1), length)),
        positions=of_row(np.tile(np.arange(length), SLOTS)),
        starts=of_row(np.arange(SLOTS) * length),
    )
    labels = rng.integers(0, 2, (1, rows, SLOTS)).astype(np.int32)
    return Batch(inputs, labels, np.ones(labels.shape, np.float32))


def timed(step) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def in_turn(
    steps: Sequence[Callable[[], None]], rounds: int, divide_by: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """The seconds of every step, taken in rounds of one call of each, and its ratio to the first step's.

    A ratio is the median over the rounds of that round's ratios, so that a machine that slows down slows all of them.

    Args:
      divide_by: of each step's seconds (default: 1).
    """
    seconds = np.array([[timed(step) for step in steps] for _ in range(rounds)]) / (divide_by or 1)
    ratios = seconds / seconds[:, :1]
    return [
        {"step_seconds": float(np.median(times)), "ratio": float(np.median(to)), "ratio_range": [to.min(), to.max()]}
        for times, to in zip(seconds.T, ratios.T, strict=True)
    ]


def show(first: str, names: Sequence[Any], known: Sequence[dict[str, Any]], file: Path | None) -> None:
    """Prints a table of what `in_turn` has measured, its first column under the given title, and writes it as JSON."""
    width = max(len(str(name)) for name in (first, *names))
    print(f"{first:{width}} {'trainable':>11} {'step':>9} {'ratio':>6} {'lowest':>7} {'highest':>8} {'temporary':>10}")
    for name, line in zip(names, known, strict=True):
        low, high = line["ratio_range"]
        print(
            f"{name!s:{width}} {line['trainable']:11,} {line['step_seconds']:7.3f} s {line['ratio']:6.2f} {low:7.2f} "
            f"{high:8.2f} {line['temporary_bytes'] / 2**20:7.0f} MB"
        )
    if file:
        write_whole(file, (json.dumps(dict(zip(names, known, strict=True)), indent=2) + "\n").encode())
