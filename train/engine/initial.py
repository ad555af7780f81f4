"""What a run starts from: the model, the pretrained weights, fresh ones, and those of another run's adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.architectures.folder import POOLING
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import OUTPUT_BIASES, SequenceClassifier
from adakron_jax.methods import AdaMix, MAdaKron
from adakron_jax.params import Tree, count, flatten, merge_params, split_params
from adakron_jax.problems import Problem
from adakron_jax.splice import is_added, is_trainable
from adakron_jax.xla.precision import fuses
from train import terminal
from train.engine import hosts
from train.engine.dataset import Dataset
from train.engine.folder import reached
from train.engine.steps import optim
from train.engine.steps.sharding import Shardings
from train.engine.steps.step import TrainState, init_state
from train.options.config import RunConfig
from train.options.model import Pretrained


def check_compatible(config: RunConfig, encoder: EncoderConfig) -> None:
    """Raises ValueError if the encoder does not allow the length or the method."""
    if config.max_length > encoder.max_length:
        raise ValueError(f"max_length is {config.max_length}; accepted: at most {encoder.max_length}, the encoder's")
    config.method.splices(config.method.seen_of(encoder))


def show_pooling(config: RunConfig, problem: Problem, base: Pretrained) -> None:
    """Prints what the head reads, if that is not the architecture's own or not what the encoder was trained with."""
    if problem.reads == "token":
        return
    if base.pooling and config.pooling == "pooler":
        terminal.say(
            f"warning: the pooler of {base.name} was never trained ({POOLING} says {base.pooling}); --pooling "
            f"{base.pooling} is usually many points better"
        )
    elif base.pooling == config.pooling:
        terminal.say(f"pooling: {config.pooling}, as {base.name} was trained ({POOLING})")
    elif base.reads(config.pooling, problem)[0] != config.pooling:
        terminal.say(f"{base.name} has no pooler: the head starts with a new dense layer in its place")


def make_model(config: RunConfig, problem: Problem, base: Pretrained) -> SequenceClassifier:
    """Returns the classifier in the run's precision; ValueError if the method has no loss for the problem."""
    if problem.independent and isinstance(config.method, AdaMix | MAdaKron) and config.method.consistency:
        raise ValueError(
            f"method.consistency is True for {config.method.name}, and compares predictions of one class; accepted: "
            f"false for a {problem.name} problem"
        )
    if problem.reads == "token" and config.pooling != "auto":
        raise ValueError(f"pooling is {config.pooling!r}, and the head reads every token; accepted: auto for tokens")
    pooling, head = base.reads(config.pooling, problem)
    return SequenceClassifier(
        base.encoder,
        config.method,
        config.dtype,
        num_labels=problem.outputs,
        pooling=pooling,
        head=head,
        reads=problem.reads,
        remat=config.remat,
        fused=fuses(config.dtype, config.mesh_shape.devices),
    )


def initial_params(
    config: RunConfig, model: SequenceClassifier, problem: Problem, base: Pretrained, targets: np.ndarray
) -> Tree:
    """Returns all parameters that a run starts from.

    Args:
      targets: those of the training examples.

    Raises:
      ValueError: the adapter that it starts from does not match.
    """
    leaves = base.leaves  # read before `start` traces, since reading creates a module itself
    # The same key as `jax.random.key`, which would load two executables for it.
    words: Any = np.array([0, config.seed], np.uint32)
    fresh = model.start(jax.random.wrap_key_data(words, impl="threefry2x32"), leaves)
    if (bias := problem.initial_bias(targets)) is not None:
        fresh |= {path: bias for path in OUTPUT_BIASES if path in fresh}
    return model.assemble(leaves, fresh | transferred(config, fresh, problem, base))


def initial_state(config: RunConfig, params: Tree, data: Dataset, shardings: Shardings) -> TrainState:
    """Returns the state before the first step, on the devices."""
    trainable, _ = split_params(params, is_trainable(config.method))
    schedule = optim.linear_schedule(config.learning_rate, data.total_steps, config.warmup_ratio)
    state = init_state(trainable, optim.adamw(config.weight_decay), schedule, config.seed)
    return hosts.put(state, shardings.of(state))


def place_frozen(params: Sequence[Tree], model: SequenceClassifier, shardings: Shardings) -> list[Tree]:
    """Places each run's frozen leaves on the devices, in the model's precision; all runs share the pretrained ones.

    The step computes with them as they are: it casts and splits none of them.
    """

    def place(tree: Tree) -> Tree:
        return hosts.put(jax.tree.map(lambda x: jnp.asarray(x, model.dtype), tree), shardings.of(tree))

    frozen = [split_params(tree, is_trainable(model.method))[1] for tree in params]
    base = place(split_params(frozen[0], is_added)[1])
    return [merge_params(place(split_params(tree, is_added)[0]), base) for tree in frozen]


def read_start(config: RunConfig) -> Card | None:
    """Returns the card of the adapter that a run starts from, if any; ValueError if it is of another method."""
    if not config.init_from:
        return None
    said, path = f"init_from is {config.init_from!r}", Path(config.init_from) / "adapter.json"
    if not path.is_file():
        raise ValueError(f"{said}, which has no adapter.json; accepted: a portable adapter's folder")
    card = adapter.read_card(path)
    if card.method != config.method:
        raise ValueError(f"{said}, trained with {card.method}; accepted: one trained with {config.method}")
    return card


def check_start(config: RunConfig, base: Pretrained) -> Card | None:
    """Returns what `read_start` does; ValueError also if the adapter was trained on other weights than these."""
    card = read_start(config)
    if card is not None and card.fingerprint != base.fingerprint:
        raise ValueError(
            f"init_from is {config.init_from!r}, trained on {card.base} with the fingerprint {card.fingerprint[:12]}; "
            f"accepted: one trained on {config.model}, whose fingerprint is {base.fingerprint[:12]}"
        )
    return card


def transferred(config: RunConfig, fresh: Mapping[str, Any], problem: Problem, base: Pretrained) -> pretrained.Leaves:
    """Returns the leaves, path -> array, that `init_from` starts a run with: the adapter's; the head's if labels agree.

    A resumed run has its trainable leaves in its checkpoint; it reads the adapter only for the method's frozen leaves.

    Args:
      fresh: the leaves that are not pretrained, by path.

    Raises:
      ValueError: the adapter is damaged, or of another method or encoder.
    """
    trains = is_trainable(config.method)
    adds_frozen = any(is_added(path) and not trains(path) for path in fresh)
    if (reached(config) and not adds_frozen) or (card := check_start(config, base)) is None:
        return {}
    leaves = flatten(adapter.load(Path(config.init_from))[0])
    agree = (card.problem.name, card.problem.labels) == (problem.name, problem.labels)
    agree = agree and (card.pooling, card.head) == base.reads(config.pooling, problem)
    taken = {path: leaf for path, leaf in leaves.items() if agree or not path.startswith("classifier/")}
    head = (
        "with its head" if agree else f"without its head, which predicts {', '.join(card.problem.labels) or 'numbers'}"
    )
    terminal.say(f"starts from {config.init_from}, trained on {card.task}: {count(taken):,} parameters, {head}")
    return taken
