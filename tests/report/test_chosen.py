"""The report of a selection: what was chosen and from what, apart from runs at other values."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.methods import AdaKron, BitFit, Pfeiffer
from tests.report.conftest import Report, records, write_run
from tests.support.wellformed import Wellformed
from train.output.selection_file import Candidate, Choice, best_of, edges_of, read, write
from train.report.runs import read_folder
from train.report.tables import tabulate

RATES = (5e-4, 1e-3, 2e-3)


def choice(method: str, scores: tuple[float, ...], task: str = "rte", rates: tuple[float, ...] = RATES) -> Choice:
    """The choice among rates by these scores, and in the folder's order of names."""
    candidates = tuple(
        Candidate({"learning_rate": rate}, (score, score + 0.02), 5, grown=rate == 2e-3)
        for rate, score in zip(rates, scores, strict=True)
    )
    best = best_of(candidates, "accuracy")
    assert best is not None
    edges, group = edges_of(candidates, candidates[best]), f"{task}-{method}"
    cell = f"{group}-lr{candidates[best].values['learning_rate']:g}"
    return Choice(group, cell, task, "accuracy", ("learning_rate",), "0.1", candidates, best, edges)


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """AdaKron at an edge and Pfeiffer in the middle of what was tried, on RTE, three seeds each."""
    folder = tmp_path / "tuned"
    folder.mkdir()
    write(folder, [choice("adakron", (0.5, 0.6, 0.7)), choice("pfeiffer", (0.5, 0.6, 0.55))])
    for method, rate, scores in ((AdaKron(), 2e-3, (0.71, 0.74, 0.74)), (Pfeiffer(), 1e-3, (0.70, 0.70, 0.73))):
        for seed, score in enumerate(scores, start=1):
            known: dict[str, Any] = {"seed": seed, "learning_rate": rate, "epochs": 5, "evaluate_once": 5}
            write_run(folder / f"rte-{method.name}-lr{rate:g}-seed{seed}", [score], method, **known)
    write_run(folder / "selection" / "rte-adakron-lr0.002-seed0", 0.9, learning_rate=2e-3)
    return folder


def test_what_was_chosen_stands_with_what_was_tried(tuned: Path, report: Report):
    files, said = report(tuned)
    assert said == ""
    row = (
        "| RTE accuracy | adakron 12x4 | learning rate 0.002; the highest learning rate tried; beyond those asked for |"
    )
    assert f"{row} 51.00 at 0.0005, 61.00 at 0.001, 71.00 at 0.002 (0.1 held out, means of 2 runs) |" in files["md"]
    row = "| RTE accuracy | pfeiffer 48 | learning rate 0.001 |"
    assert f"{row} 51.00 at 0.0005, 61.00 at 0.001, 56.00 at 0.002 (0.1 held out, means of 2 runs) |" in files["md"]
    gains = "RTE accuracy, gain over learning rate 0.002, the best for all: adakron 12x4 0.0, pfeiffer 48 +5.0"
    assert f"- {gains}\n" in files["md"]
    assert f"<li>{gains}</li>" in files["html"]
    assert "adakron 12x4 − pfeiffer 48: +2.0 \\[+1.0, +4.0\\], 3 common seeds" in files["md"]
    assert files["md"].count("###") == files["md"].count("### What was chosen") + 2
    (cell,) = records(files["csv"], method="adakron 12x4", task="rte")
    assert (cell["selected"], cell["epoch"]) == ("learning rate 0.002", "best")


def test_gains_are_over_the_value_that_most_methods_tried(tuned: Path, report: Report):
    chosen = [choice("adakron", (0.5, 0.6, 0.7)), choice("pfeiffer", (0.5, 0.6, 0.55))]
    write(tuned, [*chosen, choice("bitfit", (0.6, 0.8, 0.7), rates=(2e-3, 4e-3, 8e-3))])
    for seed in (1, 2, 3):
        known: dict[str, Any] = {"seed": seed, "learning_rate": 4e-3, "epochs": 5, "evaluate_once": 5}
        write_run(tuned / f"rte-bitfit-lr0.004-seed{seed}", [0.7], BitFit(), **known)
    gains = "adakron 12x4 0.0, bitfit +20.0, pfeiffer 48 +5.0"
    assert f"gain over learning rate 0.002, the best for all: {gains}\n" in report(tuned)[0]["md"]
    write(tuned, [*chosen, choice("bitfit", (0.8, 0.7, 0.6), rates=(4e-3, 8e-3, 16e-3))])
    gains = "adakron 12x4 0.0, pfeiffer 48 +5.0"
    assert f"gain over learning rate 0.002, the best that 2 methods tried: {gains}\n" in report(tuned)[0]["md"]


def test_the_page_draws_a_curve_of_each_task_that_says_what_was_chosen(tuned: Path, report: Report):
    page = report(tuned)[0]["html"]
    Wellformed(page)
    assert "RTE accuracy on held-out rows by learning rate" in page
    assert "Chosen: adakron 12x4: learning rate 0.002; pfeiffer 48: learning rate 0.001" in page
    assert "A circle marks the chosen value, a square one at an edge of those tried." in page


def test_a_curve_of_many_rates_has_ticks_at_powers_of_ten_and_grows_with_its_legend(tuned: Path, report: Report):
    few = report(tuned)[0]["html"]
    rates = tuple(3e-5 * 2**n for n in range(8))
    more = [choice(f"method{n}", (0.5,) * 7 + (0.6,), rates=rates) for n in range(6)]
    write(tuned, [choice("adakron", (0.5, 0.6, 0.7)), *more])
    for n in range(6):
        for seed in (1, 2, 3):
            known: dict[str, Any] = {"seed": seed, "learning_rate": rates[-1], "epochs": 5, "evaluate_once": 5}
            write_run(tuned / f"rte-method{n}-lr{rates[-1]:g}-seed{seed}", [0.7], AdaKron((8, n + 1)), **known)
    many = report(tuned)[0]["html"]
    assert ">0.0005</text>" in few
    assert ">0.0005</text>" not in many
    assert ">0.0001</text>" in many
    assert ">0.001</text>" in many
    heights = [float(re.findall(r'viewBox="0 0 259.2 ([0-9.]+)"', page)[-1]) for page in (few, many)]
    assert heights[1] > heights[0]


def test_runs_at_selected_values_and_others_are_never_in_one_table(tuned: Path, report: Report):
    write_run(tuned.parent / "other", [0.99], seed=1, epochs=5)
    write_run(tuned.parent / "another", [0.99], AdaKron((8, 4)), seed=2, learning_rate=2e-3, epochs=5, evaluate_once=5)
    selected = [(table.selected, len(table.runs)) for table in tabulate(read_folder(tuned.parent)[0])]
    assert selected == [(("learning_rate",), 6), ((), 2)]
    assert "Runs at other values are in another table." in report(tuned.parent)[0]["md"]


def test_runs_at_values_that_are_no_longer_chosen_are_left_out(tuned: Path, report: Report):
    write_run(tuned / "rte-adakron-lr0.001-seed1", 0.9, seed=1, learning_rate=1e-3)
    files, said = report(tuned)
    assert "trained at values that selection.json does not name, so left out: rte-adakron-lr0.001-seed1" in said
    (cell,) = records(files["csv"], method="adakron 12x4", task="rte")
    assert cell["seeds"] == "1 2 3"


def test_without_a_sound_record_of_the_choice_its_runs_are_left_out(tuned: Path, report: Report):
    write_run(tuned.parent / "other", 0.9)
    (tuned / "selection.json").write_text("{")
    _, said = report(tuned.parent)
    assert "selection.json is damaged, so the runs beside it are left out: tuned" in said
    assert [run.folder for run in read_folder(tuned.parent)[0]] == ["other"]


def test_several_fields_are_named_with_every_score(tuned: Path, report: Report):
    first, second = read(tuned / "selection.json")
    more = {"weight_decay": 0.1, "pooling": "mean"}
    several = tuple(dataclasses.replace(one, values={**one.values, **more}) for one in first.candidates)
    write(tuned, [dataclasses.replace(first, fields=(*first.fields, *more), candidates=several), second])
    files, _ = report(tuned)
    assert "71.00 at learning rate 0.002, weight decay 0.1, pooling mean" in files["md"]
    assert "learning rate and weight decay and pooling selected" in files["md"]  # a table of its own
