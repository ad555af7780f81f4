"""What is damaged, of another program or of another encoder: one line that names it, and exit code 2."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adakron_jax.cli.main import main
from adakron_jax.io.files import write_whole

HERE = Path(__file__).parent
Change = Callable[[Path], None]


def said(file: str, *path: Any, **values: Any) -> Change:
    """Other values of some fields of a description, at a path below its top."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / file).read_text())
        part = whole
        for key in path:
            part = part[key]
        part |= values
        (folder / file).write_text(json.dumps(whole))

    return change


def tensors(file: str, edit: Callable[[dict[str, np.ndarray]], Any]) -> Change:
    """Other tensors."""

    def change(folder: Path) -> None:
        found = load_file(folder / file)
        edit(found)
        save_file(found, folder / file)

    return change


def contents(file: str, make: Callable[[bytes], bytes]) -> Change:
    return lambda folder: write_whole(folder / file, make((folder / file).read_bytes()))


def pickled(file: str, name: str) -> Change:
    return lambda folder: os.replace(folder / file, folder / name)


PEFT, HUB, HEAD = "adapter_model.safetensors", "adapter.safetensors", "model_head.safetensors"
CONFIG = "adapter_config.json"
QUERY = "base_model.model.bert.encoder.layer.1.attention.self.query.lora_A.weight"
DOWN = "bert.encoder.layer.2.output.adapters.demo.adapter_down.0.weight"
# Case, what is done to it, what the line says.
CASES: list[tuple[str, Change, str]] = [
    ("peft-lora-bert", tensors(PEFT, lambda x: x.pop(QUERY)), f"missing {QUERY.removeprefix('base_model.model.')}"),
    ("peft-lora-bert", tensors(PEFT, lambda x: x.update(more=np.zeros(3, np.float32))), "unexpected more (3,)"),
    ("peft-lora-bert", tensors(PEFT, lambda x: x.update({QUERY: x[QUERY][:, :-1].copy()})), "expected (4, 32)"),
    ("peft-lora-bert", tensors(PEFT, lambda x: x.update({QUERY: x[QUERY].astype(np.float64)})), "holds float64"),
    ("peft-lora-bert", said(CONFIG, r=8), "misshapen bert.encoder.layer.0.attention.self.query.lora_A.weight (4, 32)"),
    ("peft-lora-bert", said(CONFIG, r=10**12), "expected (1000000000000, 32)"),
    ("peft-lora-bert", said(CONFIG, r="4"), "r is '4', which is not supported; accepted: a whole number"),
    ("peft-lora-bert", said(CONFIG, bias="all"), "bias is 'all'"),
    ("peft-lora-bert", said(CONFIG, init_lora_weights="olora"), "init_lora_weights is 'olora'"),
    ("peft-lora-bert", said(CONFIG, use_dora=True), "missing bert.encoder.layer.0.attention.self.query.lora_magnitude"),
    ("peft-dora-bert", said(CONFIG, use_dora=False), "unexpected bert.encoder.layer.0.attention.self.query.lora_magni"),
    ("peft-dora-bert", said(CONFIG, init_lora_weights="pissa"), "accepted: false, with init_lora_weights pissa"),
    (
        "peft-dora-bert",
        said(CONFIG, target_modules=["query", "0.attention.self.value"]),
        "target_modules names no value in layer 1; accepted for DoRA: the same modules in all of its layers",
    ),
    ("peft-pissa-bert", said(CONFIG, init_lora_weights="pissa_niter_4"), "init_lora_weights is 'pissa_niter_4'"),
    ("peft-pissa-bert", said(CONFIG, rank_pattern={"query": 2}), "accepted: one rank, with init_lora_weights pissa"),
    ("peft-hira-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-hira-bert", said(CONFIG, r=5), "misshapen bert.encoder.layer.0.attention.self.query.hira_A (4, 32)"),
    (
        "peft-randlora-roberta",
        said(CONFIG, save_projection=False, sparse=True),
        "sparse is True, which is not supported; accepted: false",
    ),
    ("peft-randlora-roberta", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    (
        "peft-randlora-roberta",
        tensors(PEFT, lambda x: x.update({"base_model.randlora_A": 2 * x["base_model.randlora_A"]})),
        "randlora_A differs from its copies",
    ),
    ("peft-vblora-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-vblora-bert", said(CONFIG, topk=13), "method.topk is 13; accepted: 1 to 12, the vectors"),
    ("peft-vblora-bert", said(CONFIG, vector_length=5), "method.vector_length is 5; accepted: a divisor of 32 and 32"),
    ("peft-vblora-topk-roberta", said(CONFIG, topk=2), "topk_indices holds other indices; accepted: 2 different ones"),
    ("peft-miss-bat-roberta", said(CONFIG, init_weights=True), "(8, 4, 4), expected (4, 32)"),
    ("peft-miss-bat-roberta", said(CONFIG, init_weights="cat"), "init_weights is 'cat', which is not supported"),
    ("peft-miss-mini-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-lora-bert", said(CONFIG, modules_to_save=["classifier", "pooler"]), "modules_to_save is ['pooler']"),
    ("peft-lora-bert", said(CONFIG, novelty={"a": 1}), "novelty is {'a': 1}, which is not known here"),
    ("peft-lora-bert", said(CONFIG, rank_pattern={"(": 2}), "is not a regular expression"),
    ("peft-lora-bert", said(CONFIG, target_modules=r"(\w|\w|.)*(\w|.|\w)*\d\d"), "takes too long to match"),
    ("peft-lora-bert", said(CONFIG, target_modules=["q_proj"]), "target_modules names none"),
    ("peft-lora-bert", said(CONFIG, task_type="QUESTION_ANS"), "is not supported; accepted: SEQ_CLS, TOKEN_CLS"),
    (
        "peft-lora-bert",
        tensors(PEFT, lambda x: x.update({"base_model.model.bert.pooler.dense.lora_A.weight": x[QUERY]})),
        "an adapter is on bert.pooler.dense, which no method here reaches; accepted: one on the layers' ",
    ),
    (
        "peft-lora-bert",
        tensors(PEFT, lambda x: x.update({QUERY.removeprefix("base_model.model."): x[QUERY]})),
        "is there twice; accepted: every tensor once",
    ),
    ("peft-lora-bert", said(CONFIG, peft_type="BOFT"), "peft_type is 'BOFT', which is not supported; accepted: LORA"),
    ("peft-lora-bert", tensors(PEFT, lambda x: x.pop("base_model.model.classifier.weight")), "no classification head"),
    ("peft-lora-bert", contents(PEFT, lambda x: x[:-5]), "Error while deserializing header"),
    ("peft-lora-bert", contents(PEFT, lambda x: struct.pack("<Q", 100 << 30) + x[8:]), "header too large"),
    ("peft-lora-bert", contents(PEFT, lambda x: b""), "header too small"),
    ("peft-lora-bert", contents(CONFIG, lambda x: x[:-9]), f"{CONFIG}: "),
    ("peft-lora-bert", contents(CONFIG, lambda x: b"[" * 100_000), f"{CONFIG}: "),
    ("peft-lora-bert", contents(CONFIG, lambda x: x + b" " * (17 << 20)), "accepted: at most 16,777,216"),
    ("peft-lora-bert", pickled(PEFT, "adapter_model.bin"), "never loaded, since loading them can run code"),
    ("peft-vera-roberta", said(CONFIG, projection_prng_key=1 << 32), "projection_prng_key is 4294967296"),
    ("peft-vera-roberta", said(CONFIG, save_projection=False, r=10**12), "expected (1000000000000, 32)"),
    ("peft-fourierft-bert", said(CONFIG, n_frequency=49), "misshapen bert.encoder.layer.0.attention.self.query"),
    ("peft-fourierft-bert", said(CONFIG, random_loc_seed=-1), "random_loc_seed is -1, which is not supported"),
    ("peft-fourierft-bert", said(CONFIG, bias="all"), "bias is 'all'"),
    ("peft-fourierft-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-c3a-roberta", said(CONFIG, block_size=5), "method.block_size is 5; accepted: a divisor of 32 and 32"),
    ("peft-c3a-roberta", said(CONFIG, block_size_pattern={"query": 4}), "accepted: one block size for all modules"),
    ("peft-c3a-roberta", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-lntuning-bert", said(CONFIG, target_modules=["dense"]), "target_modules names no LayerNorm"),
    ("peft-lntuning-bert", said(CONFIG, target_modules=["output.LayerNorm"]), "unexpected bert.embeddings.LayerNorm"),
    ("peft-lntuning-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-oft-bert", said(CONFIG, oft_block_size=4), "misshapen bert.encoder.layer.0.attention.self.query.oft_R"),
    ("peft-oft-bert", said(CONFIG, r=4), "r and oft_block_size is (4, 8), which is not supported"),
    ("peft-oft-bert", said(CONFIG, coft=True), "coft is True"),
    ("peft-oft-bert", said(CONFIG, block_share=True), "block_share is True"),
    ("peft-oft-bert", said(CONFIG, novelty=1), "novelty is 1, which is not known here"),
    ("peft-prefix-bert", said(CONFIG, num_virtual_tokens=4), "misshapen prompt_embeddings (3, 192), expected (4, 192)"),
    ("peft-lokr-bert", said(CONFIG, decompose_factor=2), "misshapen"),
    ("peft-lokr-lowrank-roberta", said(CONFIG, r=3), "misshapen"),
    ("adapterhub-seq-bn-bert", tensors(HUB, lambda x: x.pop(DOWN)), f"missing {DOWN} (8, 32)"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", reduction_factor=2), "expected (16, 32)"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", reduction_factor=1e-9), "reduction_factor is 1e-09"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", leave_out=[2]), f"unexpected {DOWN.rpartition('.')[0]}.bias"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", is_parallel=True), "is_parallel is True"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", scaling="learned"), "scaling is 'learned'"),
    ("adapterhub-seq-bn-bert", said(CONFIG, "config", non_linearity="mish"), "non_linearity is 'mish'"),
    ("adapterhub-seq-bn-bert", said(CONFIG, hidden_size=48), "hidden_size is 48"),
    ("adapterhub-seq-bn-bert", said(CONFIG, model_class="BertForQuestionAnswering"), "model_class is"),
    ("adapterhub-seq-bn-bert", said("head_config.json", "config", layers=3), "layers is 3"),
    (
        "adapterhub-seq-bn-bert",
        said("head_config.json", "config", head_type="causal_lm"),
        "accepted: classification, multilabel_classification, tagging",
    ),
    ("adapterhub-seq-bn-bert", said("head_config.json", "config", activation_function="mish"), "is 'mish'"),
    ("adapterhub-seq-bn-bert", said("head_config.json", "config", label2id={"a": 0, "b": 2}), "label2id is"),
    ("adapterhub-seq-bn-bert", pickled(HUB, "pytorch_adapter.bin"), "only pytorch_adapter.bin, a pickle"),
    ("adapterhub-seq-bn-bert", pickled(HEAD, "pytorch_model_head.bin"), "only pytorch_model_head.bin, a pickle"),
    ("adapterhub-seq-bn-bert", lambda folder: (folder / "head_config.json").unlink(), "head_config.json: "),
    ("adapterhub-seq-bn-bert", lambda folder: (folder / CONFIG).unlink(), "neither adapter_config.json nor"),
    ("adapterhub-lora-roberta", said(CONFIG, "config", use_gating=True), "use_gating is True"),
    (
        "adapterhub-lora-roberta",
        said("head_config.json", "config", use_pooler=True),
        "roberta has no pretrained pooler",
    ),
    ("adapterhub-loreft-roberta", said(CONFIG, "config", orthogonality=False), "orthogonality is False"),
    ("adapterhub-loreft-roberta", said(CONFIG, "config", tied_weights=True), "tied_weights is True"),
    ("adapterhub-loreft-roberta", said(CONFIG, "config", prefix_positions=0), "accepted: a unit somewhere"),
    ("adapterhub-loreft-roberta", said(CONFIG, "config", novelty=1), "novelty is 1, which is not known here"),
    (
        "adapterhub-loreft-roberta",
        tensors(HUB, lambda x: [np.fill_diagonal(y, 0) for name, y in x.items() if name.endswith(".original")]),
        "has other numbers than -1 on its diagonal; accepted: -1",
    ),
    ("adapterhub-ia3-bert", said(CONFIG, "config", alpha=2), "r and alpha is (1, 2.0)"),
    ("adapterhub-prefix-tuning-bert", said(CONFIG, "config", prefix_length=4), "expected (4, 32)"),
    (
        "adapterhub-unipelt-bert",
        said(CONFIG, "config", "configs", 2, use_gating=False),
        "true, of every part of a union",
    ),
    ("adapterhub-compacter-bert", said(CONFIG, "config", phm_dim=3), "method.reduction is 4"),
]


@pytest.mark.parametrize(("case", "change", "line"), CASES, ids=[f"{case}-{line[:40]}" for case, _, line in CASES])
def test_a_damaged_or_foreign_adapter_is_refused(
    case: str, change: Change, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(HERE / case / "adapter", folder)
    change(folder)
    base = json.loads((HERE / case / "case.json").read_text())["base"]
    assert line in refusal(capsys, str(folder), str(HERE / base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def refusal(capsys: pytest.CaptureFixture[str], folder: str, base: str, out: Path) -> str:
    """The one line on stderr."""
    assert main(["import", folder, "--model", base, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("peft-lora-bert", "no classification head of roberta (classifier.out_proj.weight)"),
        ("adapterhub-seq-bn-bert", "model_type is 'bert', which is not supported; accepted: 'roberta'"),
    ],
)
def test_another_architecture_is_refused(
    case: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refusal(capsys, str(HERE / case / "adapter"), str(HERE / "_roberta-base"), tmp_path / "out")
    assert line in found


def test_a_folder_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refusal(capsys, str(tmp_path / "x"), str(HERE / "_bert-base"), tmp_path / "out")
