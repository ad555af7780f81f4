"""Answers to a whole split, batch by batch, with the examples in their own order."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from adakron_jax.data.packing import Batch, Plan
from adakron_jax.data.tokenizer import Examples
from adakron_jax.encoders.classifier import SequenceClassifier
from adakron_jax.params import Tree, merge_params


def of_split(answer: Callable[[Batch], Any], examples: Examples, plan: Plan) -> np.ndarray:
    """Logits [examples, labels].

    Args:
      answer: from a batch to its logits [micro, rows, slots, labels], as `eval_step` gives them.
      plan: of these examples, without a seed, so that it keeps their order.
    """
    parts = []
    for batch, layout, ids in plan.batches(examples):
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
