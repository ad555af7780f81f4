"""The training step and the evaluation step: pure functions of arrays, jitted in one place."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Num

from adakron_jax.encoder import SequenceClassifier
from adakron_jax.params import Tree, merge
from train.packing import Batch
from train.sharding import Shardings


@struct.dataclass
class TrainState:
    """All that changes in training. Randomness is folded from (seed, step), so a step number is all resuming needs."""

    step: Any
    seed: Any
    trainable: Any
    opt_state: Any


def init_state(trainable: Tree, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    return TrainState(jnp.int32(0), jnp.uint32(seed), trainable, optimizer.init(trainable))


def example_losses(logits: Float[Array, "*batch labels"], labels: Num[Array, " *batch"]) -> Float[Array, " *batch"]:
    """Cross-entropy of integer labels, or the squared error of a regression's numbers."""
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.square(logits[..., 0] - labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def train_step(
    state: TrainState,
    frozen: Tree,
    batch: Batch,
    *,
    model: SequenceClassifier,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    shardings: Shardings,
) -> tuple[TrainState, dict[str, Array]]:
    """One optimiser step on the mean loss over the examples of all micro-batches.

    Devices that share the rows add up their gradients once.

    Returns:
      The next state, and the loss (the method's own terms included), gradient norm (before clipping) and learning
      rate of this step.
    """
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    examples = batch.weights.sum()

    def loss_fn(trainable: Tree, micro: Batch, key: Array) -> Array:
        def forward(key: Array) -> Any:
            params = merge(trainable, frozen)
            return model.apply({"params": params}, micro.inputs, deterministic=False, rngs={"dropout": key})

        logits = forward(key)
        losses = example_losses(logits, micro.labels)
        losses += model.method.extra_losses(logits, lambda: forward(jax.random.fold_in(key, 1)))
        return jnp.sum(micro.weights * losses) / examples

    def differentiate(trainable: Tree, batch: Batch) -> tuple[Array, Tree]:
        keys = jax.random.split(key, batch.weights.shape[0])
        if len(keys) == 1:
            return jax.value_and_grad(loss_fn)(trainable, *jax.tree.map(lambda x: x[0], (batch, keys)))

        def accumulate(total: Any, micro: tuple[Batch, Array]) -> tuple[Any, None]:
            one = jax.value_and_grad(loss_fn)(trainable, *micro)
            return jax.tree.map(jnp.add, total, one), None

        zero = jax.tree.map(jnp.zeros_like, (examples, trainable))
        return jax.lax.scan(accumulate, zero, (batch, keys))[0]

    loss, grads = shardings.sum_of_shards(differentiate, state.trainable, batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), "learning_rate": schedule(state.step)}
    trainable = optax.apply_updates(state.trainable, updates)
    return dataclasses.replace(state, step=state.step + 1, trainable=trainable, opt_state=opt_state), metrics


def eval_step(trainable: Tree, frozen: Tree, batch: Batch, *, model: SequenceClassifier) -> Array:
    """Logits [micro, rows, slots, labels], without dropout."""
    params = merge(trainable, frozen)
    return jax.lax.map(lambda inputs: model.apply({"params": params}, inputs), batch.inputs)


class PerShape:
    """A jitted function, compiled ahead of time once for each shape of its last argument.

    Attributes:
      seconds: spent compiling.
      executables: the compiled programs by shape; their number is how often it compiled.
    """

    def __init__(self, jitted: Any):
        self.jitted = jitted
        self.seconds = 0.0
        self.executables: dict[tuple, Callable] = {}

    def __call__(self, *args: Any) -> Any:
        shape = tuple(leaf.shape for leaf in jax.tree.leaves(args[-1]))
        if shape not in self.executables:
            start = time.perf_counter()
            self.executables[shape] = self.jitted.lower(*args).compile()
            self.seconds += time.perf_counter() - start
        return self.executables[shape](*args)


def compile_steps(
    model: SequenceClassifier,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    shardings: Shardings,
    state: TrainState,
    frozen: Tree,
) -> tuple[PerShape, PerShape]:
    """The two steps, jitted over the mesh. `train_step` gives its state's memory to the state that follows."""
    at_state, at_frozen = shardings.of(state), shardings.of(frozen)
    train = jax.jit(
        functools.partial(train_step, model=model, optimizer=optimizer, schedule=schedule, shardings=shardings),
        in_shardings=(at_state, at_frozen, shardings.batch),
        out_shardings=(at_state, shardings.replicated),
        donate_argnums=0,
    )
    evaluate = jax.jit(
        functools.partial(eval_step, model=model),
        in_shardings=(at_state.trainable, at_frozen, shardings.batch),
        out_shardings=shardings.replicated,
    )
    return PerShape(train), PerShape(evaluate)
