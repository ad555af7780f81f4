"""`fit`: the command as a function, on rows of many kinds, in the same folder with the same numbers."""

import csv
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
from rich.console import Console

import adakron_jax as ak
from tests.engine.test_run import call
from tests.support.frames import Polars
from train import fit, signals, terminal
from train.data.sources import MINI
from train.output import selection_file

REVIEWS = MINI / "reviews.csv"
SMALL: dict[str, Any] = {"batch_size": 32, "max_length": 64, "epochs": 1, "learning_rate": 1e-3}
ROWS = list(csv.DictReader(REVIEWS.read_text(encoding="utf-8").splitlines()))
Fit = Callable[..., ak.TextClassifier]


@pytest.fixture
def train(tiny: Path, tmp_path: Path) -> Fit:
    """`fit` of reviews in a few steps."""
    defaults = {"text": "review", "label": "sentiment", "model": tiny, "out": tmp_path / "run", **SMALL}
    return lambda data, **flags: fit(data, **(defaults | flags))


def losses(folder: Path) -> list[float]:
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "train"]


def test_rows_of_every_kind_give_the_numbers_of_the_command_and_one_folder(
    train: Fit, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flags = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    flags += ["--text", "review", "--label", "sentiment", "--model", tiny]
    call("--data", REVIEWS, *flags, "--out", tmp_path / "command")
    classifier = train(ROWS)
    assert losses(tmp_path / "run") == losses(tmp_path / "command")
    assert classifier.predict("a fine film").label in classifier.card.problem.labels
    best = classifier.result.best
    assert repr(classifier.result).startswith("Result(rows, adakron, seed 0: epoch 1 with accuracy ")
    assert classifier.result.to_frame()["best"].to_dict() == best.scores
    capsys.readouterr()
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    for make in (pandas.DataFrame, pyarrow.table, datasets.Dataset.from_dict, Polars):
        assert train(make(columns)).result == classifier.result
        assert "this run has ended" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds a run on other rows than are now in rows:"):
        train(ROWS[:-1])
    ended = call("--data", "rows:12", *flags, "--out", tmp_path / "other")
    assert ended.err == "train: rows:12 stands for rows given to train.fit; accepted: train.fit with them, or a file\n"


def test_lists_of_learning_rates_and_seeds_are_a_grid_with_a_frame(train: Fit, tmp_path: Path):
    codes = datasets.ClassLabel(names=["mixed", "negative", "positive"])
    frame = datasets.Dataset.from_list(ROWS).cast_column("sentiment", codes)
    validation = pandas.DataFrame(ROWS[:12])
    method = ak.LoRA(r=2)
    classifier = train(frame, method=method, validation=validation, learning_rate=[1e-3, 2e-3], seed=np.int64(1))
    assert (classifier.card.method, classifier.card.problem.labels) == (method, ("mixed", "negative", "positive"))
    table = classifier.table
    assert table[["learning_rate", "seed", "state"]].values.tolist() == [[1e-3, 1, "done"], [2e-3, 1, "done"]]
    assert classifier.result.best.scores["accuracy"] == table["accuracy"].max()
    assert Path(table["folder"][0]) == tmp_path / "run" / table["cell"][0]


def test_a_list_of_learning_rates_is_selected_from_and_what_was_chosen_is_returned(train: Fit, tmp_path: Path):
    classifier = train(ROWS, method="head", learning_rate=[1e-3, 1e-2], select=True, select_grow=0)
    (choice,) = selection_file.read(tmp_path / "run/selection.json")
    assert [candidate.values for candidate in choice.candidates] == [{"learning_rate": 1e-3}, {"learning_rate": 1e-2}]
    assert classifier.table["learning_rate"].to_list() == [choice.best.values["learning_rate"]]
    assert classifier.result.best_by == "last"
    with pytest.raises(ValueError, match="learning_rate has one value, 0.001; accepted: several"):
        train(ROWS, method="head", select=True)


def test_a_run_that_is_interrupted_keeps_a_checkpoint_and_the_same_call_goes_on(
    train: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(  # the first step's; a second signal would act at once
        terminal.ProgressLine,
        "update",
        lambda line, step, *given: os.kill(os.getpid(), signal.SIGINT) if step == 1 else None,
    )
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        KeyboardInterrupt, match="stopped after step 2 of 3; the checkpoint is kept in .*/run, and the same"
    ):
        train(ROWS)
    assert signal.getsignal(signal.SIGINT) is handler
    monkeypatch.undo()
    assert train(pandas.DataFrame(ROWS)).result.last.step == 3
    assert "resumed after step 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"learning_rat": 1}, "unknown argument 'learning_rat'; accepted: learning_rate, or another flag of"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; accepted: float"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; accepted: above 0"),
        ({"epochs": 1.5}, "epochs is 1.5; accepted: int"),
        ({"method": "lorra"}, "method is 'lorra'; accepted: adakron"),
        ({"text": "body"}, "data has no column 'body'; available: 'review', 'sentiment'"),
        ({"label": "review"}, "column 'review' is given twice"),
        ({"workers": "local", "seed": [0, 1]}, "workers is 'local', and data are rows"),
        ({"dry_run": True}, "dry_run is True; accepted: on the command line"),
        ({"data": 3}, r"data is 3; accepted: a path, a frame \(collect a lazy one\), or a list of dicts"),
        ({"data": datasets.Dataset.from_list(ROWS).to_iterable_dataset()}, "data is IterableDataset"),
        ({"test": 0.6, "validation": 0.4}, "validation is 0.4 and test 0.6 of the rows"),
        ({"resume": "must"}, "resume is 'must', but .* holds no run"),
    ],
)
def test_what_is_not_accepted_is_a_line(train: Fit, flags: dict[str, Any], line: str):
    with pytest.raises(ValueError, match=line) as refused:
        train(**({"data": ROWS} | flags))
    assert "\n" not in str(refused.value)


def test_in_another_thread_no_signal_is_held():
    def hold() -> list[int]:
        with signals.held() as received:
            return received

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(hold).result() == []


def test_a_notebook_shows_one_bar(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(HTML=str, display=lambda bar, display_id: shown.append(bar) or handle)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(terminal, "console", Console(force_jupyter=True))
    monkeypatch.setattr(terminal, "CELL_SECONDS", 0.0)
    with terminal.ProgressLine(4, 0, 8, lambda step, pace: "") as line:
        line.note("compiling the step")
        line.show(1, 1.0, "loss <1>")
        line.show(2, 1.0)
    assert shown == [
        '<progress value="0" max="4"></progress> compiling the step',
        '<progress value="1" max="4"></progress> step 1/4  loss &lt;1&gt;  left 0:03',
        '<progress value="2" max="4"></progress> step 2/4  left 0:02',
        "",
    ]


def test_importing_the_program_is_cheap():
    code = "import sys, train; sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'adakron_jax')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
