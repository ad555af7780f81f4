"""The predictor, which takes batches and returns logits in the examples' original order."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from adakron_jax.data.batches import batches, shapes_for_any
from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Batch, Layout
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import Tree, merge_params, split_params
from adakron_jax.xla.precision import exact

POSITIONS = {"cpu": 2048}  # tokens and padding of a batch; a CPU's caches hold no more
WIDE_POSITIONS = 32768  # the same for an accelerator

Forward = Callable[[Packed, Layout], Array]  # returns a batch's logits [rows, slots, outputs], or [rows, seq, outputs]


def positions() -> int:
    """Returns the number of tokens and padding in a full batch on this machine."""
    return POSITIONS.get(jax.default_backend(), WIDE_POSITIONS)


def logits_of(
    model: SequenceClassifier,
    params: Tree,
    examples: Examples,
    done: Callable[[int], None] = lambda examples: None,
) -> Float[np.ndarray, "examples outputs"]:
    """Computes logits of examples, or of their labelled tokens, with few compilations; several threads may call it.

    Args:
      done: called now and then with the number of examples done.
    """
    if not len(examples):
        return np.zeros((0, model.num_labels), np.float32)
    packed = batches(examples, shapes_for_any(examples.lengths, positions()))
    return in_order(lambda inputs, _: _apply(params, inputs, model=model), packed, examples, done)


def in_order(
    forward: Forward,
    packed: Iterable[tuple[Batch, Layout]],
    examples: Examples,
    done: Callable[[int], None] = lambda examples: None,
) -> Float[np.ndarray, "examples outputs"]:
    """Returns logits in the order of the examples, or of their labelled tokens; the batches hold each example once.

    Args:
      done: as in `logits_of`.
    """
    labelled = examples.labels >= 0 if examples.of_tokens else np.ones(len(examples), bool)
    finished, logits, number = 0, np.zeros((labelled.sum(), 0), np.float32), np.cumsum(labelled) - 1
    for layout, part in by_batch(forward, packed):
        if not finished:
            logits = np.zeros((len(logits), part.shape[-1]), part.dtype)
        if examples.of_tokens:
            source, row, column, _ = layout.tokens(examples.offsets)
        else:
            source, row, column = layout.ids, layout.row, layout.slot
        taken = labelled[source]
        logits[number[source[taken]]] = part[row[taken], column[taken]]
        finished += len(layout.ids)
        done(finished)
    return logits


def by_batch(
    forward: Forward, packed: Iterable[tuple[Batch, Layout]]
) -> Iterator[tuple[Layout, Float[np.ndarray, "rows places outputs"]]]:
    """Yields each batch's layout and logits; a batch is fetched once the next ones are running.

    This thread runs the first batch of each shape, so that a shape is compiled once; a CPU's `threads()` run the rest.
    """
    under_way: deque[tuple[Layout, Future[Array]]] = deque()
    shapes: set[tuple[int, ...]] = set()
    at_once = threads()
    with ThreadPoolExecutor(max(1, at_once)) as pool:
        for batch, layout in packed:
            shape = batch.inputs.tokens.shape
            if at_once and shape in shapes:
                logits = pool.submit(forward, batch.inputs, layout)
            else:
                shapes.add(shape)
                (logits := Future()).set_result(forward(batch.inputs, layout))
            under_way.append((layout, logits))
            if len(under_way) > 1 + at_once:
                yield _fetched(*under_way.popleft())
        while under_way:
            yield _fetched(*under_way.popleft())


def _fetched(layout: Layout, logits: "Future[Array]") -> tuple[Layout, np.ndarray]:
    return layout, np.asarray(logits.result())


def threads() -> int:
    """Returns the number of threads that run batches, each its own batch at the same time; 0 if only the caller does.

    Cores wait for each other at every operation of a batch, so two cores predict 1.2 times as fast with two batches at
    once. Several devices compute one batch at a time, because they exchange parts of it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    alone = cores == 1 or jax.default_backend() != "cpu" or jax.device_count() > 1
    return 0 if alone else max(2, cores // 2)


def on_device(params: Tree, model: SequenceClassifier) -> Tree:
    """Puts the parameters on the device, frozen ones in the precision that the model computes in."""
    trainable, frozen = split_params(params, model.method)
    return jax.device_put(merge_params(trainable, jax.tree.map(lambda x: jnp.asarray(x, model.dtype), frozen)))


def _apply(params: Tree, inputs: Packed, *, model: SequenceClassifier) -> Array:
    with exact(model.dtype):
        return _compiled(params, inputs, model=model)


@functools.partial(jax.jit, static_argnames="model")
def _compiled(params: Tree, inputs: Packed, *, model: SequenceClassifier) -> Any:
    return model.apply({"params": params}, inputs)
