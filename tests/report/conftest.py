"""Runs that are made up, and what a folder's report is."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import BERT_BASE, EncoderConfig
from adakron_jax.methods import AdaKron, Pfeiffer
from adakron_jax.splice import Method
from tests.support.results import write_result
from train.data.glue import TASKS
from train.options.config import RunConfig
from train.output.result import Parameters
from train.report.__main__ import main

OTHER = dataclasses.replace(BERT_BASE, hidden_size=384, num_layers=6)
SIZES = {"adakron": 600, "pfeiffer": 900, "bitfit": 100, "head": 0}
# Of a folder: file suffix -> text of its report, and what was said on stderr.
Report = Callable[[Path], tuple[dict[str, str], str]]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    def of(folder: Path) -> tuple[dict[str, str], str]:
        assert main([str(folder), "--out", str(folder / "out")]) == 0
        files = {path.suffix[1:]: path.read_text("utf-8") for path in (folder / "out").iterdir()}
        return files, capsys.readouterr().err

    return of


def write_run(
    folder: Path,
    score: float | list[float],
    method: Method | None = None,
    encoder: EncoderConfig = OTHER,
    collapsed: bool = False,
    examples: int | None = None,
    early: bool = False,
    **values: Any,
) -> Path:
    """Writes a finished run; scores of its epochs, or the best of two."""
    config = RunConfig(**{"task": "rte", "method": method or AdaKron(), "epochs": 2, "best_by": "last"} | values)
    scores = score if isinstance(score, list) else [score, score - 0.02]
    records = [
        {"epoch": epoch, "step": 10 * epoch}
        | {metric: value - 0.01 * number for number, metric in enumerate(TASKS[config.task].scored)}
        for epoch, value in enumerate(scores, start=1)
    ]
    size = SIZES[config.method.name]
    said = {"collapsed": collapsed, "stopped_early": early, "train_examples": examples}
    params = Parameters(method=size, head=2, base=1000, percent=size / 10)
    write_result(folder, config, records, params=params, **said)
    (folder / "adapter").mkdir()
    journal = [{"kind": "train", "loss": 1.0}, *({"kind": "eval"} | record for record in records)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in journal))
    card = {"encoder": dataclasses.asdict(encoder), "fingerprint": "f" * 64}
    (folder / "adapter" / "adapter.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def two_methods(tmp_path: Path) -> Path:
    """AdaKron and Pfeiffer on RTE, three seeds each."""
    for seed, (ours, theirs) in enumerate([(0.71, 0.70), (0.74, 0.70), (0.74, 0.73)]):
        write_run(tmp_path / f"a{seed}", ours, seed=seed)
        write_run(tmp_path / f"p{seed}", theirs, Pfeiffer(), seed=seed)
    return tmp_path


def records(text: str, **wanted: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(text.splitlines()) if wanted.items() <= row.items()]
