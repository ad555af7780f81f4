"""One contract for every registered method; no method is named here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import methods
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.compiled import PerShape
from adakron_jax.data.packing import Batch
from adakron_jax.encoders.inputs import Packed, blank, padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods.registry import METHODS, make_method, register
from adakron_jax.params import budget, count, flatten, merge_params, split_params, unflatten
from adakron_jax.problems import Classification
from adakron_jax.splice import Method, Site, is_trainable
from tests.encoders.test_bert import LENGTHS, examples
from tests.support.architectures import DISTINCT
from train.engine import optim
from train.engine.sharding import make_shardings
from train.engine.step import TrainState, compile_steps, init_state
from train.options.mesh import parse_mesh

SIZES = {"hidden_size": 128, "num_layers": 2, "intermediate_size": 64, "initializer_range": 0.1}
CONFIGS = [dataclasses.replace(config, **SIZES) for config in DISTINCT]


def refusal(method: Method, config: EncoderConfig) -> str:
    """Why a method cannot be had on an encoder; empty if it can."""
    try:
        method.splices(config)
    except ValueError as error:
        return str(error)
    return ""


def wide_enough(method: Method, config: EncoderConfig) -> EncoderConfig:
    """The encoder, or one twice as wide if a default field of the method needs that."""
    return dataclasses.replace(config, hidden_size=256) if refusal(method, config) else config


ALL = [(method(), wide_enough(method(), config)) for method in METHODS.values() for config in CONFIGS]
CASES = [case for case in ALL if not refusal(*case)]
# Loss and gradients on the two that are most unlike, five layers deep: the first, the last and those between are other
# code. Logits alone tell of the others, in `tests/encoders`; DeBERTa's attention takes methods' queries and keys twice.
ATTENDING = ("full", "ia3", "lora", "unipelt")
DEEP = [
    pytest.param(
        (method, dataclasses.replace(config, num_layers=2 if config.model_type == "deberta-v2" else 5)),
        marks=[pytest.mark.nightly] * (config.model_type == "deberta-v2" and method.name not in ATTENDING),
    )
    for method, config in CASES
    if config.model_type in ("bert", "modernbert", "deberta-v2")
]
named = lambda case: f"{case[0].name}-{case[1].model_type}"  # noqa: E731
SMALL = dataclasses.replace(CONFIGS[0], num_layers=1)
LABELS = jnp.array([0, 2, 1, 2])


@dataclasses.dataclass
class Setup:
    method: Method
    model: SequenceClassifier
    params: dict


@dataclasses.dataclass
class Trained:
    setup: Setup
    state: TrainState
    frozen: dict
    losses: list[float]
    step: PerShape


def make_setup(method: Method, config: EncoderConfig) -> Setup:
    """Any numbers for parameters, so that no term is zero."""
    model, rng = SequenceClassifier(config, method, num_labels=3), np.random.default_rng(0)
    leaves = {path: rng.normal(0, 0.1, leaf.shape) for path, leaf in sorted(flatten(model.shapes()).items())}
    return Setup(method, model, unflatten({path: jnp.asarray(leaf, jnp.float32) for path, leaf in leaves.items()}))


def make_fresh(method: Method, config: EncoderConfig) -> Setup:
    """The parameters that training starts from."""
    model = SequenceClassifier(config, method, num_labels=3)
    return Setup(method, model, jax.jit(model.init)(jax.random.key(0), blank(1, 4, 1))["params"])


@pytest.fixture(scope="module", params=CASES, ids=named)
def setup(request: pytest.FixtureRequest) -> Setup:
    return make_setup(*request.param)


def test_every_added_leaf_carries_the_methods_name_and_every_other_is_the_bases(setup: Setup) -> None:
    plain = set(flatten(SequenceClassifier(setup.model.config, Method(), num_labels=3).shapes()))
    added = set(flatten(setup.params)) - plain
    assert plain <= set(flatten(setup.params))
    assert all(f"@{setup.method.name}/" in path for path in added)


def test_the_head_always_learns_and_counts_follow_the_split(setup: Setup) -> None:
    rule = is_trainable(setup.method)
    trainable, frozen = split_params(setup.params, rule)
    assert {path for path in flatten(setup.params) if path.startswith("classifier/")} <= set(flatten(trainable))
    counted = budget(setup.params, rule)
    assert counted["method"] + counted["head"] == count(trainable)
    assert count(trainable) + count(frozen) == count(setup.params)


def test_a_method_that_needs_what_an_encoder_lacks_names_both() -> None:
    refused = {named(case): why for case in ALL if (why := refusal(*case))}
    assert set(refused) == {"bitfit-modernbert"}
    assert refused["bitfit-modernbert"].startswith("method bitfit trains biases; modernbert has none")


@pytest.mark.parametrize("case", DEEP, ids=named)
def test_packed_equals_padded_in_loss_and_gradients(case: tuple[Method, EncoderConfig]) -> None:
    setup = make_setup(*case)
    trainable, frozen = split_params(setup.params, is_trainable(setup.method))

    @jax.jit
    def differentiate(tree, inputs, labels, weights):
        def loss_fn(tree):
            logits = setup.model.apply({"params": merge_params(tree, frozen)}, inputs)
            return jnp.sum(weights * Classification.losses(logits, labels)) / weights.sum()

        return jax.value_and_grad(loss_fn)(tree)

    batches = (as_batch(setup.model.config, per_row) for per_row in (2, 1))
    (loss, grads), (expected_loss, expected) = (differentiate(trainable, *batch) for batch in batches)
    np.testing.assert_allclose(loss, expected_loss, rtol=0, atol=1e-5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), grads, expected)


def as_batch(config: EncoderConfig, per_row: int):
    """The four examples, `per_row` to a row of 16 tokens, in four rows with two slots: inputs, labels, weights."""
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


def run_steps(setup: Setup, mesh: str = "data=1", accumulate: int = 1, steps: int = 3, dropout: bool = True):
    """Trains on one batch of four examples with our real step; the state, the frozen tree and the losses."""
    config = setup.model.config
    if not dropout:
        config = dataclasses.replace(config, hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)
    model = setup.model.clone(config=config)
    trainable, frozen = split_params(setup.params, is_trainable(setup.method))
    schedule = optim.linear_schedule(1e-2, 100, 0.0)
    optimizer = optim.adamw(weight_decay=0.1)
    shardings = make_shardings(parse_mesh(mesh), config)
    # Copied: the step takes its state's memory, and what is on one device already would not be.
    state = init_state(jax.tree.map(jnp.array, trainable), optimizer, schedule, seed=0)
    state, frozen = (jax.device_put(tree, shardings.of(tree)) for tree in (state, frozen))
    step = compile_steps(model, Classification.losses, optimizer, shardings, state, frozen).train
    ids, mask = examples(config)
    inputs = padded(*map(jnp.asarray, (ids, mask, np.zeros_like(ids))))
    batch = Batch(inputs, LABELS[:, None], jnp.ones((4, 1)))
    batch = jax.tree.map(lambda x: jnp.asarray(x).reshape(accumulate, 4 // accumulate, *x.shape[1:]), batch)
    batch = jax.device_put(batch, shardings.batch)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    return state, frozen, losses, step


@pytest.fixture(scope="module", params=METHODS)
def trained(request: pytest.FixtureRequest) -> Trained:
    method = METHODS[request.param]()
    setup = make_fresh(method, wide_enough(method, SMALL))
    return Trained(setup, *run_steps(setup, steps=60, dropout=False))


def test_frozen_leaves_stay_bit_identical_every_trainable_leaf_moves_and_one_trace_serves(trained: Trained) -> None:
    before, frozen = split_params(trained.setup.params, is_trainable(trained.setup.method))
    jax.tree.map(np.testing.assert_array_equal, trained.frozen, frozen)
    for path, leaf in flatten(trained.state.trainable).items():
        assert not np.array_equal(leaf, flatten(before)[path]), path
    assert trained.losses[-1] < 0.8 * trained.losses[0]
    assert len(trained.step.executables) == 1


def test_a_mesh_of_devices_gives_the_losses_of_one(trained: Trained) -> None:
    _, _, losses, _ = run_steps(trained.setup, "data=4,model=2", steps=2, dropout=False)
    np.testing.assert_allclose(losses, trained.losses[:2], rtol=0, atol=1e-5)


def test_a_mesh_of_devices_draws_the_random_numbers_of_one() -> None:
    setup = make_fresh(methods.AdaMix(), SMALL)
    alone, together = (run_steps(setup, mesh)[2] for mesh in ("data=1", "data=4,model=2"))
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_accumulated_micro_batches_give_the_losses_of_the_large_batch() -> None:
    setup = make_fresh(methods.AdaKron(), SMALL)
    (_, _, whole, _), (_, _, parts, _) = (run_steps(setup, accumulate=n, dropout=False) for n in (1, 2))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-5)


def test_a_method_is_made_by_name_and_unknown_ones_are_named() -> None:
    for name, method in METHODS.items():
        assert make_method(name, {}) == method()
    with pytest.raises(ValueError, match=r"method is 'nope'; accepted: .*adakron"):
        make_method("nope", {})
    with pytest.raises(ValueError, match=r"adakron has no field nope; accepted: factors, place"):
        make_method("adakron", {"nope": 1})


def test_two_methods_cannot_claim_one_name() -> None:
    with pytest.raises(ValueError, match="two methods claim the name 'head'"):
        register(type("Other", (Method,), {"name": "head"}))


def test_sites_are_the_documented_ones() -> None:
    assert len(Site) == 13
    assert set(methods.__all__) >= {"AdaKron", "Full", "Head"}
