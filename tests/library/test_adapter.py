"""The portable adapter: what is saved comes back, and nothing else is taken for it."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from safetensors.numpy import save as to_bytes

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.io.files import write_whole
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import METHODS
from adakron_jax.params import flatten, graft, unflatten
from adakron_jax.problems import Problem, make
from adakron_jax.splice import Method
from tests.library.test_params import TINY_BERT
from tests.test_oracles import CASES, FOLDER, tensors_of
from tests.test_oracles import METHODS as CASE_METHODS

BERT = TINY_BERT
CARD = Card(
    method=AdaKron((3, 2)),
    task="rte",
    problem=make("classification", ("entailment", "not_entailment")),
    base="acme/tiny-bert",
    fingerprint="0123456789abcdef",
    encoder=BERT,
    scores={"accuracy": 0.1 + 0.2, "f1": 1e-17},
    max_length=3,
)
Leaves = dict[str, np.ndarray]


@functools.cache
def shapes_of(method: Method, encoder: EncoderConfig, problem: Problem) -> Any:
    return adapter.portable_shapes(dataclasses.replace(CARD, method=method, encoder=encoder, problem=problem))


def random_tree(card: Card) -> dict[str, Any]:
    """What the card's method trains, in random bits: NaN, infinities and negative zeros among them."""
    rng = np.random.default_rng(0)
    shapes = shapes_of(card.method, card.encoder, card.problem)
    return jax.tree.map(lambda leaf: rng.integers(0, 2**32, leaf.shape, np.uint32).view(np.float32), shapes)


def assert_same_bits(found: Any, expected: Any):
    found, expected = flatten(found), flatten(expected)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path].view(np.uint32), np.asarray(leaf).view(np.uint32), err_msg=path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of `CARD` with random values."""
    adapter.save(tmp_path / "adapter", random_tree(CARD), CARD)
    return tmp_path / "adapter"


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_any_method_learned_comes_back_bit_for_bit(name: str, tmp_path: Path):
    wide = dataclasses.replace(BERT, hidden_size=256)  # enough for every method's default fields
    card = dataclasses.replace(CARD, method=METHODS[name](), encoder=wide)
    tree = random_tree(card)
    adapter.save(tmp_path, tree, card)
    found, found_card = adapter.load(tmp_path)
    assert found_card == card
    assert_same_bits(found, tree)


@pytest.mark.parametrize(
    "method", [AdaKron((3, 2, 2)), AdaKron((5,)), AdaKron((2, 3), "pfeiffer")], ids=["three", "one", "pfeiffer"]
)
def test_a_method_s_fields_travel(method: Method, tmp_path: Path):
    card = dataclasses.replace(CARD, method=method)
    adapter.save(tmp_path, tree := random_tree(card), card)
    found, found_card = adapter.load(tmp_path)
    assert found_card.method == method
    assert_same_bits(found, tree)


@pytest.mark.parametrize(
    ("problem", "outputs"),
    [
        (make("regression", mean=2.5, scale=0.1), 1),
        (make("classification", ("no", "yes")), 2),
        (make("multilabel", ("e", "n", "ç")), 3),
    ],
)
def test_the_head_and_what_it_predicts_travel(problem: Problem, outputs: int, tmp_path: Path):
    card = dataclasses.replace(CARD, problem=problem)
    adapter.save(tmp_path, tree := random_tree(card), card)
    found, found_card = adapter.load(tmp_path)
    assert found_card.problem == problem
    assert found["classifier"]["kernel"].shape == (4, outputs)
    assert_same_bits(found["classifier"], tree["classifier"])


def test_the_folder_holds_two_files_that_say_what_they_are(saved: Path):
    assert sorted(path.name for path in saved.iterdir()) == ["adapter.json", "adapter.safetensors"]
    said = json.loads((saved / "adapter.json").read_text())
    assert said == {
        "format": 2,
        "method": {"name": "adakron", "layers": "all", "factors": [3, 2], "place": "sequential"},
        "task": "rte",
        "problem": "classification",
        "labels": ["entailment", "not_entailment"],
        "targets": {"mean": 0.0, "scale": 1.0},
        "pooling": "pooler",
        "head": "own",
        "max_length": 3,
        "texts": [],
        "label": [],
        "base": "acme/tiny-bert",
        "fingerprint": "0123456789abcdef",
        "encoder": dataclasses.asdict(BERT),
        "scores": {"accuracy": 0.1 + 0.2, "f1": 1e-17},
    }
    shapes = {name: tensor.shape for name, tensor in load_file(saved / "adapter.safetensors").items()}
    layer = {"down_1.kernel": (4, 3), "down_1.bias": (3,), "down_2.kernel": (4, 2), "down_2.bias": (2,)}
    layer |= {"up.kernel": (6, 4), "up.bias": (4,)}
    parts = {f"layer.{i}.adakron.{leaf}": shape for i in (0, 1) for leaf, shape in layer.items()}
    assert shapes == parts | {"classifier.kernel": (4, 2), "classifier.bias": (2,)}


def test_saving_again_replaces_both_files(saved: Path):
    card = dataclasses.replace(CARD, method=AdaKron((2,)), task="mrpc")
    adapter.save(saved, tree := random_tree(card), card)
    found, found_card = adapter.load(saved)
    assert found_card == card
    assert_same_bits(found, tree)


def test_an_adapter_replaced_between_the_readings_of_its_files_is_no_adapter(
    saved: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a server may meet it; the two adapters differ in the names of their labels alone."""
    other = dataclasses.replace(CARD, problem=make("classification", ("this", "that")))
    read = adapter.read_described

    def after_the_swap(path: Path) -> Any:
        adapter.save(saved, random_tree(other), other)
        return read(path)

    monkeypatch.setattr(adapter, "read_described", after_the_swap)
    with pytest.raises(ValueError, match=r"adapter\.json is not as it was written"):
        adapter.load(saved)


@pytest.mark.parametrize("name", CASES)
def test_the_authors_adapters_load_and_have_the_canonical_names(name: str):
    folder = FOLDER / name
    said = json.loads((folder / "case.json").read_text())
    encoder = EncoderConfig.from_folder(folder)
    method = CASE_METHODS[said["method"]](said["hyperparameters"], encoder.hidden_size)
    tags = ("O", "B-a", "I-a", "B-b", "I-b")
    of_tokens, count = said.get("problem") == "tokens", said["num_labels"]
    problem = make("tokens", tags[:count]) if of_tokens else make("classification", tuple(map(str, range(count))))
    card = dataclasses.replace(CARD, method=method, problem=problem, encoder=encoder)
    shapes = flatten(adapter.portable_shapes(card))
    names = adapter.canonical(list(shapes), method, card.encoder).values()
    tensors = tensors_of(folder, method, encoder)
    frozen = tensors.keys() - set(said["trainable"])
    assert sorted(names) == sorted([*said["trainable"], *frozen])

    leaves = adapter.from_tensors(tensors, list(shapes), method, card.encoder)
    graft(unflatten({path: shapes[path] for path in leaves}), leaves)
    again = adapter.to_tensors(leaves, method, card.encoder)
    assert again.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(again[key], tensor, err_msg=key)


def drop(*ends: str) -> Callable[[Leaves], Leaves]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(ends)}


def put(name: str, *shape: int) -> Callable[[Leaves], Leaves]:
    return lambda tensors: tensors | {name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (drop("layer.1.adakron.up.bias"), "missing encoder/layers/1/.*@adakron/up/bias"),
        (drop("adakron.up.bias"), "missing .*@adakron/up/bias"),
        (drop("classifier.bias"), "missing classifier/bias"),
        (put("layer.2.adakron.up.bias", 4), "unexpected layer.2.adakron.up.bias"),
        (put("bert.pooler.dense.bias", 4), "unexpected bert.pooler.dense.bias"),
        (put("classifier.bias", 3), r"misshapen classifier/bias \(3,\), expected \(2,\)"),
        (put("layer.1.adakron.up.bias", 5), r"misshapen encoder/layers/1/.*@adakron/up/bias \(5,\)"),
    ],
    ids=[
        *("a layer removed", "a leaf removed", "the head removed", "a layer added", "a base tensor added"),
        *("a head of other shape", "a layer of other shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named_with_their_file(
    saved: Path, change: Callable[[Leaves], Leaves], complaint: str
):
    path = saved / "adapter.safetensors"
    save_file(change(load_file(path)), path)
    with pytest.raises(ValueError, match=f"adapter.safetensors: .*{complaint}") as refusal:
        adapter.load(saved)
    assert str(refusal.value).startswith(str(saved))


def test_a_tree_that_the_caller_does_not_expect_is_refused(saved: Path):
    expected = shapes_of(CARD.method, BERT, make("classification", ("a", "b", "c")))
    with pytest.raises(ValueError, match=r"adapter.safetensors: .*misshapen classifier/bias \(2,\), expected \(3,\)"):
        adapter.load(saved, expected)


@pytest.mark.parametrize("file", ["adapter.json", "adapter.safetensors"])
def test_a_missing_or_damaged_file_is_named(saved: Path, file: str):
    path = saved / file
    path.write_bytes(path.read_bytes()[:-1].rstrip(b"}"))
    with pytest.raises(ValueError, match=f"{file}: ."):
        adapter.load(saved)
    path.unlink()
    with pytest.raises(ValueError, match=f"{file}: "):
        adapter.load(saved)


def test_a_turned_bit_is_noticed_where_it_would_change_a_prediction(saved: Path):
    path, described = saved / "adapter.safetensors", saved / "adapter.json"
    good, said = path.read_bytes(), json.loads(described.read_text())
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"adapter.safetensors: it or adapter.json is not as it was written"):
        adapter.load(saved)
    path.write_bytes(good)
    described.write_text(json.dumps(said | {"labels": ["no", "yes!"]}))
    with pytest.raises(ValueError, match="not as it was written"):
        adapter.load(saved)
    described.write_text(json.dumps(said | {"base": "elsewhere", "scores": {}}))
    assert adapter.load(saved)[1].base == "elsewhere"
    path.write_bytes(to_bytes(load_file(path)))  # as an older version wrote it
    described.write_text(json.dumps(said | {"labels": ["no", "yes!"]}))
    assert adapter.load(saved)[1].problem.labels == ("no", "yes!")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 3}, "format 3; accepted: 2"),
        ({"format": None}, "format"),
        ({"colour": "red"}, "colour"),
        ({"task": None}, "task"),
        ({"method": {"name": "made_up"}}, "method is 'made_up'; accepted: adakron, "),
        ({"method": {"name": "adakron", "colour": "red"}}, "method adakron has no field colour; accepted: factors"),
        ({"method": {"name": "adakron", "factors": [0]}}, r"method.factors is \(0,\)"),
        ({"method": {"name": "adakron", "factors": [1.5, 2]}}, r"method.factors is \(1.5, 2\)"),
        ({"method": {}}, "name"),
        ({"method": "adakron"}, "method is 'adakron'; accepted: an object"),
        ({"encoder": dataclasses.asdict(BERT) | {"colour": "red"}}, "colour"),
        ({"encoder": dataclasses.asdict(BERT) | {"num_heads": 3}}, "hidden_size 4 is not a multiple of num_heads 3"),
    ],
)
def test_a_card_with_a_mistake_is_named_with_the_mistake(saved: Path, change: dict[str, Any], complaint: str):
    path = saved / "adapter.json"
    said = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
    with pytest.raises(ValueError, match=f"adapter.json: .*{complaint}") as refusal:
        adapter.load(saved)
    assert str(refusal.value).startswith(str(saved))


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "file"
    for contents in (b"long and old", b"new", b""):
        write_whole(path, contents)
        assert path.read_bytes() == contents
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("failing", ["replace", "write_bytes"])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None, failing: str
):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def half(aside: Path, contents: bytes):
        with aside.open("wb") as file:
            file.write(contents[:2])
        raise OSError("disk full")

    def never(source: Path, target: Path):
        assert source.read_bytes() == b"new"
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(*(os, "replace", never) if failing == "replace" else (Path, "write_bytes", half))
        with pytest.raises(OSError, match="disk full"):
            write_whole(path, b"new")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == ({"file": old} if old is not None else {})


def test_a_failed_save_leaves_the_old_adapter(saved: Path, monkeypatch: pytest.MonkeyPatch):
    def never(*_: Any):
        raise OSError("disk full")

    card = dataclasses.replace(CARD, task="mrpc")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", never)
        with pytest.raises(OSError, match="disk full"):
            adapter.save(saved, random_tree(card), card)
    assert adapter.load(saved)[1] == CARD
    assert len(list(saved.iterdir())) == 2
