"""Runs on tables of one's own, from end to end: the same code as GLUE's, and the same numbers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax import adapter
from adakron_jax.data.table import Table
from adakron_jax.data.writer import writing
from adakron_jax.io.files import read_tensors
from adakron_jax.params import flatten
from adakron_jax.problems import make
from tests.engine.test_run import call
from tests.support.methods import nightly_but
from train.data import sources
from train.data.glue import TASKS
from train.data.sources import MINI
from train.engine.initial import initial_params, make_model
from train.options.config import RunConfig
from train.options.model import Pretrained

SMALL = ["--batch-size", "32", "--max-length", "64", "--epochs", "1", "--learning-rate", "1e-3"]
Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(tiny: Path, tmp_path: Path) -> Train:
    """Trains in a folder of a name, and gives the result."""

    def run(name: str, *flags: object) -> dict[str, Any]:
        ended = call("--model", tiny, *SMALL, *flags, "--out", tmp_path / name)
        assert (ended.code, ended.err) == (0, ""), ended
        return json.loads((tmp_path / name / "result.json").read_text())

    return run


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    with writing(path) as add:
        add(Table("test", range(len(next(iter(columns.values())))), columns))
    return path


def as_tables(task: str, folder: Path) -> list[object]:
    """The flags with which a task of `mini`, written as two tables with codes for labels, is a table of one's own."""
    known = TASKS[task]
    for split in ("train", "validation"):
        rows = sources.read("mini", known, split)
        cells = [str(known.labels.index(cell)) if known.labels else cell for cell in rows["label"]]
        write(folder / f"{split}.csv", rows.replaced("label", cells).columns)
    flags = ["--data", folder / "train.csv", "--validation", folder / "validation.csv", "--text", *known.texts]
    return [*flags, "--best-by", known.best_by if known.best_by == "last" else "accuracy", "--weight-decay", "0.1"]


def numbers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("task", nightly_but(("sst2",), ("sst2", "mrpc", "stsb")))
def test_a_task_of_glue_given_as_tables_has_the_same_numbers_bit_for_bit(train: Train, tmp_path: Path, task: str):
    train("glue", "--data", "mini", "--task", task, "--seed", "3")
    train("own", *as_tables(task, tmp_path), "--seed", "3")
    for ours, glues in zip(numbers(tmp_path / "own"), numbers(tmp_path / "glue"), strict=True):
        assert {key: value for key, value in ours.items() if key in glues} == {
            key: value for key, value in glues.items() if key in ours
        }
        assert {"step", "loss"} <= ours.keys() or {"accuracy", "pearson"} & ours.keys() & glues.keys()
    ours, glues = (read_tensors(tmp_path / run / "adapter/adapter.safetensors") for run in ("own", "glue"))
    assert {name: x.tobytes() for name, x in ours.items()} == {name: x.tobytes() for name, x in glues.items()}


def test_targets_in_another_unit_are_learned_alike_and_come_back_in_theirs(train: Train, tmp_path: Path):
    flags = as_tables("stsb", tmp_path)
    first = train("first", *flags)
    for split in ("train", "validation"):
        rows = sources.read("mini", TASKS["stsb"], split)
        scaled = [str(-100 + 100 * float(cell)) for cell in rows["label"]]
        write(tmp_path / f"{split}.csv", rows.replaced("label", scaled).columns)
    scaled = train("scaled", *flags)
    assert scaled["problem"] == "regression"
    assert scaled["best"]["pearson"] == pytest.approx(first["best"]["pearson"], abs=1e-3)
    assert scaled["best"]["rmse"] == pytest.approx(100 * first["best"]["rmse"], rel=1e-3)
    _, card = adapter.load(tmp_path / "scaled/adapter")
    assert card.problem.mean == pytest.approx(-100 + 100 * adapter.load(tmp_path / "first/adapter")[1].problem.mean)


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    rows = sources.table.read(MINI / "reviews.csv")
    tags = [
        [mood, *(["short"] if len(text) < 45 else [])]
        for text, mood in zip(rows["review"], rows["sentiment"], strict=True)
    ]
    return write(tmp_path / "tagged.jsonl", {"text": rows["review"], "tags": [[], *tags[1:]]})


def test_lists_of_labels_are_learned_by_their_sigmoids(train: Train, tmp_path: Path, tagged: Path):
    result = train("tags", "--data", tagged, "--text", "text", "--label", "tags", "--test", "0.2", "--pooling", "mean")
    assert result["problem"] == "multilabel"
    assert set(result["test"]) == {"micro_f1", "macro_f1", "subset_accuracy"}
    _, card = adapter.load(tmp_path / "tags/adapter")
    assert (card.problem.labels, card.pooling) == (("mixed", "negative", "positive", "short"), "mean")
    assert (card.texts, card.label) == (("text",), ("tags",))


def test_the_folder_keeps_the_rows_of_every_part_and_a_run_goes_on_with_no_others(train: Train, tmp_path: Path, tiny):
    path = tmp_path / "reviews.csv"
    lines = (MINI / "reviews.csv").read_text().splitlines(keepends=True)
    path.write_text("".join(lines))
    flags = ["--data", path, "--text", "review", "--label", "sentiment", "--test", "0.1"]
    first = train("run", *flags)
    splits = json.loads((tmp_path / "run/splits.json").read_text())
    assert sorted(row for rows in splits["rows"].values() for row in rows) == list(range(1, 91))
    assert splits["task"]["fingerprint"] == first["data"]
    assert train("run", *flags) == first
    path.write_text("".join(lines[:-1]))
    again = call("--model", tiny, *SMALL, *flags, "--out", tmp_path / "run")
    assert again.code == 2
    assert "run on other rows than" in again.err
    (tmp_path / "run/result.json").unlink()
    assert "run on other rows than" in call("--model", tiny, *SMALL, *flags, "--out", tmp_path / "run").err


def test_a_part_of_glues_training_set_chooses_and_the_development_set_is_scored_once(train: Train, tmp_path: Path):
    result = train("held", "--data", "mini", "--task", "rte", "--validation", "0.2", "--epochs", "2")
    assert result["best"].keys() == {"epoch", "step", "accuracy"}
    assert result["test"].keys() == {"accuracy"}
    assert all("test" not in record for record in numbers(tmp_path / "held"))
    splits = json.loads((tmp_path / "held/splits.json").read_text())
    assert set(splits["rows"]) == {"train", "held_out"}
    assert result["train_examples"] == len(splits["rows"]["train"])


def test_classes_may_weigh_the_same(train: Train, tmp_path: Path):
    flags = ("--data", "mini", "--task", "rte", "--limit-train", "32")
    losses = [
        numbers(tmp_path / name)[0]["loss"]
        for name, weights in (("even", "none"), ("weighted", "balanced"))
        if train(name, *flags, "--class-weights", weights)
    ]
    assert losses[0] != losses[1]


def test_folds_are_trained_one_after_another_and_summed_up(tiny: Path, tmp_path: Path):
    flags = ["--data", MINI / "reviews.csv", "--text", "review", "--label", "sentiment", "--folds", "2"]
    ended = call("--model", tiny, *SMALL, *flags, "--out", tmp_path / "folds")
    assert (ended.code, ended.err) == (0, "")
    names = [f"reviews-adakron-fold{fold}of2-seed0" for fold in (1, 2)]
    scores = [json.loads((tmp_path / "folds" / name / "result.json").read_text())["best"]["accuracy"] for name in names]
    mean, deviation = 100 * np.mean(scores), 100 * np.std(scores, ddof=1)
    assert f"reviews, adakron, seed 0: accuracy {mean:.2f} ± {deviation:.2f}" in ended.out
    assert "over 2 folds, mean and standard deviation" in ended.out


@pytest.mark.nightly
def test_seeds_take_their_steps_together_on_the_same_rows(tiny: Path, tmp_path: Path):
    flags = ["--data", MINI / "reviews.csv", "--text", "review", "--label", "sentiment", "--seed", "0", "1"]
    ended = call("--model", tiny, *SMALL, *flags, "--together", "--out", tmp_path / "grid")
    assert (ended.code, ended.err) == (0, "")
    splits = [(tmp_path / f"grid/reviews-adakron-seed{seed}/splits.json").read_bytes() for seed in (0, 1)]
    assert splits[0] == splits[1]


@pytest.fixture(scope="module")
def sentences(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder as a sentence encoder that was trained with the mean."""
    folder = tmp_path_factory.mktemp("sentences")
    for file in tiny.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}')
    return folder


def test_the_head_reads_what_a_sentence_encoder_was_trained_with(sentences: Path, tmp_path: Path):
    """A run keeps to it, also where another command would begin with another."""
    flags = ["--data", MINI / "reviews.csv", "--text", "review", "--label", "sentiment", "--model", sentences, *SMALL]
    ended = call(*flags, "--out", tmp_path / "run")
    assert f"pooling: mean, as {sentences} was trained" in ended.out
    assert RunConfig.loads((tmp_path / "run/config.toml").read_text()).pooling == "mean"
    assert adapter.read_card(tmp_path / "run/adapter/adapter.json").pooling == "mean"
    assert "this run has ended" in call(*flags, "--out", tmp_path / "run").out
    other = call(*flags, "--pooling", "pooler", "--out", tmp_path / "run")
    assert (other.code, "pooling 'mean' -> 'pooler'" in other.err) == (2, True)


def test_the_papers_recipes_read_the_pooler(sentences: Path, tmp_path: Path):
    flags = ["--data", "mini", "--task", "rte", "--limit-train", "32", "--limit-eval", "32", *SMALL]
    ended = call("--model", sentences, *flags, "--out", tmp_path / "run")
    assert "--pooling mean is usually many points better" in ended.out
    assert adapter.read_card(tmp_path / "run/adapter/adapter.json").pooling == "pooler"


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        ([["text", "label"], ["a", "x"], ["b", "x"]], [], "label has only 'x'; accepted: at least two labels"),
        ([["text", "mood"], ["a", "x"]], [], "has no column 'label'; available: 'text', 'mood'"),
        ([["text", "label"], ["a", "x"], ["b", ""]], [], "a.csv, row 3: label is empty"),
        ([["text", "label"], ["a", "x"], ["b"]], [], "a.csv, row 3: 1 fields; accepted: the header's 2"),
        ([["text", "label"], *[["a", x] for x in "xyz" * 9]], ["--limit-train", "1"], "1 training rows for 3 classes"),
        ([["text", "label"], ["a", "1.5"], ["b", "2"]], ["--best-by", "accuracy"], "validation: no row of 2"),
        (
            [["text", "label"], *[["a", f"{k}.5"] for k in range(20)]],
            ["--best-by", "accuracy"],
            "best_by is 'accuracy'",
        ),
        ([["text", "label"], *[["a", "[]"], ["b", '["x"]']] * 9], ["--method", "adamix"], "method.consistency is True"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tiny: Path, tmp_path: Path, rows, flags, message: str):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    own = ["--data", tmp_path / "a.csv", "--text", "text", "--model", tiny, "--out", tmp_path / "run"]
    ended = call(*own, *SMALL, *flags)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "contents", [b"\x00\x01\x02garbage", b"PAR1\x00", b"\xff\xfet\x00e\x00", b"text,label\n\xe9,x\n"]
)
def test_binary_garbage_is_one_line(tiny: Path, tmp_path: Path, contents: bytes):
    (tmp_path / "a.csv").write_bytes(contents)
    ended = call("--data", tmp_path / "a.csv", "--text", "text", "--model", tiny, "--out", tmp_path / "run")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_a_multilabel_head_starts_at_how_often_each_label_holds(tiny: Path, pooling: str):
    problem, base = make("multilabel", ("rare", "even", "never")), Pretrained(str(tiny))
    holds = np.zeros((98, 3), bool)
    holds[0, 0], holds[::2, 1] = True, True
    config = RunConfig(text=("text",), data="a.csv", task="tags", model=str(tiny), pooling=pooling, max_length=32)
    params = initial_params(config, make_model(config, problem, base), problem, base, holds)
    bias = flatten(params)["classifier/bias"]
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), [0.02, 0.5, 0.01], rtol=1e-5)
