"""AdaKron's own: the order of the Kronecker product, its counts, its fields. Parity is in test_oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.architectures.config import BERT_BASE
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.methods.adakron import KronAdapter, kron
from adakron_jax.methods.registry import make_method
from adakron_jax.params import budget
from adakron_jax.splice import is_trainable


def test_the_product_is_the_papers_y2_kron_y1() -> None:
    y1, y2 = np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0])
    np.testing.assert_array_equal(kron(jnp.asarray(y1), jnp.asarray(y2)), np.kron(y2, y1))
    np.testing.assert_array_equal(kron(jnp.asarray(y1), jnp.asarray(y2)), [10, 20, 30, 100, 200, 300])


@pytest.mark.parametrize("factors", [(6,), (3, 2), (3, 2, 2), (2, 2, 2, 2)])
def test_the_adapter_is_its_equation_for_any_number_of_factors(factors: tuple[int, ...]) -> None:
    adapter = KronAdapter(factors)
    h = jax.random.normal(jax.random.key(0), (4, 8))
    params = adapter.init(jax.random.key(1), h)["params"]
    z = np.ones((4, 1))
    for i in range(1, len(factors) + 1):
        down = params[f"down_{i}"]
        y = np.asarray(h) @ np.asarray(down["kernel"]) + np.asarray(down["bias"])
        z = np.stack([np.kron(new, old) for new, old in zip(y, z, strict=True)])
    hidden = np.asarray(jax.nn.gelu(jnp.asarray(z), approximate=False))
    expected = hidden @ np.asarray(params["up"]["kernel"]) + np.asarray(params["up"]["bias"]) + np.asarray(h)
    np.testing.assert_allclose(adapter.apply({"params": params}, h), expected, rtol=0, atol=1e-6)


def test_weights_start_normal_and_biases_zero_with_an_up_projection_that_is_not_zero() -> None:
    params = KronAdapter().init(jax.random.key(0), jnp.zeros((1, 768)))["params"]
    for name in ("down_1", "down_2", "up"):
        assert not params[name]["bias"].any()
        assert 0.018 < float(params[name]["kernel"].std()) < 0.022


@pytest.mark.parametrize(("factors", "count"), [((12, 4), 599_232), ((8, 4), 414_864), ((48,), 894_528)])
def test_counts_on_bert_base(factors: tuple[int, ...], count: int) -> None:
    method = AdaKron(factors)
    assert budget(SequenceClassifier(BERT_BASE, method).shapes(), is_trainable(method))["method"] == count


def test_fields_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"factors is \(12, 0\); accepted: one or more whole numbers of at least 1"):
        AdaKron((12, 0))
    with pytest.raises(ValueError, match=r"factors is \(\)"):
        AdaKron(())
    with pytest.raises(ValueError, match=r"method.place is 'nowhere'; accepted: sequential, pfeiffer"):
        make_method("adakron", {"place": "nowhere"})
