"""What methods differ by: over common seeds, and over the examples that both predicted."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax.entities.ragged import Ragged
from adakron_jax.methods import BitFit, Head, Pfeiffer
from tests.report.conftest import Report, write_run
from train.output import predictions
from train.output.predictions import Predicted
from train.report.__main__ import main
from train.report.differences import differences, interval, mcnemar, right_wholly
from train.report.runs import read_folder
from train.report.tables import tabulate


def test_a_paired_difference_is_over_common_seeds(two_methods: Path, report: Report):
    write_run(two_methods / "a3", 0.99, seed=3)
    (found,) = differences(tabulate(read_folder(two_methods)[0])[0])
    assert found.examples is None
    assert found.seeds == [0, 1, 2]
    assert found.mean == pytest.approx(2.0)  # of 1, 4, 1
    assert found.interval == pytest.approx((1.0, 4.0))
    assert "adakron 12x4 − pfeiffer 48: +2.0 \\[+1.0, +4.0\\], 3 common seeds" in report(two_methods)[0]["md"]


def test_a_difference_of_fewer_than_three_seeds_has_no_interval(tmp_path: Path, report: Report):
    write_run(tmp_path / "a", 0.7)
    write_run(tmp_path / "p", 0.6, Pfeiffer())
    assert ": adakron 12x4 − pfeiffer 48: +10.0, 1 common seed\n" in report(tmp_path)[0]["md"]
    write_run(tmp_path / "a1", 0.7, seed=1)
    write_run(tmp_path / "p1", 0.5, Pfeiffer(), seed=1)
    assert ": adakron 12x4 − pfeiffer 48: +15.0, 2 common seeds\n" in report(tmp_path)[0]["md"]
    write_run(tmp_path / "b2", 0.6, BitFit(), seed=2)
    write_run(tmp_path / "h2", 0.6, Head(), seed=2)
    lacking = "cannot be computed: no common seed has ended"
    assert f": adakron 12x4 − each of bitfit, head: {lacking}" in report(tmp_path)[0]["md"]


def test_any_pair_of_methods_is_compared(two_methods: Path, capsys: pytest.CaptureFixture[str]):
    write_run(two_methods / "h0", 0.5, Head())
    assert main([str(two_methods), "--compare", "pfeiffer", "head", "--compare", "head", "adakron 12x4"]) == 0
    lines = (two_methods / "report.md").read_text().splitlines()
    assert [line.partition(": ")[2] for line in lines if "common seed" in line and " − " in line] == [
        "pfeiffer 48 − head: +20.0, 1 common seed",
        "head − adakron 12x4: −21.0, 1 common seed",
    ]
    assert main([str(two_methods), "--compare", "pfeiffer", "lora"]) == 2
    accepted = "'adakron', 'adakron 12x4', 'head', 'pfeiffer', 'pfeiffer 48'"
    assert capsys.readouterr().err == f"report: compare is 'lora'; accepted: {accepted}\n"


def test_methods_are_compared_over_the_examples_that_they_predicted(two_methods: Path, report: Report):
    targets = np.repeat([0, 1], 20)
    for seed in range(3):
        for name, wrong in (("a", 4), ("p", 14)):
            predictions = np.where(np.arange(40) < wrong, 1 - targets, targets)
            Predicted(targets, predictions).write(two_methods / f"{name}{seed}", "best")
    said = "over 40 examples \\[+12.5, +40.0\\], McNemar p 0.002, 0.002, 0.002"
    assert said in report(two_methods)[0]["md"]
    write_run(two_methods / "a3", 0.7, seed=3)
    (write_run(two_methods / "p3", 0.7, Pfeiffer(), seed=3) / "result.json").unlink()  # it has not ended
    assert said in report(two_methods)[0]["md"]
    Predicted(targets[:-1], targets[:-1]).write(two_methods / "p2", "best")  # other examples
    assert "over 39" not in report(two_methods)[0]["md"]
    (two_methods / "p1/predictions/best.npz").write_bytes(b"PK")
    text, err = report(two_methods)
    assert "over 40" not in text["md"]
    assert "best.npz" in err


@pytest.mark.parametrize(
    ("left", "right", "p"),
    [([1, 1, 0, 0], [1, 1, 0, 0], 1.0), ([1] * 5, [0] * 5, 0.0625), ([1, 0, 1, 1], [0, 1, 1, 1], 1.0)],
)
def test_mcnemars_test_is_a_fair_coins(left: list[int], right: list[int], p: float):
    assert mcnemar(np.array(left, bool), np.array(right, bool)) == pytest.approx(p)


@pytest.mark.parametrize(
    ("targets", "right"),
    [
        (Ragged(np.array([1, 0, 2]), np.array([0, 2, 2, 3])), [False, True, True]),
        (np.array([[True, False], [True, True]]), [False, True]),
        (np.array([0.5, 1.5]), None),
    ],
)
def test_predictions_are_read_back_and_are_right_as_a_whole(tmp_path: Path, targets: Any, right: list[bool] | None):
    values = targets.values if isinstance(targets, Ragged) else targets
    changed = values.copy()
    changed.flat[0] = 0
    Predicted(targets, targets.like(changed) if isinstance(targets, Ragged) else changed).write(tmp_path, "test")
    again = predictions.read(tmp_path, "test")
    assert again is not None
    hits = right_wholly(again)
    assert (hits if hits is None else hits.tolist()) == right
    assert predictions.read(tmp_path, "best") is None


def test_the_interval_is_the_same_every_time_and_holds_the_mean():
    values = [0.4, -0.2, 1.3, 0.9, 0.1]
    low, high = interval(values) or (0, 0)
    assert (low, high) == interval(values)
    assert min(values) < low < statistics.fmean(values) < high < max(values)
    assert interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    assert interval([1.0, 2.0]) is None


def test_a_pair_whose_epochs_or_batches_differ_is_marked(tmp_path: Path, report: Report):
    write_run(tmp_path / "a", 0.7)
    write_run(tmp_path / "p", 0.6, Pfeiffer(), batch_size=16, epochs=3)
    assert "(2 and 3 epochs, batches of 64 and 16): +10.0" in report(tmp_path)[0]["md"]
    write_run(tmp_path / "b", 0.6, BitFit())
    assert "bitfit: +10.0" in report(tmp_path)[0]["md"]
