"""A method in some layers only: its parameters, gradients, names and fused form are of these layers."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter
from adakron_jax.architectures.paths import layer_of
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, AdaMix, Houlsby, LoRA, Prefix
from adakron_jax.methods.registry import METHODS, fuse
from adakron_jax.params import count, flatten, merge_params, split_params, unflatten
from adakron_jax.splice import Method, is_added, is_trainable
from tests.encoders.test_bert import BERT, packed_pairs
from tests.support.architectures import NARROW

CONFIG = dataclasses.replace(BERT, hidden_size=128, num_layers=4, initializer_range=0.1)
INPUTS = packed_pairs(CONFIG)


def leaves_of(method: Method, seed: int = 0) -> dict[str, np.ndarray]:
    """Any numbers for every leaf; the same for the same path and shape."""
    shapes = flatten(SequenceClassifier(CONFIG, method).shapes())
    rng = np.random.default_rng(seed)
    return {path: rng.normal(0, 0.1, leaf.shape).astype(np.float32) for path, leaf in sorted(shapes.items())}


def logits(method: Method, leaves: dict[str, Any], inputs: Packed = INPUTS, **settings: Any) -> jax.Array:
    model = SequenceClassifier(CONFIG, method, **settings)
    return jax.jit(model.apply)({"params": unflatten(leaves)}, inputs)


@pytest.mark.parametrize("name", METHODS)
def test_added_leaves_are_of_the_chosen_layers_alone_or_the_method_refuses(name: str) -> None:
    everywhere = METHODS[name](**NARROW.get(name, {}))
    method = dataclasses.replace(everywhere, layers="1-2")
    whole = flatten(SequenceClassifier(CONFIG, everywhere).shapes())
    if not any(map(is_added, whole)) or any(everywhere.trains(path) and not is_added(path) for path in whole):
        with pytest.raises(ValueError, match=f"method.layers is '1-2'; accepted: all, as {re.escape(name)} trains"):
            SequenceClassifier(CONFIG, method).shapes()
        return
    shapes = flatten(SequenceClassifier(CONFIG, method).shapes())
    assert shapes.keys() == {path for path in whole if not is_added(path) or layer_of(path) in (None, 1, 2)}
    shared = [path for path in shapes if "shared@" in path]
    assert all(shapes[path].shape == whole[path].shape for path in shapes.keys() - set(shared))


@pytest.mark.parametrize(
    ("method", "silent", "layers"),
    [(AdaKron((3, 2)), "up", "0,2-3"), (LoRA(r=2), "lora_b", "3-3"), (LoRA(r=2), "lora_b", "0")],
)
def test_it_computes_as_with_modules_that_change_nothing_in_the_others(
    method: Method, silent: str, layers: str
) -> None:
    some = dataclasses.replace(method, layers=layers)
    chosen = (None, *some.layer_numbers(CONFIG))
    leaves = leaves_of(method)
    for path, leaf in leaves.items():
        if is_added(path) and silent in path and layer_of(path) not in chosen:
            leaf[...] = 0
    of_some = {path: leaf for path, leaf in leaves.items() if not is_added(path) or layer_of(path) in chosen}
    np.testing.assert_allclose(logits(some, of_some), logits(method, leaves), rtol=0, atol=1e-5)


def test_scales_are_of_the_chosen_layers_in_turn() -> None:
    method = LoRA(r=2, scales=(2.0, 0.5, -1.0, 3.0), layers="0,2")
    leaves = leaves_of(method)
    everywhere = dataclasses.replace(method, scales=(1.0,) * 4)
    scaled = dict(leaves)
    modules = itertools.product((0, 2), ("query", "value"))
    for (layer, target), scale in zip(modules, method.scales, strict=True):
        path = f"encoder/layers/{layer}/attention/{target}@lora/lora_b"
        scaled[path] = scale * scaled[path]
    np.testing.assert_allclose(logits(method, leaves), logits(everywhere, scaled), rtol=0, atol=1e-5)


def test_nothing_is_differentiated_below_the_first_chosen_layer() -> None:
    def flops(layers: str) -> float:
        method = AdaKron((3, 2), layers=layers)
        model = SequenceClassifier(CONFIG, method)
        trainable, frozen = split_params(unflatten(leaves_of(method)), is_trainable(method))

        def loss(tree: Any) -> jax.Array:
            return jnp.sum(model.apply({"params": merge_params(tree, frozen)}, INPUTS) ** 2)

        analysis: Any = jax.jit(jax.grad(loss)).lower(trainable).compile().cost_analysis()
        return analysis["flops"]

    # A layer forward, and backward to its input: of four layers in turn 1 + 3, and 4 + 3.
    assert flops("3") < 0.7 * flops("all")


def test_names_in_the_portable_adapter_keep_the_numbers_of_the_layers(tmp_path: Path) -> None:
    method = Prefix(length=2, mlp=False, layers="1-2")
    names = adapter.canonical([path for path in leaves_of(method) if is_added(path)], method, CONFIG)
    assert sorted(names.values()) == [f"layer.{i}.prefix.{leaf}" for i in (1, 2) for leaf in ("key", "value")]
    added = {path: leaf for path, leaf in leaves_of(method).items() if is_added(path)}
    tensors = adapter.to_tensors(added, method, CONFIG)
    back = adapter.from_tensors(tensors, list(added), method, CONFIG)
    jax.tree.map(np.testing.assert_array_equal, back, added)


@pytest.mark.parametrize("method", [LoRA(r=2), AdaMix(r=3), Prefix(length=2, mid=4)], ids=lambda method: method.name)
def test_the_fused_form_computes_the_same(method: Method) -> None:
    method = dataclasses.replace(method, layers="1-2")
    leaves = leaves_of(method)
    simpler, fused = fuse(method, leaves, CONFIG)
    np.testing.assert_allclose(logits(simpler, fused), logits(method, leaves), rtol=0, atol=1e-5)
    assert simpler.layers == ("all" if simpler.name == "head" else "1-2")
    assert count(unflatten(fused)) <= count(unflatten(leaves))


@pytest.mark.parametrize("layers", ["", "4", "2-1", "1-4", "-1", "one", "1-2-3", "1,", "0,4"])
def test_layers_that_are_not_there_are_refused(layers: str) -> None:
    complaint = re.escape(f"method.layers is {layers!r}; accepted: all, or numbers like 6-11 or 0-3,8 within 0-3")
    with pytest.raises(ValueError, match=complaint):
        SequenceClassifier(CONFIG, AdaKron(layers=layers)).shapes()


def test_a_form_of_a_method_that_leaves_the_layers_alone_may_choose() -> None:
    assert Houlsby(8, "adapterhub", layers="2-3").layer_numbers(CONFIG) == (2, 3)
