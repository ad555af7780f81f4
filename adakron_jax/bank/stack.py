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

STEP = 8  # adapters by which a stack grows at least
GROWTH = 16  # a stack grows by one part in this many
WIDTH = 8  # outputs of a padded head: a power of this

Leaves = dict[str, Array]


def padded_outputs(outputs: int) -> int:
    """Outputs of the head that heads of `outputs` are padded to."""
    width = WIDTH
    while width < outputs:
        width *= WIDTH
    return width


class Stack:
    """Adapters of one method with its fields, and of one form of head; heads are padded to one number of outputs.

    A leaf is kept as [adapters, ...].

    Attributes:
      model: what they all are adapters of.
      shapes: of one adapter's leaves, by path.
      capacity: adapters that there is memory for.
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
        """Executables compiled so far."""
        return sum(function.compilations for function in (self._put, self._select, self._forward))

    def reserve(self, adapters: int) -> None:
        """Grows to at least this capacity."""
        if (more := adapters - self.capacity) > 0:
            self.leaves = jax.tree.map(lambda *parts: jnp.concatenate(parts), self.leaves, self._zeros(more))
            self.free += reversed(range(self.capacity, adapters))
            self.capacity = adapters

    def warm(self, shapes: Shapes) -> None:
        """Compiles what batches of these shapes take, and taking in another adapter; computes nothing."""

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
        """Takes in an adapter, in the place of `number` or in a free one; returns its number."""
        if number is None and not self.free:
            self.reserve(self.capacity + max(STEP, self.capacity // GROWTH))
        number = self.free.pop() if number is None else number
        new = {path: _padded(np.asarray(leaves[path], np.float32), shape) for path, shape in self.shapes.items()}
        self.leaves = self._put(new, np.int32(number), self.leaves)
        return number

    @property
    def first_layer(self) -> int:
        """The first layer with leaves of an adapter; 0 also if its embeddings have some."""
        return self.model.method.layer_numbers(self.model.config)[0]

    def logits(self, numbers: Int[np.ndarray, " rows"], inputs: Packed) -> Float[Array, "rows places outputs"]:
        """Of each row by the adapter of its number, or of a single row by each adapter."""
        return self._forward(self.frozen, (self.selected(numbers), inputs))

    def selected(self, numbers: Int[np.ndarray, " rows"]) -> Leaves:
        """The leaves of the adapters of these numbers."""
        return self._select((numbers, self.leaves))


def _padded(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A head of fewer outputs, with zeros for the others."""
    return np.pad(leaf, [(0, size - have) for size, have in zip(shape, leaf.shape, strict=True)])


def _put(new: Leaves, number: Array, stacked: Leaves) -> Leaves:
    return {path: leaf.at[number].set(new[path]) for path, leaf in stacked.items()}


def _select(numbers_and_stacked: tuple[Int[Array, " rows"], Leaves]) -> Leaves:
    """The leaves of the adapters of these numbers."""
    numbers, stacked = numbers_and_stacked
    return {path: leaf.at[numbers].get(mode="promise_in_bounds") for path, leaf in stacked.items()}


def _forward(
    frozen: Leaves, selected_and_inputs: tuple[Leaves, Packed], *, model: SequenceClassifier
) -> Float[Array, "rows places outputs"]:
    """The plain model, mapped over adapters and their rows; over adapters alone, if there is but one row.

    What no adapter has a part in, such as the layers below their first, is then computed once.
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
    """Each model mapped over its adapters, on one row; what they all compute alike is compiled once."""
    selected, inputs = selected_and_inputs
    return [_forward(frozen, (leaves, inputs), model=model) for model, leaves in zip(models, selected, strict=True)]
