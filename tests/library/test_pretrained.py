"""Pretrained weights: from every kind of file, under every spelling, into one tree."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from safetensors.numpy import save_file

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.hub import models
from adakron_jax.hub.models import locate
from adakron_jax.methods import Head
from adakron_jax.params import flatten, unflatten
from tests.library.test_params import TINY_BERT

BERT = TINY_BERT
ROBERTA = dataclasses.replace(BERT, model_type="roberta", type_vocab_size=1, pad_id=1, layer_norm_eps=1e-5)
BOTH = pytest.mark.parametrize("config", [BERT, ROBERTA], ids=["bert", "roberta"])
Leaves = dict[str, np.ndarray]


@functools.cache
def random_leaves(config: EncoderConfig) -> Leaves:
    """Every pretrained leaf, at random."""
    shapes, rng = flatten(SequenceClassifier(config, Head()).shapes()), np.random.default_rng(0)
    paths = sorted(path for path in shapes if not path.startswith("classifier/"))
    return {path: rng.standard_normal(shapes[path].shape).astype(np.float32) for path in paths}


def checkpoint(config: EncoderConfig) -> Leaves:
    return pretrained.to_checkpoint(random_leaves(config), config)


def assert_equal(found: Leaves, expected: Leaves):
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


def flax_checkpoint(config: EncoderConfig) -> bytes:
    """The weights as transformers' Flax classes laid them: kernels [in, out], a LayerNorm's `scale`."""
    leaves, tree = random_leaves(config), {}

    def put(theirs: str, ours: str, kinds: Iterable[str]):
        for kind in kinds:
            tree[f"{config.model_type}/{theirs}/{kind}"] = leaves[f"{ours}/{kind}"]

    dense, norm = ("kernel", "bias"), ("scale", "bias")
    put("embeddings/word_embeddings", "encoder/embeddings/word", ["embedding"])
    put("embeddings/position_embeddings", "encoder/embeddings/position", ["embedding"])
    put("embeddings/token_type_embeddings", "encoder/embeddings/token_type", ["embedding"])
    put("embeddings/LayerNorm", "encoder/embeddings/norm", norm)
    for i in range(config.num_layers):
        for name in ("query", "key", "value"):
            put(f"encoder/layer/{i}/attention/self/{name}", f"encoder/layers/{i}/attention/{name}", dense)
        put(f"encoder/layer/{i}/attention/output/dense", f"encoder/layers/{i}/attention/dense", dense)
        put(f"encoder/layer/{i}/attention/output/LayerNorm", f"encoder/layers/{i}/attention_norm", norm)
        put(f"encoder/layer/{i}/intermediate/dense", f"encoder/layers/{i}/ffn/hidden", dense)
        put(f"encoder/layer/{i}/output/dense", f"encoder/layers/{i}/ffn/dense", dense)
        put(f"encoder/layer/{i}/output/LayerNorm", f"encoder/layers/{i}/ffn_norm", norm)
    if config.model_type == "bert":
        put("pooler/dense", "pooler", dense)
        tree["cls/predictions/transform/dense/kernel"] = tree["cls/seq_relationship/kernel"] = np.ones((4, 4))
    else:
        tree["lm_head/dense/kernel"] = np.ones((4, 4))
    return msgpack_serialize(unflatten(tree))


def write_shards(folder: Path, shards: list[Leaves]):
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        save_file(shard, folder / file)
    weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_some_leaves_alone_get_their_published_names_and_layouts():
    leaves = random_leaves(ROBERTA)
    kernels, norm = [f"encoder/layers/{i}/ffn/dense/kernel" for i in (0, 1)], "encoder/embeddings/norm/scale"
    expected = {f"roberta.encoder.layer.{i}.output.dense.weight": leaves[kernels[i]].T for i in (0, 1)}
    found = pretrained.to_checkpoint({path: leaves[path] for path in (*kernels, norm)}, ROBERTA)
    assert_equal(found, expected | {"roberta.embeddings.LayerNorm.weight": leaves[norm]})
    assert all(tensor.flags.c_contiguous for tensor in found.values())


@BOTH
def test_names_may_lack_the_prefix(config: EncoderConfig):
    bare = {name.split(".", 1)[1]: tensor for name, tensor in checkpoint(config).items()}
    assert_equal(pretrained.from_checkpoint(bare, config), random_leaves(config))


def test_a_layer_norm_may_have_gamma_and_beta():
    kinds = {"weight": "gamma", "bias": "beta"}
    old = {
        name if "LayerNorm" not in name else f"{(parts := name.rpartition('.'))[0]}.{kinds[parts[2]]}": tensor
        for name, tensor in checkpoint(BERT).items()
    }
    assert "bert.encoder.layer.1.output.LayerNorm.gamma" in old
    assert_equal(pretrained.from_checkpoint(old, BERT), random_leaves(BERT))


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        *("cls.predictions.bias", "cls.seq_relationship.weight", "cls.predictions.transform.LayerNorm.gamma"),
        *("lm_head.dense.weight", "lm_head.layer_norm.bias", "classifier.out_proj.weight", "qa_outputs.bias"),
        *("embeddings.position_ids", "PREFIX.embeddings.position_ids", "PREFIX.embeddings.token_type_ids"),
    ],
)
def test_what_is_no_part_of_the_encoder_is_ignored(config: EncoderConfig, name: str):
    extra = {name.replace("PREFIX", config.model_type): np.arange(5)}
    assert_equal(pretrained.from_checkpoint(checkpoint(config) | extra, config), random_leaves(config))


def test_roberta_s_pooler_is_ignored_and_bert_s_is_not():
    extra = {"roberta.pooler.dense.weight": np.ones((4, 4)), "roberta.pooler.dense.bias": np.ones(4)}
    assert_equal(pretrained.from_checkpoint(checkpoint(ROBERTA) | extra, ROBERTA), random_leaves(ROBERTA))
    with pytest.raises(ValueError, match="unexpected pooler.other$"):
        pretrained.from_checkpoint(checkpoint(BERT) | {"bert.pooler.other": np.ones(4)}, BERT)


def test_bert_s_pooler_may_be_missing_but_not_half_of_it():
    without = {name: tensor for name, tensor in checkpoint(BERT).items() if "pooler" not in name}
    expected = {path: leaf for path, leaf in random_leaves(BERT).items() if not path.startswith("pooler/")}
    assert_equal(pretrained.from_checkpoint(without, BERT), expected)
    half = without | {"bert.pooler.dense.weight": np.ones((4, 4))}
    with pytest.raises(ValueError, match="missing pooler.dense.bias$"):
        pretrained.from_checkpoint(half, BERT)


def problems_of(tensors: Leaves) -> list[str]:
    with pytest.raises(ValueError, match="^the parameters do not fit: ") as refusal:
        pretrained.from_checkpoint(tensors, BERT)
    return sorted(str(refusal.value).removeprefix("the parameters do not fit: ").split("; "))


def test_everything_that_does_not_fit_is_listed_in_one_message():
    tensors = checkpoint(BERT)
    del tensors["bert.encoder.layer.1.attention.self.query.weight"], tensors["bert.pooler.dense.weight"]
    tensors["bert.embeddings.extra.weight"] = tensors["bert.dense.weight"] = np.ones(3)
    tensors["embeddings.LayerNorm.gamma"] = tensors["bert.embeddings.LayerNorm.weight"]
    tensors["bert.encoder.layer.0.output.dense.weight"] = np.ones((5, 6))
    tensors["bert.encoder.layer.0.intermediate.dense.bias"] = np.ones((6, 1))
    assert problems_of(tensors) == [
        "doubled embeddings.LayerNorm.gamma",
        "misshapen encoder.layer.0.intermediate.dense.bias (6, 1), expected (6,)",
        "misshapen encoder.layer.0.output.dense.weight (5, 6), expected (4, 6)",
        "missing encoder.layer.1.attention.self.query.weight",
        "missing pooler.dense.weight",
        "unexpected dense.weight",
        "unexpected embeddings.extra.weight",
    ]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        *[("embeddings.word_embeddings.weight", (9, 4), (7, 4)), ("pooler.dense.weight", (4,), (4, 4))],
        *[("pooler.dense.bias", (4, 1), (4,)), ("embeddings.LayerNorm.weight", (5,), (4,))],
    ],
)
def test_a_tensor_of_another_shape_than_the_configuration_s_is_named(
    name: str, shape: tuple[int, ...], expected: tuple[int, ...]
):
    problems = problems_of(checkpoint(BERT) | {f"bert.{name}": np.ones(shape)})
    assert problems == [f"misshapen {name} {shape}, expected {expected}"]


def test_more_layers_than_the_configuration_has_are_unexpected():
    more = dataclasses.replace(BERT, num_layers=3)
    problems = problems_of(checkpoint(more))
    assert len(problems) == 16
    assert all(problem.startswith("unexpected encoder.layer.2.") for problem in problems)


@BOTH
def test_one_file_shards_and_msgpack_hold_the_same_leaves(config: EncoderConfig, tmp_path: Path):
    whole, sharded, flax = (tmp_path / name for name in ("whole", "sharded", "flax"))
    for folder in (whole, sharded, flax):
        folder.mkdir()
    tensors = checkpoint(config)
    save_file(tensors, whole / "model.safetensors")
    write_shards(sharded, [{k: v for i, (k, v) in enumerate(tensors.items()) if i % 3 == part} for part in range(3)])
    (flax / "flax_model.msgpack").write_bytes(flax_checkpoint(config))
    found = [pretrained.read(folder, config) for folder in (whole, sharded, flax)]
    for leaves in found:
        assert_equal(leaves, random_leaves(config))
    assert len({pretrained.fingerprint(leaves) for leaves in found}) == 1


def test_a_float16_checkpoint_becomes_float32(tmp_path: Path):
    half = {name: tensor.astype(np.float16) for name, tensor in checkpoint(BERT).items()}
    save_file(half, tmp_path / "model.safetensors")
    expected = {path: leaf.astype(np.float16).astype(np.float32) for path, leaf in random_leaves(BERT).items()}
    assert_equal(pretrained.read(tmp_path, BERT), expected)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_refused_with_how_to_convert_them(tmp_path: Path, file: str):
    (tmp_path / file).write_bytes(b"not even looked at")
    with pytest.raises(
        ValueError, match=r"only pytorch_model.bin, a pickle; .* convert them with: python -c .*save_file"
    ) as refusal:
        pretrained.read(tmp_path, BERT)
    assert str(refusal.value).startswith(str(tmp_path))


def test_a_folder_without_weights_is_refused_with_what_is_accepted(tmp_path: Path):
    accepted = "model.safetensors, model.safetensors.index.json, flax_model.msgpack"
    with pytest.raises(ValueError, match=f"has no weights; accepted: {accepted}$"):
        pretrained.read(tmp_path, BERT)


def test_weights_that_do_not_fit_name_their_file(tmp_path: Path):
    save_file(checkpoint(BERT) | {"bert.extra": np.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors: .*unexpected extra$"):
        pretrained.read(tmp_path, BERT)


@pytest.mark.parametrize("kept", [0, 5, 100, 3000])
def test_a_truncated_safetensors_file_is_named(tmp_path: Path, kept: int):
    path = tmp_path / "model.safetensors"
    save_file(checkpoint(BERT), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="model.safetensors: .") as refusal:
        pretrained.read(tmp_path, BERT)
    assert str(refusal.value).startswith(str(tmp_path))


@pytest.mark.parametrize("contents", [b"", msgpack_serialize({"bert": np.ones(99)})[:50], msgpack_serialize(5)])
def test_a_damaged_msgpack_file_is_named(tmp_path: Path, contents: bytes):
    (tmp_path / "flax_model.msgpack").write_bytes(contents)
    with pytest.raises(ValueError, match="flax_model.msgpack: ."):
        pretrained.read(tmp_path, BERT)


def test_a_shard_that_is_truncated_or_missing_is_named(tmp_path: Path):
    tensors = checkpoint(BERT)
    write_shards(tmp_path, [tensors, {"cls.predictions.bias": np.ones(7, np.float32)}])
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match=shard.name):
        pretrained.read(tmp_path, BERT)
    shard.unlink()
    with pytest.raises(ValueError, match=shard.name):
        pretrained.read(tmp_path, BERT)


def test_a_tensor_that_two_shards_hold_is_doubled(tmp_path: Path):
    tensors = checkpoint(BERT)
    write_shards(tmp_path, [tensors, {name: tensors[name] + 1 for name in ["bert.pooler.dense.bias"]}])
    index = tmp_path / "model.safetensors.index.json"
    # The index gives each name to one shard, but shards are read whole.
    index.write_text(
        json.dumps({"weight_map": {str(i): path.name for i, path in enumerate(tmp_path.glob("*tensors"))}})
    )
    with pytest.raises(ValueError, match="doubled .*pooler.dense.bias"):
        pretrained.read(tmp_path, BERT)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": null}'])
def test_a_damaged_index_of_shards_is_named(tmp_path: Path, text: str):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match="model.safetensors.index.json: ."):
        pretrained.read(tmp_path, BERT)


def test_a_fingerprint_changes_with_a_number_a_shape_or_a_name():
    leaves = random_leaves(BERT)
    word = leaves["encoder/embeddings/word/embedding"].copy()
    word[3, 2] = np.nextafter(word[3, 2], np.float32(9))
    renamed = {f"x/{path}" if path == "pooler/bias" else path: leaf for path, leaf in leaves.items()}
    others = [
        leaves | {"encoder/embeddings/word/embedding": word},
        leaves | {"pooler/bias": leaves["pooler/bias"][None]},
        renamed,
    ]
    assert len({pretrained.fingerprint(each) for each in (leaves, *others)}) == 4


def test_a_fingerprint_does_not_depend_on_order_or_memory_layout():
    leaves = random_leaves(BERT)
    turned = {path: np.asfortranarray(leaf) for path, leaf in reversed(leaves.items())}
    assert pretrained.fingerprint(turned) == pretrained.fingerprint(leaves)
    wide = {path: leaf.astype(np.float64) for path, leaf in leaves.items()}
    assert pretrained.fingerprint(wide) == pretrained.fingerprint(leaves)


def make_package(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, str]) -> Path:
    for file, text in ({"__init__.py": "raise RuntimeError('imported')"} | files).items():
        (root / name / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / file).write_text(text)
    monkeypatch.syspath_prepend(root)
    return root / name


def test_a_folder_is_its_own_place(tmp_path: Path):
    assert locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("model", ["./no-such-model", "/no/such/model", "~/no-such-model", "no/such/model"])
def test_a_missing_folder_is_refused_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch, model: str):
    monkeypatch.setattr(models, "_from_hub", lambda _: pytest.fail("asked the hub"))
    with pytest.raises(ValueError, match=f"^model '{model}': no such folder$"):
        locate(model)


@pytest.mark.parametrize("folder", ["model", "."])
def test_a_package_s_model_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str):
    package = make_package(tmp_path, monkeypatch, "made_up_bert", {f"{folder}/config.json": "{}", "data/x.txt": ""})
    assert locate("pkg:made_up_bert") == package / folder


def test_a_package_without_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_package(tmp_path, monkeypatch, "made_up_empty", {"data/x.txt": ""})
    with pytest.raises(ValueError, match=r"^model 'pkg:made_up_empty': the package holds no model folder"):
        locate("pkg:made_up_empty")


@pytest.mark.parametrize("name", ["made_up_and_missing", "made_up.missing", "../elsewhere", "", "json.decoder", "ast"])
def test_a_package_that_is_not_there_is_refused(name: str):
    with pytest.raises(ValueError, match=f"^model 'pkg:{name}': no installed package of this name$"):
        locate(f"pkg:{name}")
