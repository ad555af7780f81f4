"""The training step and the evaluation step: pure functions of arrays, jitted in one place."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, DTypeLike, Int, UInt32

from adakron_jax.data.packing import Batch
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.params import Tree, merge_params, split_params
from adakron_jax.splice import is_added
from adakron_jax.xla import runtime
from adakron_jax.xla.compiled import PerShape
from adakron_jax.xla.precision import of_matmuls
from train.engine.steps.optim import LinearSchedule, norm
from train.engine.steps.sharding import Shardings

Losses = Callable[[Array, Array], Array]  # a problem's: from logits and targets to the loss of each example
CPU_POSITIONS = 2048  # of the runs that a CPU takes at once; with more, one after another is faster


def configure_jax(dtype: DTypeLike | None) -> None:
    """Sets what holds for the whole process: the precision of matmuls, and the settings that all commands share."""
    jax.config.update("jax_default_matmul_precision", of_matmuls(dtype))
    runtime.set_up()


@typing.no_type_check  # JAX builds it from shapes and shardings too
@struct.dataclass
class TrainState:
    """What a run's step starts from. Randomness is folded from (seed, step), so a step number is all resuming needs.

    Seed and schedule never change; as arrays they let runs that differ in nothing else share an executable.
    """

    step: Int[Array, "*runs"]
    seed: UInt32[Array, "*runs"]
    schedule: LinearSchedule
    trainable: Tree
    opt_state: optax.OptState


def init_state(
    trainable: Tree, optimizer: optax.GradientTransformation, schedule: LinearSchedule, seed: int
) -> TrainState:
    """Returns the state before the first step, with zeros by NumPy: JAX would load an executable for each shape."""
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(optimizer.init, trainable))
    numbers: tuple[Any, Any] = (np.int32(0), np.uint32(seed))
    return TrainState(*numbers, schedule, trainable, zeros)


def train_step(
    state: TrainState,
    frozen: Tree,
    batch: Batch,
    *,
    model: SequenceClassifier,
    losses_of: Losses,
    optimizer: optax.GradientTransformation,
    shardings: Shardings,
) -> tuple[TrainState, dict[str, Array]]:
    """Takes an optimiser step on the weighted mean loss over the examples of all micro-batches.

    Devices that share the rows add up their gradients once.

    Returns:
      The next state, and the loss (the method's own terms included), gradient norm (before clipping) and learning
      rate of this step.
    """
    key = jax.random.fold_in(jax.random.key(state.seed, impl="threefry2x32"), state.step)
    examples = batch.weights.sum()

    def loss_fn(trainable: Tree, micro: Batch, key: Array) -> Array:
        def forward(key: Array) -> Any:
            params = merge_params(trainable, frozen)
            return model.apply({"params": params}, micro.inputs, deterministic=False, rngs={"dropout": key})

        logits = forward(key)
        losses = losses_of(logits, jnp.asarray(micro.labels))
        losses += model.method.extra_losses(logits, lambda: forward(jax.random.fold_in(key, 1)))
        return jnp.sum(micro.weights * losses) / examples

    def differentiate(trainable: Tree, batch: Batch) -> tuple[Array, Tree]:
        keys = jax.random.split(key, batch.weights.shape[0])
        if len(keys) == 1:
            return jax.value_and_grad(loss_fn)(trainable, *jax.tree.map(lambda x: x[0], (batch, keys)))

        def accumulate(total: Any, micro: tuple[Batch, Array]) -> tuple[Any, None]:
            part = jax.value_and_grad(loss_fn)(trainable, *micro)
            return jax.tree.map(jnp.add, total, part), None

        zero = jax.tree.map(jnp.zeros_like, (examples, trainable))
        return jax.lax.scan(accumulate, zero, (batch, keys))[0]

    loss, grads = shardings.sum_of_shards(differentiate, state.trainable, batch)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
    learning_rate = state.schedule(state.step)
    metrics = {"loss": loss, "grad_norm": norm(grads), "learning_rate": learning_rate}
    trainable = optax.apply_updates(state.trainable, optax.tree.scale(learning_rate, updates))
    return dataclasses.replace(state, step=state.step + 1, trainable=trainable, opt_state=opt_state), metrics


def eval_step(trainable: Tree, frozen: Tree, inputs: Packed, *, model: SequenceClassifier) -> Array:
    """Returns logits [rows, slots, labels], without dropout."""
    return model.apply({"params": merge_params(trainable, frozen)}, inputs)  # pyright: ignore[reportReturnType]


def train_step_of_group(step: Callable[..., Any], states: TrainState, frozen: Tree, batches: Batch) -> Any:
    """Takes a step of several runs, whose states, batches and leaves added by their method are stacked on a first axis.

    A CPU takes no more runs at once than its caches hold.
    """
    added, base = split_params(frozen, is_added)
    runs, _, rows, seq = batches.inputs.tokens.shape
    at_once = max(1, CPU_POSITIONS // (rows * seq)) if jax.default_backend() == "cpu" else runs
    step_of_run = lambda run: step(run[0], merge_params(run[1], base), run[2])  # noqa: E731
    if at_once >= runs:
        return jax.vmap(step_of_run)((states, added, batches))
    return jax.lax.map(step_of_run, (states, added, batches), batch_size=at_once)


@dataclasses.dataclass
class Steps:
    """The compiled functions of a run, or of a group of runs.

    Attributes:
      train: takes a step, and gives its state's memory to the next state.
      evaluate: computes the logits of one run.
    """

    train: PerShape
    evaluate: PerShape

    @property
    def seconds(self) -> float:
        """The seconds spent compiling."""
        return self.train.seconds + self.evaluate.seconds

    def anew(self) -> "Steps":
        """Returns the same steps with what they have compiled; seconds and compilations count from 0."""
        return Steps(self.train.anew(), self.evaluate.anew())


def compile_steps(
    model: SequenceClassifier,
    losses_of: Losses,
    optimizer: optax.GradientTransformation,
    shardings: Shardings,
    state: TrainState,
    frozen: Tree,
    several: bool = False,
) -> Steps:
    """Returns the steps, jitted over the mesh.

    Args:
      state, frozen: those of one run.
      several: whether a step trains several runs at once: their states, batches and frozen leaves that a method added
        are stacked along a new first axis. All runs share the pretrained weights.
    """
    at_state, at_frozen, at_batch = shardings.of(state), shardings.of(frozen), shardings.batch
    evaluate = jax.jit(
        functools.partial(eval_step, model=model),
        in_shardings=(at_state.trainable, at_frozen, shardings.rows),
        out_shardings=shardings.replicated,
    )
    step = functools.partial(train_step, model=model, losses_of=losses_of, optimizer=optimizer, shardings=shardings)
    if several:
        step = functools.partial(train_step_of_group, step)
        added, base = split_params(at_frozen, is_added)
        at_state, added, at_batch = jax.tree.map(shardings.stacked, (at_state, added, at_batch))
        at_frozen = merge_params(added, base)
    train = jax.jit(
        step,
        in_shardings=(at_state, at_frozen, at_batch),
        out_shardings=(at_state, shardings.replicated),
        donate_argnums=0,
    )
    return Steps(PerShape(train), PerShape(evaluate))
