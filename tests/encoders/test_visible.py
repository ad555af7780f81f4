"""Linen's own tools look into a model whose layers are `visible`."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.splice import Method, Site, Splice
from tests.encoders.architectures import BERT, MODERNBERT
from tests.encoders.test_bert import packed_pairs


class Watch(nn.Module):
    """Sows the mean of what passes."""

    @nn.compact
    def __call__(self, x: Float[Array, "rows seq d"], **_: Any) -> Float[Array, "rows seq d"]:
        self.sow("intermediates", "mean", x.mean())
        return x


@dataclasses.dataclass(frozen=True)
class Watching(Method):
    name: ClassVar[str] = "watching"

    def splices(self, config: EncoderConfig, dtype: Any = None) -> Mapping[Site, Splice]:
        return {Site.FFN_DENSE: Splice(functools.partial(Watch), label="watch")}


@pytest.mark.parametrize("config", [BERT, MODERNBERT], ids=lambda config: config.model_type)
def test_visible_layers_have_the_same_tree_and_the_same_results(config: EncoderConfig) -> None:
    hidden, visible = (SequenceClassifier(config, AdaKron((2, 2)), visible=visible) for visible in (False, True))
    inputs = packed_pairs(config)
    assert jax.tree.map(lambda x: x.shape, hidden.shapes()) == jax.tree.map(lambda x: x.shape, visible.shapes())
    params = jax.jit(hidden.init)(jax.random.key(0), inputs)
    results = [jax.jit(model.apply)(params, inputs) for model in (hidden, visible)]
    np.testing.assert_allclose(*results, rtol=0, atol=1e-5)


def test_a_value_that_an_adapter_sows_is_there_for_every_layer() -> None:
    model, inputs = SequenceClassifier(BERT, Watching(), visible=True), packed_pairs(BERT)
    params = model.init(jax.random.key(0), inputs)["params"]
    _, state = model.apply({"params": params}, inputs, mutable=["intermediates"])
    (sown,) = state["intermediates"]["encoder"]["layers"]["ffn"]["ffn_dense@watching"]["mean"]
    assert sown.shape == (BERT.num_layers,)


def test_intermediates_are_captured_and_modules_tabulated() -> None:
    model, inputs = SequenceClassifier(BERT, AdaKron((2, 2)), visible=True), packed_pairs(BERT)
    params = model.init(jax.random.key(0), inputs)["params"]
    _, state = model.apply({"params": params}, inputs, capture_intermediates=True)
    (context,) = state["intermediates"]["encoder"]["layers"]["attention"]["dense"]["__call__"]
    assert context.shape == (BERT.num_layers, 2, 16, BERT.hidden_size)
    shown = model.tabulate(jax.random.key(0), inputs, console_kwargs={"width": 300, "force_terminal": False})
    assert "encoder/layers/ffn/ffn_dense@adakron" in shown
