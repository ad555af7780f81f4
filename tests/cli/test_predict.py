"""`predict`: tables keep what they have, lines stand in a pipe, and nothing is left half written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import adakron_jax as ak
from adakron_jax.cli import main as cli
from adakron_jax.cli import predict
from adakron_jax.data import formats, table
from adakron_jax.data.writer import writing
from tests.library.test_classifier import TEXTS, make

ROOT = Path(__file__).parents[2]
ROWS = 23


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("run") / "adapter", tiny, texts=["review"]).parent


@pytest.fixture(autouse=True)
def _programs_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adakron_jax.xla.runtime.set_up", lambda: None)


def write(path: Path, **columns: Any) -> Path:
    columns = {"id": [f"{i:03}" for i in range(ROWS)], "review": TEXTS[:ROWS]} | columns
    with writing(path) as add:
        add(table.Table(path.name, range(ROWS), columns))
    return path


@pytest.mark.parametrize("suffix", formats.WRITTEN)
def test_a_table_keeps_its_columns_and_gains_two(run: Path, tmp_path: Path, suffix: str, monkeypatch: Any):
    monkeypatch.setattr("adakron_jax.classifier.WINDOW", 8)
    source, out = write(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    assert cli.main(["predict", str(run), str(source), "--out", str(out)]) == 0
    before, after = table.read(source), table.read(out)
    assert list(after.columns) == ["id", "review", "prediction", "score"]
    assert (after["id"], after["review"]) == (before["id"], before["review"])
    expected = ak.TextClassifier.load(run).predict(TEXTS[:ROWS])
    assert after["prediction"] == [prediction.label for prediction in expected]
    scores = [float(score) for score in after["score"]]
    assert scores == pytest.approx([prediction.score for prediction in expected], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, out.name]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_without_lines_gives_a_table_without_rows(run: Path, tmp_path: Path, suffix: str):
    (tmp_path / "in.txt").touch()
    out = tmp_path / f"out{suffix}"
    assert cli.main(["predict", str(run), str(tmp_path / "in.txt"), "--out", str(out)]) == 0
    assert table.read(out).columns == {"review": [], "prediction": [], "score": []}


def test_every_class_has_a_column_if_asked_for(run: Path, tmp_path: Path):
    source, out = write(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    assert cli.main(["predict", str(run), str(source), "--out", str(out), "--probabilities"]) == 0
    names = ["probability_neg", "probability_neutral", "probability_pos"]
    after = table.read(out)
    assert list(after.columns)[4:] == names
    for row, label, score in zip(
        zip(*map(after.__getitem__, names), strict=True), after["prediction"], after["score"], strict=True
    ):
        assert max(row) == score == row[names.index(f"probability_{label}")]
        assert sum(row) == pytest.approx(1)


def test_the_precision_may_be_said(run: Path, tmp_path: Path):
    source, scores = write(tmp_path / "in.csv"), {}
    for precision in ("auto", "f32", "bf16"):
        out = tmp_path / f"{precision}.jsonl"
        assert cli.main(["predict", str(run), str(source), "--out", str(out), "--precision", precision]) == 0
        scores[precision] = table.read(out)["score"]
    assert scores["auto"] == scores["f32"] != scores["bf16"]
    assert scores["bf16"] == pytest.approx(scores["f32"], abs=0.05)


def test_lines_become_json_lines(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "lines").write_text("\n".join(["a fine film", "", TEXTS[6]]))
    with (tmp_path / "lines").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert cli.main(["predict", str(run), "--probabilities"]) == 0
    said = capsys.readouterr()
    records = [json.loads(line) for line in said.out.splitlines()]
    expected = ak.TextClassifier.load(run).predict(["a fine film", "", TEXTS[6]])
    assert [record["label"] for record in records] == [prediction.label for prediction in expected]
    assert all(set(record) == {"label", "score", "probabilities"} for record in records)
    assert said.err.splitlines() == [
        "adakron: 1 empty texts, of 3 examples",
        "adakron: 1 cut at 32 tokens, of 3 examples",
    ]


@pytest.mark.parametrize(
    ("kind", "label", "keys"),
    [("multilabel", list, {"label", "score", "probabilities"}), ("regression", type(None), {"label", "score"})],
)
def test_other_problems_have_lines_of_their_own(
    kind: str, label: type, keys: set[str], tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = make(tmp_path / "adapter", tiny, kind)
    source = write(tmp_path / "in.csv")
    flags = ["--text", "review", *(["--probabilities"] if "probabilities" in keys else [])]
    assert cli.main(["predict", str(run), str(source), *flags]) == 0
    for line in capsys.readouterr().out.splitlines():
        record = json.loads(line)
        assert set(record) == keys
        assert isinstance(record["label"], label)
    for suffix in formats.WRITTEN if kind == "multilabel" else [".parquet"]:
        assert cli.main(["predict", str(run), str(source), *flags, "--out", str(tmp_path / f"out{suffix}")]) == 0
    after = table.read(tmp_path / "out.parquet")
    assert isinstance(after["prediction"][0], list if kind == "multilabel" else float)
    if kind == "regression":
        assert cli.main(["predict", str(run), str(source), *flags, "--probabilities"]) == 2
        assert "--probabilities is given, and" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["in.csv", "--text", "body"], "in.csv has no column 'body'; available: 'id', 'review'"),
        (["in.csv", "--text", "id", "review"], "2 texts per example; accepted: 1, as the model was trained on"),
        (["none.csv"], "none.csv: no such file"),
        (["in.pdf"], "in.pdf: its name ends in '.pdf'; accepted: .csv, "),
        (["in.csv", "--out", "out.xlsx"], "out.xlsx: its name ends in '.xlsx'"),
        (["in.csv", "--out", "no/out.csv"], "accepted: a file in a folder that exists"),
        (["twice.csv", "--out", "out.csv"], "twice.csv has a column 'score' already; accepted: a table without it"),
        (["numbers.jsonl", "--out", "out.csv"], "numbers.jsonl, row 1: review is 0; accepted: a text"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    run: Path,
    tmp_path: Path,
    argv: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    write(Path("in.csv"))
    write(Path("twice.csv"), score=["1"] * ROWS)
    write(Path("numbers.jsonl"), review=list(range(ROWS)))
    Path("in.pdf").write_text("a")
    before = sorted(os.listdir())
    assert cli.main(["predict", str(run), *argv]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_being_stopped_leaves_no_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    source = write(tmp_path / "in.csv")
    monkeypatch.setattr(predict, "labelled", stop)
    assert cli.main(["predict", str(run), str(source), "--out", str(tmp_path / "out.csv")]) == 130
    assert list(tmp_path.iterdir()) == [source]


def test_in_a_pipe_each_line_is_answered_as_it_comes_and_sigterm_stops(run: Path):
    command = [sys.executable, "-m", "adakron_jax", "predict", str(run)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        for text in (b"a fine film\n", b"a long one\n"):
            it.stdin.write(text)
            it.stdin.flush()
            assert json.loads(it.stdout.readline())["label"] in ("neg", "neutral", "pos")
        time.sleep(0.1)
        it.send_signal(signal.SIGTERM)
        assert it.wait(60) == 130
        assert it.stderr is not None
        assert it.stderr.read() == b"adakron: stopped\n"
