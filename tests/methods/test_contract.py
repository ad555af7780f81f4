"""One contract for every registered method; no method is named here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import methods, testing
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data.packing import Batch
from adakron_jax.encoders.inputs import padded
from adakron_jax.methods.registry import METHODS, make_method, register
from adakron_jax.params import split_params
from adakron_jax.problems import Classification
from adakron_jax.splice import Method, is_trainable
from adakron_jax.testing import LABELS, Setup, examples, make_fresh, make_setup, refusal
from adakron_jax.xla.compiled import PerShape
from tests.support.architectures import DISTINCT
from tests.support.methods import TELLING, nightly_but
from train.engine.steps import optim
from train.engine.steps.sharding import make_shardings
from train.engine.steps.step import TrainState, compile_steps, init_state
from train.options.mesh import parse_mesh

SIZES = {"hidden_size": 128, "num_layers": 2, "intermediate_size": 64, "initializer_range": 0.1}
CONFIGS = [dataclasses.replace(config, **SIZES) for config in DISTINCT]


def wide_enough(method: Method, config: EncoderConfig) -> EncoderConfig:
    """The encoder, or one twice as wide if a default field of the method needs that."""
    return dataclasses.replace(config, hidden_size=256) if refusal(method, config) else config


ALL = [(method(), wide_enough(method(), config)) for method in METHODS.values() for config in CONFIGS]
CASES = [case for case in ALL if not refusal(*case)]
named = lambda case: f"{case[0].name}-{case[1].model_type}"  # noqa: E731
# Names differ between these encoders by what they have and lack; the others are for the night.
NAMED = [
    pytest.param(case, marks=[pytest.mark.nightly] * (case[1].model_type not in ("bert", "modernbert")), id=named(case))
    for case in CASES
]
# Loss and gradients of three layers, as the first, the last and those between are other code; at night of five. Logits
# alone tell of the other encoders, in `tests/encoders`. Unlike BERT, ModernBERT often attends to near tokens only, and
# DeBERTa takes a query and a key twice: methods that touch attention are tried there, the others at night.
ATTENDING = ("full", "ia3", "lora", "prefix", "unipelt")
DEEP = [
    pytest.param(
        (method, dataclasses.replace(config, num_layers=layers)),
        marks=[pytest.mark.nightly] * (layers == 5 or (config.model_type != "bert" and method.name not in ATTENDING)),
        id=f"{named((method, config))}-{layers}",
    )
    for method, config in CASES
    for layers in (3, 5)
    if config.model_type in ("bert", "modernbert", "deberta-v2")
]
SMALL = dataclasses.replace(CONFIGS[0], num_layers=1)


@dataclasses.dataclass
class Trained:
    setup: Setup
    state: TrainState
    frozen: dict
    losses: list[float]
    step: PerShape


@pytest.fixture(scope="module", params=NAMED)
def setup(request: pytest.FixtureRequest) -> Setup:
    return make_setup(*request.param)


def test_names_and_the_split(setup: Setup) -> None:
    testing.check_names(setup)
    testing.check_split(setup)


def test_a_method_that_needs_what_an_encoder_lacks_names_both() -> None:
    refused = {named(case): why for case in ALL if (why := refusal(*case))}
    assert set(refused) == {"bitfit-modernbert"}
    assert refused["bitfit-modernbert"].startswith("method bitfit trains biases; modernbert has none")


@pytest.mark.parametrize("case", DEEP)
def test_packed_equals_padded_in_loss_and_gradients(case: tuple[Method, EncoderConfig]) -> None:
    testing.check_packing(make_setup(*case))


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
    testing.check_moved(before, trained.state.trainable, trained.losses)
    assert len(trained.step.executables) == 1


@pytest.mark.parametrize("trained", nightly_but(TELLING), indirect=True)
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
