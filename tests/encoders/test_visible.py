"""Linen's own tools look into the model as it is."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.params import flatten
from adakron_jax.splice import Method, Site, Splice
from adakron_jax.testing import make_setup
from tests.encoders.test_bert import packed_pairs
from tests.support.architectures import BERT, MODERNBERT


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


def test_what_is_looked_into_computes_the_same_and_initial_values_are_those_of_fresh() -> None:
    for config in (dataclasses.replace(one, num_layers=2) for one in (BERT, MODERNBERT)):
        model, inputs = SequenceClassifier(config, AdaKron((2, 2))), packed_pairs(config)
        params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
        fresh = model.fresh(jax.random.key(0), lambda path: True)
        assert fresh.keys() == flatten(params).keys()
        for path, leaf in flatten(params).items():  # many layers at once round other last bits than one after another
            np.testing.assert_allclose(leaf, fresh[path], rtol=1e-6, err_msg=path)

        @jax.jit
        def logits(params: Any) -> Any:
            settings = {"deterministic": False, "rngs": {"dropout": jax.random.key(1)}}
            apply = functools.partial(model.apply, {"params": params}, inputs, **settings)  # noqa: B023
            return apply(), apply(mutable=["intermediates"])[0]

        np.testing.assert_allclose(*logits(params), rtol=0, atol=1e-5)


def test_a_value_that_an_adapter_sows_is_there_for_every_layer() -> None:
    (_, model, params), inputs = make_setup(Watching(), BERT), packed_pairs(BERT)
    _, state = model.apply({"params": params}, inputs, mutable=["intermediates"])
    layers = state["intermediates"]["encoder"]["layers"]
    assert list(layers) == [str(i) for i in range(BERT.num_layers)]
    assert all(layer["ffn"]["ffn_dense@watching"]["mean"][0].shape == () for layer in layers.values())


def test_intermediates_are_captured_and_modules_tabulated() -> None:
    (_, model, params), inputs = make_setup(AdaKron((2, 2)), BERT), packed_pairs(BERT)
    _, state = model.apply({"params": params}, inputs, capture_intermediates=True)
    (context,) = state["intermediates"]["encoder"]["layers"]["0"]["attention"]["dense"]["__call__"]
    assert context.shape == (2, 16, BERT.hidden_size)
    shown = model.tabulate(jax.random.key(0), inputs, console_kwargs={"width": 300, "force_terminal": False})
    assert all(f"encoder/layers/{i}/ffn/ffn_dense@adakron" in shown for i in range(BERT.num_layers))
