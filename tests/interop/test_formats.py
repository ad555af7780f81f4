"""Our adapters in every format and back, without the programs they are for."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax import adapter, methods
from adakron_jax.adapter import Card
from adakron_jax.encoders import pretrained
from adakron_jax.interop.convert import export_adapter, import_adapter
from adakron_jax.interop.huggingface import fused
from adakron_jax.methods.registry import METHODS
from adakron_jax.methods.updates.lora import Update
from adakron_jax.params import flatten, unflatten
from adakron_jax.problems import make
from adakron_jax.splice import Method
from tests.methods.test_fuse import random_leaves
from tests.support.adapters import BASES, CASES, TOKENS, card_of

AUTHORS = [
    ("authors", "bert", methods.AdaKron((3, 4)), {}),
    ("authors", "roberta", methods.AdaKron((2, 4)), {}),
    ("authors", "bert", methods.AdaMix(3, r=5), {}),
]


def saved(folder: Path, base: str, method: Method, fields: dict[str, Any]) -> tuple[Card, dict[str, np.ndarray]]:
    """A card and its portable leaves, random."""
    card = card_of(base, method, fields)
    leaves = random_leaves(adapter.portable_shapes(card))
    adapter.save(folder, unflatten(leaves), card)
    return card, leaves


@pytest.mark.parametrize(("to", "base", "method", "fields"), CASES + AUTHORS, ids=lambda x: getattr(x, "name", None))
def test_what_goes_out_comes_back(to: str, base: str, method: Method, fields: dict[str, Any], tmp_path: Path) -> None:
    card, leaves = saved(tmp_path / "adapter", base, method, fields)
    export_adapter(str(tmp_path / "adapter"), to, tmp_path / "out")
    again = import_adapter(tmp_path / "out", card.base, tmp_path / "again")
    tree = flatten(adapter.load(tmp_path / "again")[0])
    if to == "huggingface":
        assert isinstance(again.method, methods.Full | methods.Head)
        return
    if isinstance(method, methods.Prefix) and to == "peft":
        assert again.method == dataclasses.replace(method, mlp=False, mid=512)
        return
    assert again.problem.outputs == card.problem.outputs
    assert (again.pooling, again.head, again.max_length) == (card.pooling, card.head, card.max_length)
    if to == "adapterhub":
        assert again.problem == card.problem
    if again.method != method:  # names that say the same
        model, other = (dataclasses.replace(x, method=method).classifier().shapes() for x in (card, again))
        assert flatten(model).keys() == flatten(other).keys()
    assert tree.keys() == leaves.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(tree[path].view(np.uint32), leaf.view(np.uint32), err_msg=path)


# Fields of methods whose defaults are for larger encoders, and the methods that become a plain encoder.
SMALL: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 8},
    "compacter": {"reduction": 4},
    "miss": {"r": 8},
    "vblora": {"vector_length": 8},
    "krona": {"a_shape": (4, 4)},
}
PLAIN = {"bitfit", "full", "head", "ln_tuning", "hadamard", "ia3"}
PLAIN |= {name for name, method in METHODS.items() if issubclass(method, Update)}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_fuses_has_no_leaf_of_its_own_and_what_does_not_says_what_to_do(name: str) -> None:
    method = METHODS[name](**SMALL.get(name.rstrip("+"), {}))
    card = card_of("bert", method, {})
    leaves = random_leaves(card.classifier().shapes())
    if name in PLAIN:
        assert not any("@" in path for path in fused(method, leaves, card))
        return
    with pytest.raises(ValueError, match="it is not a plain Hugging Face model; export it --to .*onnx"):
        fused(method, leaves, card)


def test_a_fused_folder_is_a_whole_model(tmp_path: Path) -> None:
    card, _ = saved(tmp_path / "adapter", "bert", methods.LoRA(r=2), {"problem": make("multilabel", ("no", "ü"))})
    names = export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"} <= set(names)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "ü"}
    assert config["label2id"] == {"no": 0, "ü": 1}
    assert config["problem_type"] == "multi_label_classification"
    assert "library_name: adakron-jax" in (tmp_path / "out" / "README.md").read_text()
    again = import_adapter(tmp_path / "out", card.base, tmp_path / "again")
    assert again.problem == card.problem
    assert isinstance(again.method, methods.Full)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    saved(tmp_path / "adapter", "bert", methods.LoRA(r=2), {})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds adapter already"):
        export_adapter(str(tmp_path / "adapter"), "peft", tmp_path)
    for _ in range(2):
        export_adapter(str(tmp_path / "adapter"), "peft", tmp_path / "out")


# Format, method, fields of the card, what the refusal says.
REFUSED: list[tuple[str, Method, dict[str, Any], str]] = [
    (
        "huggingface",
        methods.LoRA(r=2),
        {"pooling": "mean"},
        "cannot have a head of the form 'own' on the pooling 'mean'",
    ),
    ("huggingface", methods.LoRA(r=2), {"pooling": "first"}, "accepted: bert's own head"),
    ("peft", methods.LoRA(r=2), {"head": "tanh"}, "an adapter of peft cannot have a head of the form 'tanh'"),
    ("peft", methods.AdaKron((2, 2)), {}, "method adakron has no equivalent in peft; accepted: c3a, "),
    ("peft", methods.Prefix(length=2, mid=2), {}, "method.shift_positions is False"),
    ("peft", methods.KronA(a_shape=(2, 16)), {}, "method.a_shape is (2, 16)"),
    ("peft", methods.IA3(("ffn_hidden", "ffn_dense")), {}, "method.targets scales inputs and outputs of bert.encoder"),
    ("peft", methods.VeRA(r=2, scales=(0.5,) * 6), {}, "method.scales has 0.5"),
    ("adapterhub", methods.AdaKron((2, 2)), {}, "method adakron has no equivalent in AdapterHub; accepted: compacter"),
    ("adapterhub", methods.Houlsby(2), {}, "method.form is 'google'"),
    ("adapterhub", methods.Pfeiffer(2, scales=(1.0, 2.0, 3.0)), {}, "method.scales is (1.0, 2.0, 3.0)"),
    ("adapterhub", methods.LoRA(r=2, scales=(1.0, 0.0) * 3), {}, "or export --to peft"),
    ("adapterhub", methods.LoRA(("attention_dense",), r=2), {}, "method.targets has 'attention_dense'"),
    ("adapterhub", methods.IA3(), {}, "method.targets has 'ffn_hidden'"),
    ("adapterhub", methods.Prefix(length=2, mid=2, shift_positions=True), {}, "method.shift_positions is True"),
    ("adapterhub", methods.Pfeiffer(2), {"pooling": "mean"}, "has no equivalent in AdapterHub; accepted: the poolings"),
    ("authors", methods.AdaKron((2, 2, 2)), {}, "accepted for the authors' code: adakron of two factors"),
    ("authors", methods.LoRA(r=2), {}, "accepted for the authors' code"),
    ("authors", methods.AdaKron((2, 2)), TOKENS, "problem is 'tokens'; accepted: one with logits per example"),
    ("peft", methods.LoRA(r=2), TOKENS | {"head": "tanh"}, "a head of the form 'tanh' on tokens"),
    ("xnno", methods.LoRA(r=2), {}, "--to is 'xnno'; accepted: huggingface, peft, adapterhub, authors, onnx"),
]


@pytest.mark.parametrize(
    ("to", "method", "fields", "line"), REFUSED, ids=[f"{to}-{line[:30]}" for to, *_, line in REFUSED]
)
def test_what_a_format_cannot_say_is_refused_by_name(
    to: str, method: Method, fields: dict[str, Any], line: str, tmp_path: Path
) -> None:
    saved(tmp_path / "adapter", "bert", method, fields)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        export_adapter(str(tmp_path / "adapter"), to, tmp_path / "out")
    assert line in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "adapter", "bert", methods.LoRA(r=2), {"fingerprint": "0" * 64})
    with pytest.raises(ValueError, match="with the fingerprint 000000000000"):
        export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")


def test_a_state_of_the_authors_may_hold_the_encoder_if_it_is_the_base(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    card, _ = saved(tmp_path / "adapter", "bert", methods.AdaKron((2, 4)), {})
    export_adapter(str(tmp_path / "adapter"), "authors", tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    encoder = pretrained.to_checkpoint(pretrained.read(BASES["bert"], card.encoder), card.encoder)
    save_file(load_file(path) | encoder, path)
    assert import_adapter(tmp_path / "out", card.base, tmp_path / "again").method == card.method
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file(load_file(path) | {name: encoder[name] + 1}, path)
    with pytest.raises(ValueError, match="its encoder differs from the base"):
        import_adapter(tmp_path / "out", card.base, tmp_path / "other")
