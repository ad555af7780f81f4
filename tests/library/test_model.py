"""A pretrained encoder with a method: optax on the whole tree, saving, loading, fusing, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file, save_file

import adakron_jax as ak
from adakron_jax import adapter
from adakron_jax.encoders.inputs import Packed
from adakron_jax.params import flatten
from adakron_jax.problems import Regression
from adakron_jax.splice import is_trainable
from adakron_jax.xla.precision import is_narrow

KEY = jax.random.key(0)
METHOD = ak.AdaKron((3, 2))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the tests' own checks of types, as users call it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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


def test_a_loaded_adapter_has_the_kernel_where_a_fresh_one_has_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adakron_jax.adapter.fuses", is_narrow)  # as on one GPU
    model, params = ak.from_pretrained(str(tiny), METHOD, dtype="bf16", key=KEY)
    ak.save_adapter(tmp_path, model, params, base=str(tiny))
    for dtype, expected in (("bf16", True), ("f32", False)):
        assert ak.load_adapter(tmp_path, dtype=dtype)[0].fused is expected
    assert model.fused


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
        ak.save_adapter(tmp_path / "a", model, params, labels=2)
    trainable, frozen = ak.split_params(params, METHOD)
    changed = ak.merge_params(trainable, jax.tree.map(lambda x: x + 1, frozen))
    with pytest.raises(ValueError, match="is frozen, and is not what .* has; accepted: the base's, or the method Full"):
        ak.save_adapter(tmp_path / "a", model, changed)
    assert not (tmp_path / "a").exists()


def test_an_adapter_of_another_encoder_is_refused_with_both_named(made: tuple[Any, Any], tiny: Path, tmp_path: Path):
    model, params = made
    ak.save_adapter(tmp_path / "adapter", model, params)
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
        ({"labels": "abc"}, "labels is 'abc'; accepted: a number, or a list of names"),
        ({"labels": ["a", 1]}, "labels hold 1; accepted: texts"),
        ({"problem": "ranking"}, "problem is 'ranking'; accepted: classification"),
        ({"pooling": "avg"}, "pooling is 'avg'; accepted: auto, pooler, first, mean"),
        ({"head": "wide"}, "head is 'wide'; accepted: own, linear"),
        ({"max_length": 10_000}, "max_length is 10000; accepted: 1 to "),
        ({"dtype": "fast"}, "dtype is 'fast'; accepted: auto, f32, bf16, or a floating type of JAX"),
        ({"dtype": np.int32}, "accepted: auto, f32, bf16"),
    ],
)
@pytest.mark.usefixtures("unchecked")
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


def test_pooling_is_what_the_folder_says_and_a_relative_folder_is_kept_absolute(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(tiny, tmp_path / "sentences")
    (tmp_path / "sentences/1_Pooling").mkdir()
    said = tmp_path / "sentences/1_Pooling/config.json"
    monkeypatch.chdir(tmp_path)
    for modes, pooling in (("mean_tokens", "mean"), ("cls_token", "first"), ("max_tokens", "pooler")):
        said.write_text(json.dumps({f"pooling_mode_{modes}": True}))
        model, params = ak.from_pretrained("./sentences", METHOD, key=KEY)
        assert (model.pooling, model.card.pooling, model.card.base) == (pooling, pooling, str(tmp_path / "sentences"))
    ak.save_adapter("adapter", model, params, base="sentences")
    monkeypatch.chdir("/")
    assert ak.load_adapter(tmp_path / "adapter")[0].card.base == str(tmp_path / "sentences")
    said.write_text("{")
    with pytest.raises(ValueError, match=f"{said}: "):
        ak.from_pretrained(str(tmp_path / "sentences"), METHOD, key=KEY)


@pytest.mark.parametrize("method", ["adakron", ak.AdaKron], ids=str)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_method_is_refused(tiny: Path, method: Any):
    with pytest.raises(ValueError, match=r"method is .*; accepted: a method, such as AdaKron\(\)"):
        ak.from_pretrained(str(tiny), method, key=KEY)


def test_a_precision_may_be_named(tiny: Path):
    model, _ = ak.from_pretrained(str(tiny), METHOD, key=KEY, dtype="bf16")
    assert model.dtype == jnp.bfloat16


PROBLEMS = {
    "classification": {"labels": ["no", "yes"]},
    "multilabel": {"labels": ["late", "rude"], "problem": "multilabel"},
    "regression": {"problem": Regression(mean=1.7e9, scale=20.0)},
}


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_model_carries_what_its_adapter_says_and_loading_then_saving_changes_no_byte(
    tiny: Path, tmp_path: Path, kind: str
):
    settings: dict[str, Any] = {"max_length": 24, "texts": ["review"], "pooling": "mean", **PROBLEMS[kind]}
    model, params = ak.from_pretrained(str(tiny), METHOD, **settings, key=KEY)
    ak.save_adapter(tmp_path / "first", model, params, task="reviews", scores={"accuracy": 0.1 + 0.2})
    card = adapter.read_card(tmp_path / "first" / "adapter.json")
    assert (card.problem, card.max_length, card.texts) == (model.card.problem, 24, ("review",))
    assert card.problem.unit == ((1.7e9, 20.0) if kind == "regression" else (0.0, 1.0))
    ak.save_adapter(tmp_path / "again", *ak.load_adapter(tmp_path / "first"))
    assert written(tmp_path / "again") == written(tmp_path / "first")


def test_what_is_said_when_saving_goes_before_what_the_model_carries(made: tuple[Any, Any], tmp_path: Path):
    ak.save_adapter(tmp_path / "a", *made, labels=["x", "y", "z"], problem="multilabel", max_length=9, texts="review")
    card = adapter.read_card(tmp_path / "a" / "adapter.json")
    assert (card.problem.labels, card.problem.name) == (("x", "y", "z"), "multilabel")
    assert (card.max_length, card.texts, card.task) == (9, ("review",), "")


def test_models_that_differ_in_what_they_carry_alone_share_what_is_compiled(made: tuple[Any, Any], tiny: Path):
    other, _ = ak.from_pretrained(str(tiny), METHOD, labels=["d", "e", "f"], key=KEY)
    assert (other, hash(other)) == (made[0], hash(made[0]))
    assert other.card.problem.labels == ("d", "e", "f")


def test_parameters_that_are_no_numbers_are_not_saved(made: tuple[Any, Any], tmp_path: Path):
    model, params = made
    trainable, frozen = ak.split_params(params, METHOD)
    trainable["classifier"]["bias"] = jnp.array([0.0, jnp.nan, 0.0])
    with pytest.raises(ValueError, match="classifier/bias: not finite; accepted: numbers"):
        ak.save_adapter(tmp_path / "a", model, ak.merge_params(trainable, frozen))
    assert not (tmp_path / "a").exists()


def test_a_tree_under_a_prefix_is_parted_like_the_tree_itself(made: tuple[Any, Any]):
    _, params = made
    plain, below = ak.split_params(params, METHOD), ak.split_params({"params": params}, METHOD)
    assert [flatten(tree).keys() for tree in below] == [{f"params/{path}" for path in flatten(tree)} for tree in plain]


def test_padding_on_the_left_changes_no_logit(made: tuple[Any, Any]):
    model, params = made
    ids = np.array([[0, 0, 2, 6, 3], [2, 7, 8, 9, 3]])
    left = ak.padded(ids, (ids > 0).astype(np.int32))
    right = ak.padded(np.array([[2, 6, 3, 0, 0], [2, 7, 8, 9, 3]]), np.array([[1, 1, 1, 0, 0], [1] * 5]))
    logits = [model.apply({"params": params}, inputs) for inputs in (left, right)]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"tokens": np.array([[2, 10_000, 3]])}, "tokens hold 10000; accepted: 0 to "),
        ({"tokens": np.array([[2, -1, 3]])}, "tokens hold -1; accepted: 0 to "),
        ({"positions": np.array([[0, 1, 900]])}, "positions hold 900; accepted: 0 to "),
        ({"token_types": np.array([[0, 5, 0]])}, "token_types hold 5; accepted: 0 to "),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_input_that_the_tables_do_not_hold_is_refused(made: tuple[Any, Any], changed: dict[str, Any], complaint: str):
    model, params = made
    inputs = ak.padded(np.array([[2, 7, 3]]), np.ones((1, 3), np.int32)).replace(**changed)
    with pytest.raises(ValueError, match=complaint):
        model.apply({"params": params}, inputs)


@pytest.mark.usefixtures("unchecked")
def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"attention_mask is of shape \(1, 2\); accepted: that of input_ids, \(1, 3\)"):
        ak.padded(np.array([[2, 7, 3]]), np.ones((1, 2), np.int32))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"factors": 48}, "method.factors is 48; accepted: a list of int"),
        ({"factors": [12.5]}, r"method.factors is \(12.5,\); accepted: a list of int"),
        ({"layers": [1, 2]}, r"method.layers is \[1, 2\]; accepted: all, or numbers like 6-11"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_method_s_field_of_another_type_is_refused(fields: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        ak.AdaKron(**fields)
    assert ak.AdaKron([12, 4]) == ak.AdaKron((12, 4))  # pyright: ignore[reportArgumentType]


def test_a_loss_is_the_mean_over_a_batch_s_examples_by_their_weights(tiny: Path, made: tuple[Any, Any]):
    model, params = made
    examples = ak.Tokenizer.from_pretrained(str(tiny)).encode(["so good", "so bad", "so"], 16, labels=[1, 0, 2])
    (batch,) = ak.pack(examples, 8, seed=None)
    logits = model.apply({"params": params}, batch.inputs)
    there = batch.weights > 0
    expected = optax.softmax_cross_entropy_with_integer_labels(logits[there], batch.labels[there]).mean()
    np.testing.assert_allclose(ak.loss(model, logits, batch), expected, rtol=1e-6)
    doubled = batch.replace(weights=2 * batch.weights)
    np.testing.assert_allclose(ak.loss(model, logits, doubled), expected, rtol=1e-6)


def test_a_loss_of_two_passes_takes_the_other_one(tiny: Path):
    model, params = ak.from_pretrained(str(tiny), ak.AdaMix(), key=KEY)
    (batch,) = ak.pack(ak.Tokenizer.from_pretrained(str(tiny)).encode(["so good"], 16, labels=[1]), 8)
    logits = model.apply({"params": params}, batch.inputs)
    with pytest.raises(ValueError, match="again is None, and adamix has consistency"):
        ak.loss(model, logits, batch)
    assert ak.loss(model, logits, batch, lambda: logits + jnp.eye(2)[None, :1]) > ak.loss(
        model, logits, batch, lambda: logits
    )
    with pytest.raises(ValueError, match="model carries no card"):
        ak.loss(model.clone(card=None), logits, batch, lambda: logits)
