"""The optimiser, against numbers worked out by hand and in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adakron_jax.params import flatten, unflatten
from train.engine.steps.optim import MAX_GRAD_NORM, adamw, decays, linear_schedule
from train.engine.steps.step import init_state

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
RATE, DECAY = 0.25, 0.5
# Leaf -> whether it decays.
MASK = {
    "encoder/embeddings/word/embedding": True,
    "encoder/embeddings/norm/scale": False,
    "encoder/embeddings/norm/bias": False,
    "encoder/layers/1/attention/query/kernel": True,
    "encoder/layers/1/attention/query/bias": False,
    "encoder/layers/1/attention_norm/scale": False,
    "encoder/layers/1/ffn_norm/bias": False,
    "encoder/layers/1/ffn/ffn_dense@adakron/up/kernel": True,
    "encoder/layers/1/ffn/ffn_dense@adakron/up/bias": False,
    "pooler/kernel": True,
    "classifier/out_proj/kernel": True,
    "classifier/out_proj/bias": False,
}
Leaves = dict[str, np.ndarray]


def leaves(seed: int, norm: float | None = None) -> Leaves:
    """A value per leaf of `MASK`, of the given norm over all of them."""
    values = {path: np.random.default_rng([seed, i]).standard_normal((2, 3)) for i, path in enumerate(MASK)}
    scale = 1 if norm is None else norm / np.sqrt(sum((value**2).sum() for value in values.values()))
    return {path: value * scale for path, value in values.items()}


def tree(values: Leaves) -> Any:
    return unflatten({path: jnp.asarray(value, jnp.float32) for path, value in values.items()})


def ours(params: Leaves, grads: list[Leaves], rates: list[float]) -> tuple[Leaves, Any]:
    optimizer = adamw(weight_decay=DECAY)
    state, now = optimizer.init(tree(params)), tree(params)
    for grad, rate in zip(grads, rates, strict=True):
        updates, state = optimizer.update(tree(grad), state, now)
        now = optax.apply_updates(now, optax.tree.scale(rate, updates))
    return {path: np.asarray(value) for path, value in flatten(now).items()}, state


def by_hand(params: Leaves, grads: list[Leaves], rates: list[float]) -> Leaves:
    """AdamW as its paper writes it, over gradients that are already as they should be."""
    after = {}
    for path, w in params.items():
        m = v = np.zeros_like(w)
        for t, (grad, rate) in enumerate(zip(grads, rates, strict=True), start=1):
            m = BETA_1 * m + (1 - BETA_1) * grad[path]
            v = BETA_2 * v + (1 - BETA_2) * grad[path] ** 2
            step = (m / (1 - BETA_1**t)) / (np.sqrt(v / (1 - BETA_2**t)) + EPSILON)
            w = w - rate * (step + DECAY * w * MASK[path])
        after[path] = w
    return after


def assert_same(found: Leaves, expected: Leaves):
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=0, atol=2e-5, err_msg=path)


def scaled(values: Leaves, factor: float) -> Leaves:
    return {path: value * factor for path, value in values.items()}


@pytest.mark.parametrize(
    ("steps", "ratio", "expected"),
    [
        (10, 0.25, [0, 1 / 3, 2 / 3, 1, 6 / 7, 5 / 7, 4 / 7, 3 / 7, 2 / 7, 1 / 7, 0]),
        (10, 0.2, [0, 1 / 2, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0]),
        (5, 0.06, [0, 1, 3 / 4, 2 / 4, 1 / 4, 0]),
        (4, 1.0, [0, 1 / 4, 2 / 4, 3 / 4, 0]),
        (1, 0.06, [0, 0]),
    ],
)
def test_the_rate_rises_from_0_to_its_peak_and_falls_to_0(steps: int, ratio: float, expected: list[float]):
    schedule = linear_schedule(2e-3, steps, ratio)
    np.testing.assert_allclose([schedule(step) for step in range(steps + 1)], np.multiply(2e-3, expected), rtol=1e-6)


def test_the_rate_stays_0_after_the_last_step():
    schedule = linear_schedule(1.0, 10, 0.2)
    assert [float(schedule(step)) for step in (10, 11, 1000)] == [0, 0, 0]


def test_without_warm_up_the_rate_falls_from_its_peak_at_the_first_step():
    schedule = linear_schedule(1.0, 4, 0.0)
    np.testing.assert_allclose([schedule(step) for step in range(5)], [1, 3 / 4, 2 / 4, 1 / 4, 0], rtol=1e-6)


def test_the_rate_of_a_traced_step_is_that_of_a_number():
    schedule = linear_schedule(0.1, 10, 0.25)
    rates = [schedule(jnp.asarray(step, jnp.int32)) for step in range(11)]
    np.testing.assert_allclose(rates, [schedule(step) for step in range(11)], rtol=1e-6)


def test_biases_and_layer_norms_do_not_decay():
    assert flatten(decays(tree(leaves(0)))) == MASK


def test_a_run_s_first_state_is_the_optimizer_s_own():
    trainable, optimizer = {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}, adamw(0.1)
    state = init_state(trainable, optimizer, linear_schedule(1e-3, 10, 0.1), seed=7)
    for leaf, expected in zip(
        jax.tree.leaves(state.opt_state), jax.tree.leaves(optimizer.init(trainable)), strict=True
    ):
        assert leaf.dtype == expected.dtype
        np.testing.assert_array_equal(leaf, expected)


def test_a_step_is_adamw_s():
    params, grad = leaves(0), leaves(1, norm=0.5)
    found, _ = ours(params, [grad], [RATE])
    assert_same(found, by_hand(params, [grad], [RATE]))


def test_updates_are_for_a_rate_of_1():
    params, grads, rates = leaves(0), [leaves(i, norm=0.5) for i in (1, 2, 3)], [0.0, 0.5, 0.25]
    found, _ = ours(params, grads, rates)
    assert_same(found, by_hand(params, grads, rates))


@pytest.mark.parametrize(("norm", "factor"), [(10.0, 0.1), (1.25, 0.8), (1.0, 1.0), (0.01, 1.0)])
def test_gradients_are_clipped_by_the_norm_over_all_leaves(norm: float, factor: float):
    grad = leaves(1, norm)
    _, state = ours(leaves(0), [grad], [RATE])
    moments = {path: np.asarray(m) for path, m in flatten(optax.tree_utils.tree_get(state, "mu")).items()}
    assert_same(moments, scaled(grad, factor * (1 - BETA_1)))


def test_clipping_comes_before_adam():
    params, large, small = leaves(0), leaves(1, norm=10.0), leaves(2, norm=0.5)
    found, _ = ours(params, [large, small], [RATE, RATE])
    assert_same(found, by_hand(params, [scaled(large, MAX_GRAD_NORM / 10), small], [RATE, RATE]))
