"""The report of runs on tables of one's own: what is told apart, in which unit, and where the best run goes wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax.evaluation import assess
from adakron_jax.problems import Problem, make
from tests.report.conftest import Report, records
from tests.support.results import write_result
from tests.support.wellformed import Wellformed
from train.options.config import RunConfig

REVIEWS = make("classification", ("bad", "good", "<b>so-so</b>"))


def write_own(folder: Path, score: float, rows: str = "a" * 64, problem: Problem = REVIEWS, **values: Any) -> Path:
    """Writes a finished run of two evaluations, the first of them the better one."""
    own = {"task": "reviews", "data": "reviews.csv", "text": ("review",), "label": ("mood",), "epochs": 2}
    test = values.pop("tested", {})
    config = RunConfig(**own | values)
    curve = [
        {"epoch": epoch, "step": 10 * epoch} | dict.fromkeys(problem.metrics, value)
        for epoch, value in enumerate((score, score - 0.1), start=1)
    ]
    known = {"problem": problem.name, "data": rows, "test": test, "best_by": problem.metrics[0]}
    write_result(folder, config, curve, train_examples=80, **known)
    journal = [{"kind": "eval"} | record for record in curve]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in journal))
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    if problem.labels:
        assessment = assess(problem, np.array([0, 1, 2, 2]), logits, ["w", "x", "y", f"text of {score}"])
    else:
        assessment = assess(problem, np.array([0.0, 3.0, 5.0, 9.0]), logits[:, :1], ["w", "x", "y", "z"])
    (folder / "evaluation.json").write_text(json.dumps(assessment.to_dict()))
    return folder


def test_tables_of_other_rows_never_share_a_cell(tmp_path: Path, report: Report):
    write_own(tmp_path / "one", 0.8, "a" * 64)
    write_own(tmp_path / "two", 0.6, "b" * 64)
    files, _ = report(tmp_path)
    cells = records(files["csv"], epoch="best", metric="accuracy")
    assert [(cell["rows"], float(cell["mean"])) for cell in cells] == [("aaaaaaaa", 80.0), ("bbbbbbbb", 60.0)]
    assert files["md"].count("## bert-base-uncased, data reviews, rows") == 2


def test_the_same_rows_are_one_table_wherever_they_lay(tmp_path: Path, report: Report):
    write_own(tmp_path / "one", 0.8, seed=0)
    write_own(tmp_path / "two", 0.6, seed=1, data="elsewhere/reviews.csv")
    (cell,) = records(report(tmp_path)[0]["csv"], epoch="best", metric="accuracy")
    assert (cell["seeds"], float(cell["mean"])) == ("0 1", pytest.approx(70.0))


def test_another_part_that_chooses_is_another_row(tmp_path: Path, report: Report):
    write_own(tmp_path / "one", 0.8)
    write_own(tmp_path / "two", 0.6, validation="0.2")
    cells = records(report(tmp_path)[0]["csv"], epoch="best", metric="accuracy")
    assert ["validation 0.2" in cell["settings"] for cell in cells] in ([True, False], [False, True])


def test_folds_are_the_runs_of_one_cell(tmp_path: Path, report: Report):
    for fold, score in enumerate((0.8, 0.7, 0.9), start=1):
        write_own(tmp_path / f"fold{fold}", score, folds=3, fold=fold)
    files, _ = report(tmp_path)
    (cell,) = records(files["csv"], epoch="best", metric="accuracy")
    assert (cell["seeds"], cell["seeds_wanted"]) == ("0.1 0.2 0.3", "3")
    assert "80.0 ± 10.0 (median 80.0 · 3 folds)" in files["md"]
    assert "seed 0, folds 1, 2, 3 of 3" in files["md"]


def test_errors_stand_in_their_unit_and_correlations_in_percent(tmp_path: Path, report: Report):
    write_own(tmp_path / "run", 0.8, problem=make("regression"))
    text = report(tmp_path)[0]["csv"]
    means = {name: float(records(text, epoch="best", metric=name)[0]["mean"]) for name in ("pearson", "rmse")}
    assert means == {"pearson": 80.0, "rmse": 0.8}


def test_what_is_scored_once_has_a_block_of_its_own(tmp_path: Path, report: Report):
    write_own(tmp_path / "run", 0.8, test="0.2", tested={"accuracy": 0.75})
    files, _ = report(tmp_path)
    (cell,) = records(files["csv"], epoch="test", metric="accuracy")
    assert float(cell["mean"]) == 75.0
    assert "### Test part, scored once with the best epoch" in files["md"]


def test_the_best_run_says_where_it_goes_wrong(tmp_path: Path, report: Report):
    write_own(tmp_path / "one", 0.8, seed=0)
    write_own(tmp_path / "two", 0.9, seed=1)
    files, _ = report(tmp_path)
    assert "The best run, adakron 12x4, seed 1, and where it goes wrong" in files["md"]
    assert "\\<b\\>so-so\\</b\\>, good: 1" in files["md"]
    page = Wellformed(files["html"])
    assert len(page.ids) == len(set(page.ids))
    assert "text of 0.9" in files["html"]
    assert "text of 0.8" not in files["html"]
    assert "&lt;b&gt;so-so&lt;/b&gt;" in files["html"]
    assert "<b>" not in files["html"]


def test_a_run_that_has_not_ended_is_named(tmp_path: Path, report: Report):
    (write_own(tmp_path / "one", 0.8) / "result.json").unlink()
    files, said = report(tmp_path)
    assert "no result.json, so left out as a run that has not ended: one" in said
    assert files["csv"].count("\n") == 1


def test_a_damaged_evaluation_is_named_and_left_out(tmp_path: Path, report: Report):
    (write_own(tmp_path / "one", 0.8) / "evaluation.json").write_text('{"accuracy": 1}')
    files, said = report(tmp_path)
    assert "evaluation.json is damaged or not of a run" in said
    assert "goes wrong" not in files["html"]
