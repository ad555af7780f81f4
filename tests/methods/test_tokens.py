"""Every method under a head on tokens; no method is named here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.methods.registry import METHODS
from adakron_jax.params import merge_params, split_params
from adakron_jax.problems.tokens import Tokens
from adakron_jax.splice import is_trainable
from adakron_jax.testing import as_batch, make_setup
from tests.methods.test_contract import SMALL, wide_enough
from tests.support.methods import TELLING, nightly_but


@pytest.mark.parametrize("name", nightly_but(TELLING))
def test_packed_padded_and_micro_batches_give_one_loss_and_gradient(name: str) -> None:
    """The loss is the mean over the labelled tokens of the whole batch, wherever they are."""
    method = METHODS[name]()
    config = wide_enough(method, SMALL)
    setup = make_setup(method, config)
    model = setup.model.clone(reads="token")
    trainable, frozen = split_params(setup.params, is_trainable(method))

    @jax.jit
    def differentiate(tree, inputs, labels, weights):
        def loss_of(tree):
            logits = model.apply({"params": merge_params(tree, frozen)}, inputs)
            return jnp.sum(weights * Tokens.losses(logits, labels))

        return jax.value_and_grad(loss_of)(tree)

    def told(per_row: int, rows: slice):
        inputs, _, _ = as_batch(config, per_row)
        labelled = (inputs.segments > 0) & (inputs.tokens % 2 == 1)
        weights = labelled & jnp.zeros((4, 1), bool).at[rows].set(True)
        loss, grads = differentiate(trainable, inputs, inputs.tokens % 3, weights.astype(jnp.float32))
        return jax.tree.map(lambda x: x / labelled.sum(), (loss, grads))

    packed, alone = (told(per_row, slice(None)) for per_row in (2, 1))
    halves = jax.tree.map(jnp.add, told(1, slice(0, 1)), told(1, slice(1, 4)))
    for other in (alone, halves):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-5), packed, other)
