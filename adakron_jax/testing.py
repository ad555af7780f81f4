"""The contract of methods, to test your own: `check_method(MyMethod())` in a test of any framework.

    from adakron_jax.testing import check_method

    def test_my_method():
        check_method(MyMethod())

The checks use tiny encoders and cover what encoders, batches and adapters' files rely on; an AssertionError says what
does not hold. They take about half a minute, most of it compiling.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import BERT_BASE, EncoderConfig
from adakron_jax.architectures.paths import layer_of
from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import Packed, blank
from adakron_jax.encoders.module import take
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import registry
from adakron_jax.params import Tree, budget, count, flatten, merge_params, split_params, unflatten
from adakron_jax.problems import Classification, make
from adakron_jax.splice import Method, is_added, is_trainable

LENGTHS = (5, 9, 3, 7)  # tokens of the four examples
LABELS = jnp.array([0, 2, 1, 2])
STEPS = 40  # training steps
CLOSE = 1e-5  # largest accepted difference of logits, losses and gradients
_BERT = dataclasses.replace(
    BERT_BASE, vocab_size=50, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=64,
    max_position_embeddings=32, initializer_range=0.1,
)  # fmt: skip
_MODERNBERT = dataclasses.replace(
    _BERT, model_type="modernbert", type_vocab_size=0, global_every=2, window=4, global_theta=1e5, local_theta=1e4
)
ENCODERS = (_BERT, dataclasses.replace(_BERT, model_type="distilbert", type_vocab_size=0), _MODERNBERT)


class Setup(NamedTuple):
    """A method's model on an encoder, with parameters."""

    method: Method
    model: SequenceClassifier
    params: Tree


def check_method(method: Method, encoders: Sequence[EncoderConfig] = ENCODERS) -> None:
    """Checks the contract of all methods on every encoder that a method accepts.

    Args:
      encoders: small encoders, since everything is computed many times on each.

    Raises:
      AssertionError: something does not hold; the message says what.
    """
    check_description(method)
    accepted = [config for config in encoders if not refusal(method, config)]
    assert accepted, f"{method.name} refuses all encoders: {refusal(method, encoders[0])}"
    for config in accepted:
        setup = make_setup(method, config)
        check_names(setup)
        check_split(setup)
        check_packing(setup)
        check_pointwise(setup)
        check_fuse(setup)
    check_layers(method, accepted[0])
    check_round_trip(make_setup(method, accepted[0]))
    check_training(make_fresh(method, accepted[0]))


def refusal(method: Method, config: EncoderConfig) -> str:
    """Returns why an encoder cannot take a method; empty if it can."""
    try:
        method.splices(config)
    except ValueError as error:
        return str(error)
    return ""


def make_setup(method: Method, config: EncoderConfig) -> Setup:
    """Draws all parameters at random, so that no term is zero."""
    model, rng = SequenceClassifier(config, method, num_labels=3), np.random.default_rng(0)
    leaves = {path: rng.normal(0, 0.1, leaf.shape) for path, leaf in sorted(flatten(model.shapes()).items())}
    return Setup(method, model, unflatten({path: jnp.asarray(leaf, jnp.float32) for path, leaf in leaves.items()}))


def make_fresh(method: Method, config: EncoderConfig) -> Setup:
    """Returns the parameters that training starts from."""
    model = SequenceClassifier(config, method, num_labels=3)
    return Setup(method, model, jax.jit(model.init)(jax.random.key(0), blank(1, 4, 1))["params"])


def check_description(method: Method) -> None:
    """Checks that a method is a frozen dataclass described by its name and fields, as in runs and adapters."""
    kind = type(method)
    assert dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass"
    assert kind.__hash__, f"{kind.__name__} is no frozen dataclass"
    assert registry.from_table(registry.as_table(method)) == method, f"{method} is not what its fields make"


def check_names(setup: Setup) -> None:
    """Checks that added leaves carry the method's name, others are the encoder's, and names in a file are unique."""
    plain = set(flatten(SequenceClassifier(setup.model.config, Method(), num_labels=3).shapes()))
    paths = set(flatten(setup.params))
    assert plain <= paths, f"{setup.method.name} removes {sorted(plain - paths)}"
    assert all(f"@{setup.method.name}/" in path for path in paths - plain), sorted(paths - plain)
    names = list(adapter.canonical(sorted(paths - plain), setup.method, setup.model.config).values())
    assert len(names) == len(set(names)), f"leaves share a name in adapter.safetensors: {sorted(names)}"


def check_split(setup: Setup) -> None:
    """Checks that the head is trainable, the split loses nothing, and counts agree with it."""
    rule = is_trainable(setup.method)
    trainable, frozen = split_params(setup.params, rule)
    assert {path for path in flatten(setup.params) if path.startswith("classifier/")} <= set(flatten(trainable))
    counted = budget(setup.params, rule)
    assert counted["method"] + counted["head"] == count(trainable)
    assert count(trainable) + count(frozen) == count(setup.params)


def check_packing(setup: Setup) -> None:
    """Checks that loss and gradients of an example do not depend on the rest of its row."""
    trainable, frozen = split_params(setup.params, is_trainable(setup.method))

    @jax.jit
    def differentiate(tree: Tree, inputs: Packed, labels: Array, weights: Array) -> tuple[Array, Tree]:
        def loss_of(tree: Tree) -> Array:
            logits: Any = setup.model.apply({"params": merge_params(tree, frozen)}, inputs)
            return jnp.sum(weights * Classification.losses(logits, labels)) / weights.sum()

        return jax.value_and_grad(loss_of)(tree)

    batches = (as_batch(setup.model.config, per_row) for per_row in (2, 1))
    (loss, grads), (expected_loss, expected) = (differentiate(trainable, *batch) for batch in batches)
    np.testing.assert_allclose(loss, expected_loss, rtol=0, atol=CLOSE, err_msg="packed and padded losses differ")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=CLOSE), grads, expected)


def check_pointwise(setup: Setup) -> None:
    """Checks that the last layer gives the same for the tokens that the head reads as for all tokens."""
    encoder = Encoder(setup.model.config, setup.method)
    inputs, _, _ = as_batch(setup.model.config, 2)
    run = jax.jit(lambda starts: encoder.apply({"params": setup.params["encoder"]}, inputs, True, starts))
    of_all = take(jnp.asarray(run(None)), jnp.asarray(inputs.starts))
    message = f"{setup.method.name} mixes tokens; accepted: pointwise = False"
    np.testing.assert_allclose(run(inputs.starts), of_all, rtol=0, atol=CLOSE, err_msg=message)


def check_fuse(setup: Setup) -> None:
    """Checks that the fused model computes the same."""
    if type(setup.method).fuse is Method.fuse:
        return
    try:
        method, leaves = registry.fuse(setup.method, flatten(setup.params), setup.model.config)
    except ValueError:  # it does not fuse on this encoder, or with these fields
        return
    inputs, _, _ = as_batch(setup.model.config, 2)
    logits = [
        jax.jit(model.apply)({"params": params}, inputs)
        for model, params in ((setup.model, setup.params), (setup.model.clone(method=method), unflatten(leaves)))
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=10 * CLOSE, err_msg=f"{setup.method.name} is not {method.name}")


def check_layers(method: Method, config: EncoderConfig) -> None:
    """Checks that in the last layer alone it adds nothing to the others, unless it trains the layers themselves."""
    last = dataclasses.replace(method, layers=str(config.num_layers - 1))
    try:
        last.layer_numbers(config)
    except ValueError:
        return
    model = SequenceClassifier(config, last, num_labels=3)
    added = [path for path in flatten(model.shapes()) if is_added(path)]
    assert {layer_of(path) for path in added} <= {None, config.num_layers - 1}, added


def check_round_trip(setup: Setup) -> None:
    """Checks that a saved adapter is read back bit by bit."""
    config, problem = setup.model.config, make("classification", ("a", "b", "c"))
    card = Card(setup.method, "", problem, "", "", config, {}, config.max_length)
    tree, _ = split_params(setup.params, adapter.is_portable(setup.method))
    with tempfile.TemporaryDirectory() as folder:
        adapter.save(Path(folder), tree, card)
        again, read = adapter.load(Path(folder))
    assert read.method == setup.method
    jax.tree.map(np.testing.assert_array_equal, again, tree)


def check_training(setup: Setup) -> None:
    """Checks that four examples are soon learned, and that every trainable leaf takes part."""
    config = dataclasses.replace(
        setup.model.config, hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0, embedding_dropout=0.0
    )
    model = setup.model.clone(config=config)
    before, frozen = split_params(setup.params, is_trainable(setup.method))
    inputs, labels, weights = as_batch(config, 1)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(tree: Tree, state: Any, key: Array) -> tuple[Tree, Any, Array]:
        def loss_of(tree: Tree) -> Array:
            variables = {"params": merge_params(tree, frozen)}
            logits: Any = model.apply(variables, inputs, deterministic=False, rngs={"dropout": key})
            return jnp.sum(weights * Classification.losses(logits, labels)) / weights.sum()

        loss, grads = jax.value_and_grad(loss_of)(tree)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(tree, updates), state, loss  # pyright: ignore[reportReturnType]

    tree, state, losses = before, optimizer.init(before), []
    for key in jax.random.split(jax.random.key(0), STEPS):
        tree, state, loss = step(tree, state, key)
        losses.append(float(loss))
    check_moved(before, tree, losses)


def check_moved(before: Tree, after: Tree, losses: Sequence[float]) -> None:
    """Checks that every trainable leaf has moved, and that the loss is at least a fifth lower."""
    leaves = flatten(before)
    for path, leaf in flatten(after).items():
        assert not np.array_equal(leaf, leaves[path]), f"{path} is trainable, and training does not move it"
    first, *_, last = losses
    assert last < 0.8 * first, f"the loss goes from {first:.3g} to {last:.3g} in {len(losses)} steps"


def examples(config: EncoderConfig) -> tuple[Int[np.ndarray, "4 9"], Int[np.ndarray, "4 9"]]:
    """Returns padded token ids and the attention mask of four examples of different lengths."""
    rng = np.random.default_rng(0)
    ids = np.full((len(LENGTHS), max(LENGTHS)), config.pad_id, np.int32)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = rng.integers(2, config.vocab_size, length)
    return ids, (np.arange(ids.shape[1]) < np.array(LENGTHS)[:, None]).astype(np.int32)


def as_batch(config: EncoderConfig, per_row: int) -> tuple[Packed, Int[Array, "4 2"], Float[Array, "4 2"]]:
    """Packs the examples, `per_row` to a row of 16 tokens, in four rows with two slots: inputs, labels, weights."""
    ids, _ = examples(config)
    arrays = {name: np.zeros((4, 16), np.int32) for name in ("tokens", "token_types", "segments", "positions")}
    starts, labels, weights = np.zeros((4, 2), np.int32), np.zeros((4, 2), np.int32), np.zeros((4, 2), np.float32)
    for example, length in enumerate(LENGTHS):
        row, slot = divmod(example, per_row)
        start = LENGTHS[example - 1] if slot else 0
        place = (row, slice(start, start + length))
        arrays["tokens"][place] = ids[example, :length]
        arrays["segments"][place] = slot + 1
        arrays["positions"][place] = np.arange(length)
        starts[row, slot], labels[row, slot], weights[row, slot] = start, LABELS[example], 1
    return jax.tree.map(jnp.asarray, (Packed(**arrays, starts=starts), labels, weights))
