"""What folders of others say of labels, problem, architecture and base: read, or refused by name, never guessed."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adakron_jax import adapter, methods
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.cli.main import main
from adakron_jax.encoders import pretrained
from adakron_jax.interop.convert import export_adapter, import_adapter
from adakron_jax.params import flatten, unflatten
from adakron_jax.problems import Classification, Multilabel, Problem, Regression, Tokens
from benchmarks.shapes import write_encoder
from tests.methods.test_fuse import random_leaves
from tests.support.adapters import BASES, TOKENS, card_of
from tests.support.architectures import MODERNBERT, TINY

HERE = Path(__file__).parent
LABELS = ("no", "yes", "perhaps")
Names = dict[str, Any]


def saved(folder: Path, card: Card) -> dict[str, np.ndarray]:
    """The portable leaves, random, of an adapter that is written there."""
    leaves = random_leaves(adapter.portable_shapes(card))
    adapter.save(folder, unflatten(leaves), card)
    return leaves


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A Hugging Face classifier of three labels."""
    saved(tmp_path / "adapter", card_of("bert", methods.LoRA(r=2), {"problem": Classification(LABELS)}))
    export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "classifier")
    return tmp_path / "classifier"


def says(folder: Path, **fields: Any) -> None:
    """Other fields of its `config.json`; None takes one away."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def problem_of(folder: Path, **told: Any) -> Problem:
    return import_adapter(folder, str(BASES["bert"]), folder.parent / "imported", **told).problem


BY_CODE: Names = {"0": "no", "1": "yes", "2": "perhaps"}
BY_NAME: Names = {"no": 0, "yes": 1, "perhaps": 2}
NAMELESS: Names = {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


@pytest.mark.parametrize(
    ("id2label", "label2id", "labels"),
    [
        (BY_CODE, None, LABELS),
        (None, BY_NAME, LABELS),
        (BY_CODE, NAMELESS, LABELS),
        (BY_CODE, {name: str(code) for name, code in BY_NAME.items()}, LABELS),
        ({"2": "perhaps", "0": "no", "1": "yes"}, BY_NAME, LABELS),
        (None, None, ("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
)
def test_labels_are_those_of_id2label_and_else_of_label2id(
    classifier: Path, id2label: Names | None, label2id: Names | None, labels: tuple[str, ...]
) -> None:
    says(classifier, id2label=id2label, label2id=label2id)
    assert problem_of(classifier) == Classification(labels)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (
            {"label2id": {"yes": 0, "no": 1, "perhaps": 2}},
            "id2label says that 0 is 'no', label2id that it is 'yes'; accepted: the same in both",
        ),
        ({"id2label": {"0": "no", "1": "yes"}, "label2id": None}, "accepted: names with the codes 0 to 2"),
        ({"id2label": {"0": "no", "1": "yes", "one": "perhaps"}}, "accepted: names with the codes 0 to 2"),
        ({"id2label": {"0": "no", "00": "yes", "1": "perhaps"}}, "accepted: names with the codes 0 to 2"),
        ({"problem_type": "regression"}, "the head has 3 outputs; accepted: a regression of one number"),
        (
            {"architectures": ["BertForMaskedLM"]},
            r"architectures is \['BertForMaskedLM'\]; accepted: BertForSequenceClassification, BertForTokenC",
        ),
        ({"architectures": ["BertForMultipleChoice"]}, "accepted: BertForSequenceClassification"),
        ({"architectures": [["BertForSequenceClassification"]]}, "accepted: BertForSequenceClassification"),
        ({"architectures": "BertForSequenceClassification"}, "accepted: BertForSequenceClassification"),
        (
            {"problem_type": "multilabel"},
            "'multilabel'; accepted: single_label_classification, multi_label_classification, regression",
        ),
    ],
)
def test_what_contradicts_itself_or_is_of_another_kind_is_refused(
    classifier: Path, fields: dict[str, Any], complaint: str
) -> None:
    says(classifier, **fields)
    with pytest.raises(ValueError, match=complaint):
        problem_of(classifier)


def test_what_the_user_says_of_a_regression_of_several_numbers_holds(classifier: Path) -> None:
    says(classifier, problem_type="regression")
    assert problem_of(classifier, problem="multilabel") == Multilabel(LABELS)


def leaves_of(folder: Path, out: Path) -> dict[str, np.ndarray]:
    import_adapter(folder, str(BASES["bert"]), out)
    return flatten(adapter.load(out)[0])


def equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[path], right[path]) for path in left)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_shards_and_what_wrappers_put_before_names_are_read(classifier: Path, prefix: str, tmp_path: Path) -> None:
    expected = leaves_of(classifier, tmp_path / "whole")
    tensors = {f"{prefix}{name}": x for name, x in load_file(classifier / "model.safetensors").items()}
    (classifier / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, classifier / file)
    (classifier / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert equal(leaves_of(classifier, tmp_path / "shards"), expected)


def peft_folder(folder: Path, rename: Callable[[str], str] = str, **fields: Any) -> Path:
    """The stored case of LoRA, its tensors renamed, and with other fields."""
    shutil.copytree(HERE / "peft-lora-bert" / "adapter", folder)
    path = folder / "adapter_model.safetensors"
    save_file({rename(name): x for name, x in load_file(path).items()}, path)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.mark.parametrize("prefix", ["base_model.model.", "module.", "base_model.model.module."])
def test_peft_s_prefix_may_stand_twice_and_its_task_be_unsaid(prefix: str, tmp_path: Path) -> None:
    plain = leaves_of(peft_folder(tmp_path / "plain"), tmp_path / "out")
    odd = peft_folder(tmp_path / "odd", lambda name: prefix + name, task_type=None)
    assert equal(leaves_of(odd, tmp_path / "other"), plain)


@pytest.mark.parametrize("to", ["peft", "adapterhub"])
@pytest.mark.parametrize(
    "problem", [Classification(LABELS), Multilabel(("a", "b c")), Multilabel(("alone",)), Regression()]
)
def test_what_a_format_does_not_hold_is_said_and_can_be_said_again(
    to: str, problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "adapter", card_of("bert", methods.LoRA(r=2), {"problem": problem}))
    assert main(["export", str(tmp_path / "adapter"), "--to", to, "--out", str(tmp_path / "out")]) == 0
    note = capsys.readouterr().err
    words = {
        Classification(LABELS): "--problem classification --labels no yes perhaps",
        Multilabel(("a", "b c")): "--problem multilabel --labels a 'b c'",
        Multilabel(("alone",)): "--problem multilabel --labels alone",
    }.get(problem, "")
    said = bool(words) and to == "peft"
    assert words in note if said else note == "", note
    assert ((words or "--problem") in (tmp_path / "out" / "README.md").read_text()) == said
    told = ["--problem", problem.name, *(["--labels", *problem.labels] if problem.labels else [])] if said else []
    command = ["import", str(tmp_path / "out"), "--model", str(BASES["bert"]), "--out", str(tmp_path / "again"), *told]
    assert main(command) == 0
    assert adapter.load(tmp_path / "again")[1].problem == problem


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"labels": ["a", "b", "c"]}, "accepted: one of 2 outputs, as the head has"),
        ({"problem": "regression"}, "labels of a regression are 2; accepted: 1"),
        ({"problem": "ranking"}, "problem is 'ranking'; accepted"),
        ({"problem": "tokens"}, "accepted: classification, multilabel, regression, which have logits per example"),
        ({"labels": ["a", "a"]}, "accepted: every label once"),
    ],
)
def test_what_the_head_cannot_be_is_refused(told: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        import_adapter(HERE / "peft-lora-bert" / "adapter", str(BASES["bert"]), tmp_path / "out", **told)


@pytest.mark.parametrize("case", ["peft-lora-bert", "adapterhub-seq-bn-bert"])
def test_a_base_of_another_name_is_warned_of_with_both(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other-base"
    shutil.copytree(BASES["bert"], other)
    command = ["import", str(HERE / case / "adapter"), "--out", str(tmp_path / "out"), "--model"]
    assert main([*command, str(other)]) == 0
    warning = capsys.readouterr().err
    assert "_bert-base as its base" in warning
    assert f"{other} is given" in warning
    assert main([*command, str(BASES["bert"])]) == 0
    assert capsys.readouterr().err == ""


def test_an_encoder_without_a_pooler_is_refused_where_the_head_reads_it(tmp_path: Path) -> None:
    base = tmp_path / "_bert-base"
    shutil.copytree(BASES["bert"], base)
    path = base / "model.safetensors"
    save_file({name: x for name, x in load_file(path).items() if "pooler" not in name}, path)
    with pytest.raises(ValueError, match="has no pooler, which the head of .* reads; accepted: an encoder with one"):
        import_adapter(HERE / "peft-lora-bert" / "adapter", str(base), tmp_path / "out")


def logits_of(folder: Path, base: Path) -> np.ndarray:
    import jax.numpy as jnp

    from adakron_jax.encoders.inputs import padded

    card = adapter.read_card(folder / "adapter.json")
    model, params, _ = adapter.attach(folder, pretrained.read(base, card.encoder))
    ids = jnp.asarray([[1, 5, 7, 9, 2], [1, 6, 2, 0, 0]])
    return np.asarray(model.apply({"params": params}, padded(ids, jnp.asarray(ids > 0, jnp.int32))))


def test_a_new_pooler_goes_out_as_the_pooler_that_it_is(tmp_path: Path) -> None:
    card = card_of("bert", methods.LoRA(r=2), {"pooling": "first", "head": "tanh"})
    saved(tmp_path / "adapter", card)
    export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")
    import_adapter(tmp_path / "out", card.base, tmp_path / "again")
    before, after = (logits_of(tmp_path / name, Path(card.base)) for name in ("adapter", "again"))
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-5)


def card_on(base: Path, config: EncoderConfig, fields: dict[str, Any]) -> Card:
    """A card of LoRA on another encoder than the stored ones."""
    others = {"base": str(base), "fingerprint": pretrained.fingerprint(pretrained.read(base, config))}
    return dataclasses.replace(
        card_of("bert", methods.LoRA(r=2), {}), **others, encoder=config, max_length=config.max_length, **fields
    )


def modernbert(folder: Path) -> Path:
    """A folder with a tiny ModernBERT, whose own head reads the first token."""
    folder.mkdir()
    write_encoder(MODERNBERT, folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_modernbert_s_pooling_goes_out_in_its_config(pooling: str, tmp_path: Path) -> None:
    base, config = modernbert(tmp_path / "base"), MODERNBERT
    saved(tmp_path / "adapter", card_on(base, config, {"pooling": pooling}))
    export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")
    said = json.loads((tmp_path / "out" / "config.json").read_text())["classifier_pooling"]
    assert said == {"mean": "mean", "first": "cls"}[pooling]
    again = import_adapter(tmp_path / "out", str(base), tmp_path / "again")
    assert again.pooling == ("pooler" if said == config.pooling else pooling)
    before, after = (logits_of(tmp_path / name, base) for name in ("adapter", "again"))
    np.testing.assert_allclose(after, before, rtol=0, atol=2e-5)


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
def test_a_token_classifier_goes_out_and_comes_in_with_its_labels(model_type: str, tmp_path: Path) -> None:
    base = modernbert(tmp_path / "base") if model_type == "modernbert" else BASES["bert"]
    config = EncoderConfig.from_folder(base)
    problem = Tokens(("I-name", "O", "B-name"))
    saved(tmp_path / "adapter", card_on(base, config, {"problem": problem, "pooling": "mean"}))
    export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert said["architectures"] == [
        f"{ {'bert': 'Bert', 'modernbert': 'ModernBert'}[model_type] }ForTokenClassification"
    ]
    assert said["id2label"] == {"0": "I-name", "1": "O", "2": "B-name"}
    assert "problem_type" not in said
    again = import_adapter(tmp_path / "out", str(base), tmp_path / "again")
    assert again.problem == problem
    before, after = (logits_of(tmp_path / name, base) for name in ("adapter", "again"))
    # Rounding the fused weights to float32 alone moves ModernBERT's by 2e-5, as computed in float64.
    np.testing.assert_allclose(after[0], before[0], rtol=0, atol=5e-5)


def test_a_token_head_alone_on_the_base_is_a_head(tmp_path: Path) -> None:
    saved(tmp_path / "adapter", card_of("bert", methods.Head(), TOKENS))
    export_adapter(str(tmp_path / "adapter"), "huggingface", tmp_path / "out")
    says(tmp_path / "out", architectures=None)
    again = import_adapter(tmp_path / "out", str(BASES["bert"]), tmp_path / "again", problem="tokens")
    assert (again.method, again.problem) == (methods.Head(), TOKENS["problem"])


def test_peft_of_modernbert_is_refused_with_the_way_round(tmp_path: Path) -> None:
    base = modernbert(tmp_path / "base")
    folder = peft_folder(tmp_path / "peft")
    path = folder / "adapter_model.safetensors"
    save_file({"base_model.model.classifier.weight": np.zeros((2, MODERNBERT.hidden_size), np.float32)}, path)
    with pytest.raises(ValueError, match=r"several projections as one matrix \(Wi, Wqkv\).*merge_and_unload"):
        import_adapter(folder, str(base), tmp_path / "out")


@pytest.mark.parametrize(
    ("case", "shared"),
    [("peft-vera-roberta", ("vera_A", "vera_B")), ("peft-randlora-roberta", ("randlora_A", "randlora_B"))],
)
def test_projections_that_peft_did_not_save_are_drawn_again_bit_for_bit(
    case: str, shared: tuple[str, str], tmp_path: Path
) -> None:
    whole = HERE / case / "adapter"
    shutil.copytree(whole, tmp_path / "adapter")
    tensors = load_file(whole / "adapter_model.safetensors").items()
    save_file(
        {name: x for name, x in tensors if not name.endswith(shared)}, tmp_path / "adapter/adapter_model.safetensors"
    )
    said = json.loads((whole / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(said | {"save_projection": False}))
    leaves = []
    for folder, out in ((whole, "saved"), (tmp_path / "adapter", "drawn")):
        import_adapter(folder, str(BASES["roberta"]), tmp_path / out)
        leaves.append(flatten(adapter.load(tmp_path / out)[0]))
    assert equal(*leaves)


def test_all_linear_of_electra_is_refused_with_the_module_that_no_method_reaches(tmp_path: Path) -> None:
    electra, folder = TINY["electra"], peft_folder(tmp_path / "peft")
    write_encoder(electra, tmp_path / "base")
    tensors = {
        "classifier.out_proj.weight": (2, electra.hidden_size),
        "electra.embeddings_project.lora_A.weight": (4, 8),
    }
    zeros = {f"base_model.model.{name}": np.zeros(shape, np.float32) for name, shape in tensors.items()}
    save_file(zeros, folder / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="an adapter is on electra.embeddings_project, which no method here reaches"):
        import_adapter(folder, str(tmp_path / "base"), tmp_path / "out")
