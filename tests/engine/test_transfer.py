"""`--init-from`: what of another task's adapter a run starts from, and what is refused."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adakron_jax import adapter
from adakron_jax.methods import AdaKron, BitFit, VeRA
from adakron_jax.params import flatten
from adakron_jax.splice import Method
from benchmarks.shapes import write_tiny
from tests.engine.test_resume import snapshot, stop_after
from tests.engine.test_run import call, read_json
from tests.test_submission import save_run
from train.data.glue import TASKS
from train.engine.initial import initial_params, make_model
from train.options.config import RunConfig
from train.options.model import Pretrained

ADAKRON = AdaKron((2, 2))
SMALL = ["--data", "mini", "--batch-size", "8", "--limit-train", "64", "--limit-eval", "8", "--max-length", "32"]
SMALL += ["--epochs", "2", "--method.factors", "2", "2"]


def start(tiny: Path, out: Path, task: str, method: Method, init_from: str = "") -> Mapping[str, Any]:
    """All leaves with which a run would begin."""
    config = RunConfig(task, str(tiny), "mini", str(out), method=method, max_length=32, limit_train=8, limit_eval=8)
    problem, base = TASKS[task].problem, Pretrained(config.model)
    model = make_model(config, problem, base)
    config = dataclasses.replace(config, init_from=init_from)
    return flatten(initial_params(config, model, problem, base, np.zeros(8, np.int32)))


@pytest.mark.parametrize(
    ("method", "before", "after", "head"),
    [
        (ADAKRON, "mnli", "rte", False),
        (ADAKRON, "qnli", "rte", True),
        (BitFit(), "mnli", "rte", False),
        (VeRA(r=4), "rte", "rte", True),
    ],
    ids=["another head", "the same labels", "leaves of the encoder", "frozen leaves"],
)
def test_a_run_starts_from_all_that_the_adapter_holds_and_from_its_head_if_the_labels_agree(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: Method, before: str, after: str, head: bool
):
    source = save_run(tmp_path / "source", tiny, TASKS[before], method=method) / "adapter"
    held = flatten(adapter.load(source)[0])
    taken = {path for path in held if head or not path.startswith("classifier/")}
    fresh, begun = start(tiny, tmp_path / "a", after, method), start(tiny, tmp_path / "b", after, method, str(source))
    assert begun.keys() == fresh.keys()
    for path, leaf in begun.items():
        np.testing.assert_array_equal(leaf, held[path] if path in taken else fresh[path], err_msg=path)
    said = " ".join(capsys.readouterr().out.split())
    count = sum(held[path].size for path in taken)
    assert f"starts from {source}, trained on {before}: {count:,} parameters, " in said
    assert ("with its head" if head else "without its head, which predicts entailment, neutral, contradiction") in said


def other_encoder(source: Path, tiny: Path, folder: Path) -> list[object]:
    write_tiny(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"bert.pooler.dense.bias": tensors["bert.pooler.dense.bias"] + 1}, folder / "model.safetensors")
    return ["--model", folder]


def damaged(source: Path, tiny: Path, folder: Path) -> list[object]:
    (source / "adapter.safetensors").write_bytes(b"no tensors")
    return []


REFUSALS = {
    "another method": (
        lambda *_: ["--method.factors", "4", "2"],
        "trained with AdaKron(layers='all', factors=(2, 2), ",
        "factors=(4, 2), ",
    ),
    "another encoder": (other_encoder, "trained on ", "whose fingerprint is "),
    "no adapter": (lambda source, *_: ["--init-from", source.parent], "init_from is ", "which has no adapter.json"),
    "a damaged adapter": (damaged, "adapter.safetensors: ", ""),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_cannot_be_started_from_is_refused_in_one_line_and_leaves_nothing(
    tiny: Path, tmp_path: Path, refusal: str
):
    make, *named = REFUSALS[refusal]
    source = save_run(tmp_path / "source", tiny, TASKS["mnli"], method=ADAKRON) / "adapter"
    flags = ["--task", "rte", "--model", tiny, "--init-from", source, "--out", tmp_path / "out"]
    flags += make(source, tiny, tmp_path / "other")
    before = snapshot(tmp_path)
    ended = call(*SMALL, *flags)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert all(part in ended.err for part in named)
    assert snapshot(tmp_path) == before


def test_a_grid_refuses_the_adapter_of_another_method_before_its_first_cell(tiny: Path, tmp_path: Path):
    source = save_run(tmp_path / "source", tiny, TASKS["mnli"], method=AdaKron((4, 2))) / "adapter"
    ended = call(
        *SMALL, "--task", "rte", "--seed", 0, 1, "--model", tiny, "--init-from", source, "--out", tmp_path / "o"
    )
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert not (tmp_path / "o").exists()


def test_a_resumed_run_needs_the_adapter_no_more_and_ends_as_if_it_had_not_been_stopped(tiny: Path, tmp_path: Path):
    source = save_run(tmp_path / "source", tiny, TASKS["mnli"], method=ADAKRON) / "adapter"
    flags = [*SMALL, "--task", "rte", "--model", str(tiny), "--init-from", str(source)]
    assert call(*flags, "--out", tmp_path / "whole").code == 0
    assert stop_after([*flags, "--out", str(tmp_path / "parts")], 5).code == 130
    shutil.rmtree(source)
    ended = call(*flags, "--out", tmp_path / "parts")
    assert (ended.code, ended.err) == (0, "")
    assert "starts from" not in ended.out
    whole, parts = (tmp_path / name / "adapter/adapter.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    best = [read_json(tmp_path / name / "result.json")["best"] for name in ("whole", "parts")]
    assert best[0] == best[1]
