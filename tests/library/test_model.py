"""A pretrained encoder with a method: optax on the whole tree, saving, loading, fusing, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

import adakron_jax as ak
from adakron_jax.encoders.inputs import Packed
from adakron_jax.params import flatten
from adakron_jax.splice import is_trainable

KEY = jax.random.key(0)
METHOD = ak.AdaKron((3, 2))


def batch() -> Packed:
    ids = np.array([[2, 7, 8, 9, 3], [2, 6, 3, 0, 0]])
    return ak.padded(ids, (ids > 0).astype(np.int32))


@pytest.fixture(scope="module")
def made(tiny: Path) -> tuple[Any, Any]:
    return ak.from_pretrained(str(tiny), METHOD, labels=["a", "b", "c"], key=KEY)


def test_token_types_are_0_by_default():
    ids, mask = np.array([[2, 5, 3, 0]]), np.array([[1, 1, 1, 0]])
    given, default = ak.padded(ids, mask, np.zeros_like(ids)), ak.padded(ids, mask)
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(default), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_the_adapter_alone_takes_any_leading_axes(leading: tuple[int, ...]):
    adapter, h = ak.KronAdapter((4, 2)), jax.random.normal(KEY, (*leading, 8))
    variables = adapter.init(KEY, h)
    flat = adapter.apply(variables, h.reshape(-1, 8))
    np.testing.assert_allclose(adapter.apply(variables, h), np.reshape(flat, h.shape), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factors", [(), (0,), (3, -1)])
def test_factors_of_nothing_are_refused(factors: tuple[int, ...]):
    with pytest.raises(ValueError, match="method.factors is .*accepted: one or more whole numbers of at least 1"):
        ak.KronAdapter(factors)


def test_a_method_and_its_rule_part_the_tree_alike(made: tuple[Any, Any]):
    _, params = made
    by_method, by_rule = ak.split_params(params, METHOD), ak.split_params(params, is_trainable(METHOD))
    for one, other in zip(by_method, by_rule, strict=True):
        assert flatten(one).keys() == flatten(other).keys()
    labels = flatten(ak.param_labels(params, METHOD))
    assert {path for path, label in labels.items() if label == "trainable"} == flatten(by_method[0]).keys()
    assert {path for path, label in labels.items() if label == "frozen"} == flatten(by_method[1]).keys()


@pytest.mark.parametrize("way", ["multi_transform", "masked"])
def test_optax_over_the_whole_tree_moves_what_trains_as_the_small_tree_does(made: tuple[Any, Any], way: str):
    model, params = made
    inputs, targets = batch(), jnp.array([0, 2])

    def loss_fn(params: Any) -> Any:
        logits = model.apply({"params": params}, inputs)[:, 0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    labels = ak.param_labels(params, METHOD)
    whole = optax.multi_transform({"trainable": optax.adamw(1e-2), "frozen": optax.set_to_zero()}, labels)
    if way == "masked":
        trains, rests = (jax.tree.map(of.__eq__, labels) for of in ("trainable", "frozen"))
        whole = optax.chain(optax.masked(optax.adamw(1e-2), trains), optax.masked(optax.set_to_zero(), rests))
    trainable, frozen = ak.split_params(params, METHOD)

    grads = jax.jit(jax.grad(loss_fn))(params)
    small_grads = jax.jit(jax.grad(lambda tree: loss_fn(ak.merge_params(tree, frozen))))(trainable)
    for path, grad in flatten(small_grads).items():
        np.testing.assert_allclose(flatten(grads)[path], grad, rtol=0, atol=1e-6, err_msg=path)

    def run(tree: Any, grads: Any, optimizer: Any) -> Any:
        state = optimizer.init(tree)
        for _ in range(3):
            updates, state = optimizer.update(grads, state, tree)
            tree = optax.apply_updates(tree, updates)
        return tree

    small = run(trainable, ak.split_params(grads, METHOD)[0], optax.adamw(1e-2))
    large, still = ak.split_params(run(params, grads, whole), METHOD)
    for path, leaf in flatten(small).items():
        np.testing.assert_array_equal(flatten(large)[path], leaf, err_msg=path)
        assert not np.array_equal(leaf, flatten(trainable)[path]), path
    for path, leaf in flatten(frozen).items():
        np.testing.assert_array_equal(flatten(still)[path], leaf, err_msg=path)


@pytest.mark.parametrize("method", [METHOD, ak.VeRA(r=4), ak.BitFit()], ids=str)
def test_what_is_saved_is_loaded_with_the_same_bits(method: Any, tiny: Path, tmp_path: Path):
    settings: dict[str, Any] = {"labels": ["a", "b"], "problem": "multilabel"}
    model, params = ak.from_pretrained(str(tiny), method, **settings, pooling="mean", head="tanh", key=KEY)
    params = ak.merge_params(
        *(
            tree if frozen else jax.tree.map(lambda x: x + 1, tree)
            for frozen, tree in enumerate(ak.split_params(params, method))
        )
    )
    ak.save_adapter(tmp_path / "adapter", model, params, base=str(tiny), **settings, texts=["review"])
    again, loaded = ak.load_adapter(tmp_path)
    assert (again.method, again.pooling, again.head, again.num_labels) == (method, "mean", "tanh", 2)
    assert flatten(loaded).keys() == flatten(params).keys()
    for path, leaf in flatten(params).items():
        np.testing.assert_array_equal(flatten(loaded)[path], leaf, err_msg=path)


def test_a_changed_frozen_parameter_and_a_wrong_number_of_labels_are_refused(
    made: tuple[Any, Any], tiny: Path, tmp_path: Path
):
    model, params = made
    with pytest.raises(ValueError, match="labels is 2, and the model has 3"):
        ak.save_adapter(tmp_path / "a", model, params, base=str(tiny))
    trainable, frozen = ak.split_params(params, METHOD)
    changed = ak.merge_params(trainable, jax.tree.map(lambda x: x + 1, frozen))
    with pytest.raises(ValueError, match="is frozen, and is not what .* has; accepted: the base's, or the method Full"):
        ak.save_adapter(tmp_path / "a", model, changed, base=str(tiny), labels=3)
    assert not (tmp_path / "a").exists()


def test_an_adapter_of_another_encoder_is_refused_with_both_named(made: tuple[Any, Any], tiny: Path, tmp_path: Path):
    model, params = made
    ak.save_adapter(tmp_path / "adapter", model, params, base=str(tiny), labels=3)
    shutil.copytree(tiny, tmp_path / "other")
    weights = tmp_path / "other" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match=f"trained on {tiny} .*not on {tmp_path / 'other'}, whose fingerprint is"):
        ak.load_adapter(tmp_path / "adapter", str(tmp_path / "other"))


def test_a_fused_model_computes_the_same_and_what_does_not_fuse_is_named(made: tuple[Any, Any], tiny: Path):
    model, params = ak.from_pretrained(str(tiny), ak.LoRA(r=2), key=KEY)
    params = jax.tree.map(lambda x: x + 0.01, params)
    plain, fused = ak.fuse(model, params)
    assert plain.method == ak.Head()
    expected = model.apply({"params": params}, batch())
    np.testing.assert_allclose(plain.apply({"params": fused}, batch()), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="method adakron cannot be fused; accepted: .*lora"):
        ak.fuse(*made)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"labels": 0}, "labels is 0; accepted: at least 1, or names"),
        ({"labels": ["a", "a"]}, "accepted: every label once"),
        ({"labels": 2, "problem": "regression"}, "labels of a regression are 2; accepted: 1"),
        ({"problem": "ranking"}, "problem is 'ranking'; accepted: classification"),
    ],
)
def test_labels_that_are_none_are_refused(tiny: Path, settings: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        ak.from_pretrained(str(tiny), METHOD, **settings, key=KEY)


def test_an_encoder_without_a_pooler_is_read_without_one_or_gets_a_new_one_that_trains(tiny: Path, tmp_path: Path):
    folder = tmp_path / "headless"
    shutil.copytree(tiny, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: x for name, x in tensors.items() if "pooler" not in name}, folder / "model.safetensors")
    for pooling in ("mean", "first"):  # a warning would fail the test
        model, params = ak.from_pretrained(str(folder), METHOD, pooling=pooling, key=KEY)
        assert (model.pooling, model.head, "pooler" in params) == (pooling, "own", False)
    with pytest.warns(UserWarning, match="headless has no pooler: a new one trains, as the first dense of the head"):
        model, params = ak.from_pretrained(str(folder), METHOD, key=KEY)
    assert "classifier/dense/kernel" in flatten(ak.split_params(params, METHOD)[0])
    ak.save_adapter(tmp_path / "adapter", model, params, base=str(folder))
    again, loaded = ak.load_adapter(tmp_path / "adapter")
    logits = [model.apply({"params": tree}, batch()) for model, tree in ((model, params), (again, loaded))]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-6)
