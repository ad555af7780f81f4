"""Logits of many examples, batch by batch, with the examples in their own order."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from adakron_jax.data import rows
from adakron_jax.data.packing import Batch, Plan
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import Tree, merge_params, split_params

POSITIONS = {"cpu": 4096}  # tokens and padding of a batch; a CPU's caches hold no more
WIDE_POSITIONS = 32768  # of an accelerator's


def logits_of(
    model: SequenceClassifier,
    params: Tree,
    examples: Examples,
    done: Callable[[int], None] = lambda examples: None,
) -> Float[np.ndarray, "examples outputs"]:
    """Logits of examples of any number and lengths, by few compilations; several threads may call it at once.

    Args:
      done: told how many examples are done, now and then.
    """
    logits, finished = np.zeros((len(examples), model.num_labels), np.float32), 0
    positions = POSITIONS.get(jax.default_backend(), WIDE_POSITIONS)
    before: tuple[Any, list[rows.Row]] | None = None
    # A batch is fetched when the next one is on its way.
    batches = rows.batches(examples, positions) if len(examples) else ()
    for following in itertools.chain(batches, [None]):
        running = following and (_apply(params, following[0], model=model), following[1])
        if before is not None:
            array = np.asarray(before[0])
            for row, of_row in zip(before[1], array, strict=False):  # the batch may have more rows
                logits[row.ids] = of_row[: len(row.ids)]
                finished += len(row.ids)
            done(finished)
        before = running
    return logits


def on_device(params: Tree, model: SequenceClassifier) -> Tree:
    """The parameters on the device, frozen ones in the precision that the model computes in."""
    trainable, frozen = split_params(params, model.method)
    return jax.device_put(merge_params(trainable, jax.tree.map(lambda x: jnp.asarray(x, model.dtype), frozen)))


def _apply(params: Tree, inputs: Packed, *, model: SequenceClassifier) -> Array:
    # On GPUs and TPUs a float32 product is by default a narrower one. Here float32 means float32.
    narrow = model.dtype is not None and jax.numpy.dtype(model.dtype).itemsize < 4
    with contextlib.nullcontext() if narrow else jax.default_matmul_precision("float32"):
        return _compiled(params, inputs, model=model)


@functools.partial(jax.jit, static_argnames="model")
def _compiled(params: Tree, inputs: Packed, *, model: SequenceClassifier) -> Any:
    return model.apply({"params": params}, inputs)


def of_split(
    answer: Callable[[Batch], Any],
    examples: Examples,
    plan: Plan,
    rows_here: Callable[[int], np.ndarray] = np.arange,
) -> np.ndarray:
    """Logits [examples, labels].

    Args:
      answer: from a batch to the logits [micro, rows, slots, labels] of all its rows, as `eval_step` gives them.
      plan: of these examples, without a seed, so that it keeps their order.
      rows_here: as `Plan.batches` takes it.
    """
    parts = []
    for batch, layout, ids in plan.batches(examples, rows_here=rows_here):
        there = ids >= 0
        parts.append(np.asarray(answer(batch))[np.nonzero(there)[0], layout.row[there], layout.slot[there]])
    return np.concatenate(parts)


def eval_step(trainable: Tree, frozen: Tree, batch: Batch, *, model: SequenceClassifier) -> Array:
    """Logits [micro, rows, slots, labels], without dropout."""
    params = merge_params(trainable, frozen)
    return jax.lax.map(lambda inputs: model.apply({"params": params}, inputs), batch.inputs)


class PerShape:
    """A jitted function, compiled ahead of time once for each shape of its last argument.

    Attributes:
      seconds: spent compiling.
      compilations: how often it compiled.
      executables: by shapes and types.
    """

    def __init__(self, jitted: Any):
        self.jitted = jitted
        self.seconds = 0.0
        self.compilations = 0
        self.executables: dict[tuple, Callable] = {}

    def anew(self) -> "PerShape":
        """The same function with the same executables; seconds and compilations count from 0."""
        other = PerShape(self.jitted)
        other.executables = self.executables
        return other

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)(*args)

    def compiled(self, *args: Any) -> Callable:
        """The program for arguments of these shapes; these themselves may be `jax.ShapeDtypeStruct`s."""
        shape = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(args[-1]))
        if shape not in self.executables:
            start = time.perf_counter()
            self.executables[shape] = self.jitted.lower(*args).compile()
            self.seconds += time.perf_counter() - start
            self.compilations += 1
        return self.executables[shape]
