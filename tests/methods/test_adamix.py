"""Mixtures of adapters: which expert serves, what evaluation averages, and the loss that keeps two passes alike."""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.architectures.paths import layer_of
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaMix, MAdaKron
from adakron_jax.params import flatten, unflatten
from adakron_jax.splice import Method, is_added
from tests.encoders.test_bert import BERT, packed_pairs
from tests.methods.test_fuse import random_leaves

CONFIG = dataclasses.replace(BERT, hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)
INPUTS = packed_pairs(CONFIG)
EXPERTS = 2


@dataclasses.dataclass
class Mixture:
    """What two experts a projection make of the packed examples.

    Attributes:
      drawn: logits in training, by key of the random numbers.
      evaluated: logits in evaluation.
      possible: logits of every choice of experts, one for each projection of each layer.
      averaged: logits with the experts' averages.
    """

    drawn: np.ndarray
    evaluated: np.ndarray
    possible: np.ndarray
    averaged: np.ndarray


# Four layers; one layer with two projections.
@pytest.fixture(
    scope="module",
    params=[(AdaMix(EXPERTS, r=4), 4), (MAdaKron(EXPERTS, factors=(3, 2)), 1)],
    ids=["adamix", "madakron"],
)
def mixture(request: pytest.FixtureRequest) -> Mixture:
    method, layers = request.param
    config = dataclasses.replace(CONFIG, num_layers=layers)
    model = SequenceClassifier(config, method, num_labels=3)
    leaves = random_leaves(model.shapes())
    params = unflatten(leaves)

    keys = jax.random.split(jax.random.key(0), 128)
    train = jax.vmap(lambda key: model.apply({"params": params}, INPUTS, deterministic=False, rngs={"dropout": key}))
    evaluated = jax.jit(lambda: model.apply({"params": params}, INPUTS))()

    plain = SequenceClassifier(config, method.plain(), num_labels=3)
    projections = len(method.plain().factors)
    choices = np.array(list(itertools.product(range(EXPERTS), repeat=projections * layers)))
    choices = choices.reshape(-1, projections, layers)
    sets = [plain_leaves(leaves, lambda i, layer, x, c=c: x[c[i, layer]]) for c in choices]
    sets.append(plain_leaves(leaves, lambda i, layer, x: x.mean(axis=0)))
    stacked = {path: np.stack([each[path] for each in sets]) for path in sets[0]}
    base = {path: leaf for path, leaf in leaves.items() if not is_added(path)}
    serve = jax.vmap(lambda own: plain.apply({"params": unflatten(base | own)}, INPUTS))
    *possible, averaged = np.asarray(jax.jit(serve)(stacked))
    return Mixture(np.asarray(jax.jit(train)(keys)), np.asarray(evaluated), np.array(possible), averaged)


def plain_leaves(
    leaves: dict[str, np.ndarray], pick: Callable[[int, int | None, np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """AdaKron's leaves, from what is picked of the experts of each projection, counted from 0, and layer."""
    own = {}
    for path, leaf in leaves.items():
        if is_added(path):
            projection, kind = path.split("/")[-2:]
            if projection != "up":
                number = int(projection.removeprefix("down").removeprefix("_") or 1)
                projection, leaf = f"down_{number}", pick(number - 1, layer_of(path), leaf)
            own[f"{path.partition('@')[0]}@adakron/{projection}/{kind}"] = leaf
    return own


def test_in_training_each_projection_of_each_layer_draws_its_own_expert_for_the_whole_batch(mixture: Mixture) -> None:
    distances = np.abs(mixture.drawn[:, None] - mixture.possible).max(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 1e-5
    assert set(distances.argmin(axis=1)) == set(range(len(mixture.possible)))
    # The choices are told apart by far more than the tolerance.
    apart = np.abs(mixture.possible[:, None] - mixture.possible).max(axis=(2, 3, 4))
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 1e-3


def test_evaluation_averages_the_experts_weights(mixture: Mixture) -> None:
    np.testing.assert_allclose(mixture.evaluated, mixture.averaged, rtol=0, atol=1e-5)
    assert np.abs(mixture.evaluated - mixture.possible).max(axis=(1, 2, 3)).min() > 1e-3


@pytest.mark.parametrize(
    ("method", "shapes"),
    [
        (AdaMix(5, r=6), {"down": (5, 16, 6), "up": (6, 16)}),
        (MAdaKron(5, factors=(3, 2)), {"down_1": (5, 16, 3), "down_2": (5, 16, 2), "up": (6, 16)}),
        (MAdaKron(5, factors=(3, 2), mixture="partial"), {"down_1": (16, 3), "down_2": (5, 16, 2), "up": (6, 16)}),
        (
            MAdaKron(5, factors=(3, 2, 2), mixture="partial"),
            {"down_1": (16, 3), "down_2": (16, 2), "down_3": (5, 16, 2), "up": (12, 16)},
        ),
    ],
    ids=["adamix", "full", "partial", "partial-of-three"],
)
def test_experts_are_held_where_the_mixture_says(method: Method, shapes: dict[str, tuple[int, ...]]) -> None:
    found = flatten(SequenceClassifier(CONFIG, method).shapes())
    own = {path.split("@")[1]: leaf.shape for path, leaf in found.items() if is_added(path)}
    kernels = {f"{method.name}/{name}/kernel": shape for name, shape in shapes.items()}
    biases = {f"{method.name}/{name}/bias": (*shape[:-2], shape[-1]) for name, shape in shapes.items()}
    assert own == kernels | biases


def logits_of(key: int) -> jax.Array:
    return 2 * jax.random.normal(jax.random.key(key), (5, 2, 3))


def consistency(first: jax.Array, second: jax.Array) -> jax.Array:
    return jnp.asarray(AdaMix().extra_losses(first, lambda: second))


def test_passes_that_agree_cost_nothing_and_others_something_whichever_is_first() -> None:
    first, second = logits_of(0), logits_of(1)
    np.testing.assert_allclose(consistency(first, first + 3), 0, rtol=0, atol=1e-6)
    assert consistency(first, second).shape == (5, 2)
    assert (consistency(first, second) > 1e-3).all()
    np.testing.assert_allclose(consistency(first, second), consistency(second, first), rtol=1e-6)


def test_the_consistency_loss_is_half_of_both_divergences() -> None:
    p, q = (np.asarray(jax.nn.softmax(logits_of(key))) for key in (0, 1))
    expected = 0.5 * (q * np.log(q / p) + p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(consistency(logits_of(0), logits_of(1)), expected, rtol=1e-4)


def test_no_gradient_of_the_consistency_loss_flows_into_its_targets() -> None:
    first, second = logits_of(0), logits_of(1)
    grads = jax.grad(lambda *passes: consistency(*passes).sum(), argnums=(0, 1))(first, second)
    # Of KL(constant ‖ p) by p's logits: p minus the constant.
    half = 0.5 * (jax.nn.softmax(first) - jax.nn.softmax(second))
    np.testing.assert_allclose(grads[0], half, rtol=0, atol=1e-6)
    np.testing.assert_allclose(grads[1], -half, rtol=0, atol=1e-6)


def refuse_to_pass() -> jax.Array:
    raise AssertionError("a second pass was made")


def test_no_second_pass_for_a_regression_nor_without_consistency() -> None:
    assert AdaMix().extra_losses(jnp.ones((4, 1)), refuse_to_pass) == 0
    assert AdaMix(consistency=False).extra_losses(logits_of(0), refuse_to_pass) == 0
    assert MAdaKron(consistency=False).extra_losses(logits_of(0), refuse_to_pass) == 0
    with pytest.raises(AssertionError, match="a second pass was made"):
        MAdaKron().extra_losses(logits_of(0), refuse_to_pass)
