"""What starts from the encoder's own kernels computes what the encoder does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import DoRA, Head, PiSSA
from adakron_jax.methods.arithmetic import updated
from adakron_jax.methods.updates.lora import LoRA
from adakron_jax.params import flatten
from tests.encoders.test_bert import packed_pairs
from tests.methods.test_fuse import random_leaves
from tests.support.architectures import BERT, MODERNBERT


@pytest.mark.parametrize("config", [BERT, pytest.param(MODERNBERT, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    "method", [DoRA(r=4), PiSSA(r=4, alpha=6.0), PiSSA(("key", "ffn_dense"), r=3, layers="1")], ids=repr
)
def test_a_new_adapter_changes_nothing(method: LoRA, config) -> None:
    plain, model = (SequenceClassifier(config, m) for m in (Head(), method))
    whole = random_leaves(plain.shapes())
    base = {path: leaf for path, leaf in whole.items() if path in pretrained.table(config)}
    fresh = model.start(jax.random.key(0), base)
    head = {path: leaf for path, leaf in whole.items() if path not in base}
    params = model.assemble(base, fresh | head)
    assert flatten(params).keys() - whole.keys() == {path for path in fresh if "@" in path}
    logits, expected = (
        jax.jit(lambda params, model=model: model.apply({"params": params}, packed_pairs(config)))(params)
        for model, params in ((model, params), (plain, plain.assemble(base, head)))
    )
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)


def test_what_pissa_takes_from_a_kernel_is_kept_to_the_last_digit_of_float64() -> None:
    kernel = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    leaves = PiSSA(r=5).of_kernel(kernel, 2.0)
    a, b = (leaves[name].sum(axis=0, dtype=np.float64) for name in ("principal_a", "principal_b"))
    left, singular, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(a @ b, (left[:, :5] * singular[:5]) @ right[:5], rtol=0, atol=1e-13)
    np.testing.assert_allclose(2 * leaves["lora_a"] @ leaves["lora_b"], a @ b, rtol=0, atol=1e-5)


def test_a_small_update_is_not_lost_in_a_narrow_sum() -> None:
    x, kernel = jnp.ones((1, 8), jnp.bfloat16), jnp.ones((8, 4), jnp.bfloat16)
    y = jnp.zeros((1, 4), jnp.bfloat16)
    changed = updated(y, x, jnp.full((8, 4), 1e-3), {"kernel": kernel}, jnp.bfloat16)
    np.testing.assert_allclose(changed, 8e-3, rtol=1e-2)
    of_both = updated(y.astype(jnp.float32), x.astype(jnp.float32), jnp.full((8, 4), 1e-3), {"kernel": kernel}, None)
    np.testing.assert_allclose(of_both, 8.008, rtol=1e-6)
