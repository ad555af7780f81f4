"""Classifiers as ONNX models: what ONNX Runtime computes is what we compute."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import linen as nn
from jaxtyping import Array, Float

import adakron_jax as ak
from adakron_jax import adapter, methods
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.cli import main as cli
from adakron_jax.encoders.inputs import padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.interop.convert import export_adapter
from adakron_jax.interop.onnx import folder
from adakron_jax.interop.onnx.proto import model_of
from adakron_jax.io.files import read_json
from adakron_jax.methods.registry import METHODS
from adakron_jax.params import unflatten
from adakron_jax.problems import make
from adakron_jax.splice import Method, Site, Splice
from tests.methods.test_contract import CONFIGS, wide_enough
from tests.methods.test_fuse import random_leaves
from tests.support.adapters import TOKENS, card_of
from tests.support.architectures import BERT, DISTINCT, TINY
from tests.support.methods import TELLING, nightly_but

LABELS = make("classification", ("no", "yes", "perhaps"))
CLOSE = 1e-4


def inputs_of(config: EncoderConfig, lengths: Sequence[int]) -> dict[str, np.ndarray]:
    """A batch padded on the right, as tokenizers make it."""
    rng, shape = np.random.default_rng(0), (len(lengths), max(lengths))
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask, rng.integers(2, config.vocab_size, shape), config.pad_id)
    types = {"token_type_ids": mask * rng.integers(0, 2, shape)} if config.type_vocab_size > 1 else {}
    return {"input_ids": ids, "attention_mask": mask} | types


def check(model: SequenceClassifier) -> onnx.ModelProto:
    """Exports a model with random parameters, and holds it to ours.

    Of texts of one token to the limit: in one batch padded on the right, on the left, and each alone.
    """
    leaves = random_leaves(model.shapes())
    of_tokens = model.reads == "token"
    exported = model_of(model, leaves, TOKENS["problem"] if of_tokens else LABELS)
    onnx.checker.check_model(exported, full_check=True)
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    lengths = range(1, model.config.max_length - model.method.first_position + 1)
    right = inputs_of(model.config, lengths)
    params = jax.tree.map(jnp.asarray, unflatten(leaves))
    narrow = [x.astype(np.int32) for x in right.values()]
    ours = np.asarray(jax.jit(model.apply)({"params": params}, padded(*narrow)))
    if of_tokens:
        mask = right["attention_mask"] == 1
        whole = [session.run(["logits"], right)[0][mask]]
        whole += [
            session.run(["logits"], {name: rows[[row], :n] for name, rows in right.items()})[0][0]
            for row, n in enumerate(lengths)
        ]
        np.testing.assert_allclose(whole[0], ours[mask], atol=CLOSE, rtol=0)
        np.testing.assert_allclose(np.concatenate(whole[1:]), ours[mask], atol=CLOSE, rtol=0)
        return exported
    ours = ours[:, 0]
    left = {
        name: np.stack([np.roll(x, -n) for x, n in zip(rows, lengths, strict=True)]) for name, rows in right.items()
    }
    alone = [{name: rows[[row], :n] for name, rows in right.items()} for row, n in enumerate(lengths)]
    assert [put.name for put in session.get_inputs()] == list(right)
    for inputs, expected in [(right, ours), (left, ours), *zip(alone, ours[:, None], strict=True)]:
        np.testing.assert_allclose(session.run(["logits"], inputs)[0], expected, atol=CLOSE, rtol=0)
    return exported


@pytest.mark.parametrize("name", nightly_but((*TELLING, "fourierft", "vblora")))  # which have operators of their own
def test_every_method(name: str) -> None:
    method = METHODS[name]()
    check(SequenceClassifier(wide_enough(method, CONFIGS[0]), method, num_labels=3))


@pytest.mark.parametrize("config", DISTINCT[1:], ids=lambda config: config.model_type)
def test_every_architecture(config: EncoderConfig) -> None:
    check(SequenceClassifier(config, methods.UniPELT(r=4, length=3, mid=6), num_labels=3))


@pytest.mark.parametrize(
    ("model_type", "pooling", "head"),
    [
        ("bert", "pooler", "tanh"),
        ("bert", "mean", "gelu"),
        ("roberta", "first", "relu"),
        ("modernbert", "mean", "linear"),
        ("modernbert", "first", "own"),
    ],
)
def test_every_pooling_and_head(model_type: str, pooling: Any, head: Any) -> None:
    method = methods.LoRA(r=2, layers="1-2")
    check(SequenceClassifier(TINY[model_type], method, num_labels=3, pooling=pooling, head=head))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "modernbert"])
def test_heads_on_tokens(model_type: str) -> None:
    exported = check(SequenceClassifier(TINY[model_type], methods.Pfeiffer(4), num_labels=5, reads="token"))
    dims = exported.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", "length", 5]


def test_the_graph_is_that_of_a_plain_encoder() -> None:
    exported = check(SequenceClassifier(BERT, methods.LoRA(r=2), num_labels=3))
    layers, kinds = BERT.num_layers, Counter(node.op_type for node in exported.graph.node)
    assert kinds["MatMul"] == 8 * layers + 2
    assert (kinds["LayerNormalization"], kinds["Softmax"], kinds["Gelu"]) == (2 * layers + 1, layers, layers)
    assert kinds["Where"] == 2  # one mask for all layers but the last, which computes the first token alone
    assert not kinds.keys() & {"Concat", "Einsum", "Erf", "Expand", "Exp", "Less", "ReduceSum", "Sqrt"}
    names = {weight.name for weight in exported.graph.initializer}
    assert "encoder/layers/1/attention/query/kernel" in names
    dims = [put.type.tensor_type.shape.dim for put in (*exported.graph.input, *exported.graph.output)]
    assert [[dim.dim_param or dim.dim_value for dim in one] for one in dims] == [["batch", "length"]] * 3 + [
        ["batch", 3]
    ]


def saved(at: Path, method: Method, fields: dict[str, Any], base: str = "bert") -> Card:
    card = card_of(base, method, fields)
    adapter.save(at, unflatten(random_leaves(adapter.portable_shapes(card))), card)
    return card


PROBLEMS = [LABELS, make("multilabel", ("a", "ü")), make("regression", mean=2.0, scale=3.0)]
TEXTS = ["the cat", "a dog sat on the mat", "no"]


@pytest.mark.parametrize(("problem", "base"), list(zip(PROBLEMS, ("bert", "roberta", "bert"), strict=True)))
def test_a_folder_holds_all_that_other_tools_read(problem: Any, base: str, tmp_path: Path) -> None:
    saved(tmp_path / "adapter", methods.Pfeiffer(4), {"problem": problem, "pooling": "mean", "head": "gelu"}, base)
    names = export_adapter(str(tmp_path / "adapter"), "onnx", tmp_path / "out")
    assert {"README.md", "config.json", "model.onnx", "tokenizer.json"} <= set(names)
    said = read_json(tmp_path / "out" / "config.json")
    assert said["problem_type"] == problem.transformers_type
    assert said["id2label"] == {str(code): name for code, name in enumerate(problem.output_names)}
    assert "ORTModelForSequenceClassification" in (tmp_path / "out" / "README.md").read_text()
    classifier = ak.TextClassifier.load(tmp_path / "adapter")
    examples = classifier.encode([TEXTS])
    mean, scale = problem.unit
    ours = mean + scale * classifier.logits([TEXTS])
    np.testing.assert_allclose(folder.logits_of(tmp_path / "out" / "model.onnx", examples), ours, atol=CLOSE, rtol=0)


def test_a_small_model_and_both_models_scores(tmp_path: Path, capsys: Any) -> None:
    saved(tmp_path / "adapter", methods.AdaKron((4, 8)), {})
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS.labels, strict=True)]
    table = tmp_path / "test.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    line = ["export", str(tmp_path / "adapter"), "--to", "onnx", "--out", str(out)]
    assert cli.main([*line, "--quantize", "int8", "--table", str(table)]) == 0
    _, plain, small = capsys.readouterr().out.splitlines()
    assert plain.startswith(f"{out}/model.onnx: ")
    assert small.startswith(f"{out}/model_quantized.onnx: ")
    assert all(", accuracy 0." in line for line in (plain, small))
    quantized = onnx.load(out / "model_quantized.onnx")
    assert not any(node.op_type == "MatMul" and node.input[1].endswith("kernel") for node in quantized.graph.node)
    examples = ak.TextClassifier.load(tmp_path / "adapter").encode([TEXTS])
    plain, small = (folder.logits_of(out / name, examples) for name in ("model.onnx", "model_quantized.onnx"))
    assert 0 < np.abs(plain - small).max() < 0.2


def test_a_table_of_tags_scores_both_models(tmp_path: Path, capsys: Any) -> None:
    saved(tmp_path / "adapter", methods.LoRA(r=2), TOKENS)
    classifier = ak.TokenClassifier.load(tmp_path / "adapter")
    texts = ["the cat sat", "a dog", "one two three " * 40]  # the last one in several windows
    rows = [{"text": text, "entities": [entity.to_dict() for entity in classifier.predict(text)]} for text in texts]
    table = tmp_path / "test.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    line = ["export", str(tmp_path / "adapter"), "--to", "onnx", "--out", str(out), "--quantize", "int8"]
    assert cli.main([*line, "--table", str(table), "--text", "text", "--label", "entities"]) == 0
    _, plain, small = capsys.readouterr().out.splitlines()
    assert "entity_f1 1.0000" in plain
    assert "entity_f1 " in small
    said = read_json(out / "config.json")
    assert said["architectures"] == ["BertForTokenClassification"]
    assert said["id2label"]["1"] == "B-place"
    assert "ORTModelForTokenClassification" in (out / "README.md").read_text()


def test_weights_of_a_large_model_stand_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "adapter", methods.Head(), {})
    export_adapter(str(tmp_path / "adapter"), "onnx", tmp_path / "one")
    monkeypatch.setattr(folder, "MOST", 1000)
    assert "model.onnx_data" in export_adapter(str(tmp_path / "adapter"), "onnx", tmp_path / "two", quantize="int8")
    examples = ak.TextClassifier.load(tmp_path / "adapter").encode([TEXTS])
    one, two = (folder.logits_of(tmp_path / name / "model.onnx", examples) for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


class Sorted(nn.Module):
    """Something for which ONNX has no operator here."""

    @nn.compact
    def __call__(self, value: Float[Array, "rows seq hidden"], **_: Any) -> Float[Array, "rows seq hidden"]:
        return jnp.sort(value)


@dataclasses.dataclass(frozen=True)
class Sorting(Method):
    name: ClassVar[str] = "sorting"

    def splices(self, config: EncoderConfig, dtype: Any = None) -> dict[Site, Splice]:
        return {Site.FFN_OUTPUT: Splice(Sorted, label="sorted")}


def test_what_onnx_does_not_have_is_named() -> None:
    model = SequenceClassifier(BERT, Sorting(), num_labels=3)
    with pytest.raises(ValueError, match="method sorting of bert is not for ONNX: JAX's sort has no equivalent"):
        model_of(model, random_leaves(model.shapes()), LABELS)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--to", "onnx", "--quantize", "int3"], "--quantize is 'int3'; accepted: int8"),
        (["--to", "peft", "--quantize", "int8"], "--quantize int8 is for --to onnx, not for --to peft"),
        (["--to", "peft", "--table", "x.csv"], "--table is for --to onnx, not for --to peft"),
        (["--to", "onnx", "--table", "x.csv"], "x.csv"),
        (["--to", "ONNX"], "--to is 'ONNX'; accepted: huggingface, peft, adapterhub, authors, onnx"),
    ],
)
def test_bad_input_is_met_before_anything_is_written(flags: list[str], line: str, tmp_path: Path, capsys: Any) -> None:
    saved(tmp_path / "adapter", methods.LoRA(r=2), {})
    assert cli.main(["export", str(tmp_path / "adapter"), "--out", str(tmp_path / "out"), *flags]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_the_extra_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "adapter", methods.LoRA(r=2), {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--to onnx needs onnx; install it with: pip install 'adakron-jax\[onnx\]'"):
        export_adapter(str(tmp_path / "adapter"), "onnx", tmp_path / "out")
