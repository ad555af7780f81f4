"""Adapters of one kind, stacked along an axis."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from adakron_jax.adapter import is_portable
from adakron_jax.data.batches import Shapes
from adakron_jax.encoders.inputs import Packed, blank
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import flatten, unflatten
from adakron_jax.xla.compiled import PerShape
from adakron_jax.xla.precision import exact

STEP = 8  # smallest number of adapters by which a stack grows
GROWTH = 16  # a stack grows by one part in this many
WIDTH = 8  # the outputs of a padded head are a power of this

Leaves = dict[str, Array]


def padded_outputs(outputs: int) -> int:
    """Returns the number of outputs that a head of `outputs` is padded to."""
    width = WIDTH
    while width < outputs:
        width *= WIDTH
    return width


class Stack:
    """Adapters of one method with its fields, and of one form of head; heads are padded to one number of outputs.

    A leaf is kept as [adapters, ...].

    Attributes:
      model: the model of all these adapters.
      shapes: the shapes of one adapter's leaves, by path.
      capacity: number of adapters that there is memory for.
    """

    def __init__(self, model: SequenceClassifier, base: Leaves):
        self.model = model
        shapes, travels = flatten(model.shapes()), is_portable(model.method)
        self.shapes = {path: tuple(leaf.shape) for path, leaf in shapes.items() if travels(path)}
        self.frozen = {path: base[path] for path in shapes if path not in self.shapes}
        self.capacity, self.leaves = 0, self._zeros(0)
        self.free: list[int] = []
        self._put = PerShape(jax.jit(_put, donate_argnums=2))
        self._select = PerShape(jax.jit(_select))
        self._forward = PerShape(jax.jit(functools.partial(_forward, model=model)))

    def _zeros(self, adapters: int) -> Leaves:
        return {path: jnp.zeros((adapters, *shape)) for path, shape in self.shapes.items()}

    @property
    def compilations(self) -> int:
        """Number of executables compiled so far."""
        return sum(function.compilations for function in (self._put, self._select, self._forward))

    def reserve(self, adapters: int) -> None:
        """Grows to at least this capacity."""
        if (more := adapters - self.capacity) > 0:
            self.leaves = jax.tree.map(lambda *parts: jnp.concatenate(parts), self.leaves, self._zeros(more))
            self.free += reversed(range(self.capacity, adapters))
            self.capacity = adapters

    def warm(self, shapes: Shapes) -> None:
        """Compiles what batches of these shapes need, and what adding an adapter needs; computes nothing."""

        def described(tree: Any) -> Any:
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)

        stacked = described(self.leaves)
        adapter = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in self.shapes.items()}
        self._put.compiled(adapter, jax.ShapeDtypeStruct((), np.int32), stacked)
        for seq, row_counts in shapes.row_counts.items():
            for rows in row_counts:
                numbers = jax.ShapeDtypeStruct((rows,), np.int32)
                self._select.compiled((numbers, stacked))
                selected = jax.eval_shape(_select, (numbers, stacked))
                inputs = jax.eval_shape(lambda rows=rows, seq=seq: blank(rows, seq, shapes.slots(seq)))
                self._forward.compiled(described(self.frozen), (selected, inputs))

    def put(self, leaves: Mapping[str, np.ndarray], number: int | None = None) -> int:
        """Stores an adapter at `number`, or in a free place; returns its number."""
        if number is None and not self.free:
            self.reserve(self.capacity + max(STEP, self.capacity // GROWTH))
        number = self.free.pop() if number is None else number
        new = {path: _padded(np.asarray(leaves[path], np.float32), shape) for path, shape in self.shapes.items()}
        self.leaves = self._put(new, np.int32(number), self.leaves)
        return number

    @property
    def first_layer(self) -> int:
        """The first layer that has leaves of an adapter; 0 also if the embeddings have some."""
        return self.model.method.layer_numbers(self.model.config)[0]

    def logits(self, numbers: Int[np.ndarray, " rows"], inputs: Packed) -> Float[Array, "rows places outputs"]:
        """Computes each row's logits with the adapter of its number, or a single row's with each adapter."""
        return self._forward(self.frozen, (self.selected(numbers), inputs))

    def selected(self, numbers: Int[np.ndarray, " rows"]) -> Leaves:
        """Returns the leaves of the adapters with these numbers."""
        return self._select((numbers, self.leaves))


def _padded(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pads a head of fewer outputs with zeros."""
    return np.pad(leaf, [(0, size - have) for size, have in zip(shape, leaf.shape, strict=True)])


def _put(new: Leaves, number: Array, stacked: Leaves) -> Leaves:
    return {path: leaf.at[number].set(new[path]) for path, leaf in stacked.items()}


def _select(numbers_and_stacked: tuple[Int[Array, " rows"], Leaves]) -> Leaves:
    """Returns the leaves of the adapters with these numbers."""
    numbers, stacked = numbers_and_stacked
    return {path: leaf.at[numbers].get(mode="promise_in_bounds") for path, leaf in stacked.items()}


def _forward(
    frozen: Leaves, selected_and_inputs: tuple[Leaves, Packed], *, model: SequenceClassifier
) -> Float[Array, "rows places outputs"]:
    """Maps the plain model over adapters and their rows; over adapters alone if there is only one row.

    Values that no adapter changes, such as those of the layers below its first, are then computed once.
    """
    selected, inputs = selected_and_inputs

    def logits_of_row(leaves: Leaves, row: Packed) -> Array:
        row = jax.tree.map(lambda x: x[None], row)
        return model.apply({"params": unflatten({**frozen, **leaves})}, row)[0]

    if single := len(inputs.tokens) == 1:
        inputs = jax.tree.map(lambda x: x[0], inputs)
    with exact(model.dtype):
        return jax.vmap(logits_of_row, in_axes=(0, None if single else 0))(selected, inputs)


def forward_all(
    frozen: Leaves, selected_and_inputs: tuple[list[Leaves], Packed], *, models: tuple[SequenceClassifier, ...]
) -> list[Float[Array, "adapters places outputs"]]:
    """Maps each model over its adapters on one row; what all models compute alike is compiled once."""
    selected, inputs = selected_and_inputs
    return [_forward(frozen, (leaves, inputs), model=model) for model, leaves in zip(models, selected, strict=True)]
