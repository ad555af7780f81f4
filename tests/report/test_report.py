"""The report: what it reads, what it computes, what it says of what is missing, and that its page is sound."""

import json
import re
import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import BERT_BASE, ROBERTA_LARGE, EncoderConfig
from adakron_jax.methods import AdaKron, BitFit, Head, Pfeiffer
from adakron_jax.paper import SCORES, sizes
from adakron_jax.splice import Method
from tests.report.conftest import OTHER, Report, records, write_run
from tests.support.wellformed import Wellformed
from train.options.recipes import RECIPES
from train.report import tables
from train.report.__main__ import main
from train.report.paper import paper_rows
from train.report.runs import read_folder
from train.report.tables import EIGHT, tabulate
from train.report.words import scarcity


def test_a_cell_has_mean_sample_deviation_median_and_seeds(two_methods: Path, report: Report):
    (cell,) = records(report(two_methods)[0]["csv"], method="adakron 12x4", epoch="best", task="rte")
    assert float(cell["mean"]) == pytest.approx(73.0)
    assert float(cell["std"]) == pytest.approx(3**0.5)  # of 71, 74, 74: (4 + 1 + 1) / 2
    assert float(cell["median"]) == pytest.approx(74.0)
    assert (cell["seeds_found"], cell["seeds_wanted"], cell["seeds"]) == ("3", "3", "0 1 2")


def test_best_and_last_epoch_stand_apart(two_methods: Path, report: Report):
    files, _ = report(two_methods)
    (last,) = records(files["csv"], method="adakron 12x4", epoch="last", task="rte")
    assert float(last["mean"]) == pytest.approx(71.0)
    best, last = files["md"].split("### Last epoch")
    assert "73.0 ± 1.7 (median 74.0 · 3 seeds)" in best
    assert "71.0 ± 1.7 (median 72.0 · 3 seeds)" in last


def test_a_missing_seed_is_counted_and_a_missing_cell_is_shown(two_methods: Path, report: Report):
    (two_methods / "p2" / "result.json").unlink()
    write_run(two_methods / "sst2", 0.9, task="sst2")
    files, said = report(two_methods)
    assert "no result.json, so left out as a run that has not ended: p2" in said
    line = next(line for line in files["md"].splitlines() if line.startswith("| pfeiffer"))
    assert "2 of 3 seeds" in line
    assert "— (0 of 1 seed)" in line
    assert '<span class="hidden">missing</span>' in files["html"]


@pytest.mark.parametrize(
    ("file", "contents", "told"),
    [
        ("config.toml", "task = ", "config.toml is damaged or not of a run"),
        ("config.toml", '[tool.black]\nline-length = 3\n', "config.toml is damaged or not of a run"),
        ("result.json", '{"task": "rt', "result.json is damaged or not of a run"),
        ("result.json", "[" * 100_000, "result.json is damaged or not of a run"),
        ("result.json", "[]", "result.json is damaged or not of a run"),
        ("metrics.jsonl", '{"kind": "eval", "ep', "its learning curve is left out"),
        ("adapter/adapter.json", "{}", "adapter/adapter.json is damaged or not of a run"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_left_out(two_methods: Path, report: Report, file: str, contents: str, told: str):
    (two_methods / "a1" / file).write_text(contents)
    files, said = report(two_methods)
    (line,) = said.splitlines()
    assert told in line
    assert line.endswith(": a1")
    assert told in files["html"]
    (cell,) = records(files["csv"], method="adakron 12x4", epoch="best")
    assert cell["seeds_found"] == ("2" if file in ("config.toml", "result.json") else "3")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda result: result["best"].update(accuracy=float("nan")), "accuracy is nan"),
        (lambda result: result["best"].pop("accuracy"), "'accuracy'"),
        (lambda result: result.update(seed=7), "seed is 7, but 1 in config.toml"),
        (lambda result: result["method"].update(factors=[8, 4]), "method is"),
        (lambda result: result["params"].update(method="many"), "params.method is 'many'"),
        (lambda result: result.update(collapsed=None), "collapsed is None"),
    ],
)
def test_a_result_that_does_not_fit_its_run_is_left_out(
    two_methods: Path, report: Report, change: Callable[[Any], Any], told: str
):
    path = two_methods / "a1" / "result.json"
    result = json.loads(path.read_text())
    del result["sha256"]  # as of an older version
    change(result)
    path.write_text(json.dumps(result))
    files, said = report(two_methods)
    assert told in said
    assert "2 of 3 seeds" in files["md"]


def test_what_is_part_of_no_run_is_named(two_methods: Path, report: Report):
    (two_methods / "notes.txt").write_text("")
    (two_methods / "torn").mkdir()
    (two_methods / "torn" / "result.json").write_text("{}")
    (two_methods / "void").mkdir()
    said = report(two_methods)[1]
    assert "not part of any run: notes.txt" in said
    assert "no run, since there is result.json but no config.toml: torn" in said
    assert "an empty folder: void" in said
    assert "report.html" not in report(two_methods)[1]


def test_two_runs_of_one_cell_are_refused(two_methods: Path, capsys: pytest.CaptureFixture[str]):
    write_run(two_methods / "again", 0.5, seed=1)
    assert main([str(two_methods)]) == 2
    assert capsys.readouterr().err == "report: runs that claim the same cell with the same seed: a1 and again\n"
    assert not (two_methods / "report.md").exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for folder in (tmp_path, tmp_path / "none"):
        assert main([str(folder)]) == 2
        assert re.fullmatch(r"report: [^\n]*(holds no run|is not a folder)[^\n]*\n", capsys.readouterr().err)


def test_flags_that_are_none_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert main(["one", "two"]) == 2
    assert capsys.readouterr().err == "report: unrecognized arguments: two\n"


def test_an_output_that_is_a_file_is_refused(two_methods: Path, capsys: pytest.CaptureFixture[str]):
    (two_methods / "taken").write_text("")
    assert main([str(two_methods), "--out", str(two_methods / "taken")]) == 2
    assert "taken" in capsys.readouterr().err.splitlines()[-1]


def test_a_collapsed_run_is_marked(tmp_path: Path, report: Report):
    write_run(tmp_path / "h", 0.5, Head(), collapsed=True)
    files, _ = report(tmp_path)
    assert "50.0 † (1 seed · 1 collapsed)" in files["md"]
    assert "† Collapsed" in files["html"]
    assert r"\dag{}" in files["tex"]


def test_encoders_data_and_limits_stand_in_tables_of_their_own(tmp_path: Path, report: Report):
    kinds: list[dict[str, Any]] = [{}, {"model": "roberta-large"}, {"limit_train": 500}, {"data": "mini"}]
    for number, values in enumerate(kinds):
        write_run(tmp_path / str(number), 0.7, seed=number, **values)
    found = tabulate(read_folder(tmp_path)[0])
    assert [len(table.rows[0].runs) for table in found] == [1, 1, 1, 1]
    assert sorted(table.low_resource for table in found) == [False, False, True, True]
    heading = r"^## .*, epochs 2,.* \(low-resource: RTE at most 500 training examples, split train\)$"
    assert re.search(heading, report(tmp_path)[0]["md"], re.M)


def test_a_run_that_has_not_ended_adds_no_second_number_of_examples(tmp_path: Path):
    for seed, examples in enumerate((500, None)):
        write_run(tmp_path / str(seed), 0.7, seed=seed, limit_train=500, examples=examples)
    (table,) = tabulate(read_folder(tmp_path)[0])
    assert scarcity(table) == "low-resource: RTE 500 training examples, split train"


@pytest.mark.parametrize(
    ("values", "low", "told"),
    [
        ({"examples": 2490}, "no", ""),
        ({"examples": 2490, "limit_train": 20000}, "no", ""),
        ({"examples": 1000}, "yes", "low-resource: RTE 1,000 training examples, split train"),
        ({"examples": 64, "limit_train": 64}, "yes", "low-resource: RTE 64 training examples, split train"),
        ({"train_split": "train_1k"}, "yes", "low-resource: RTE unknown training examples, split train_1k"),
        ({"examples": 2490, "train_split": "b"}, "yes", "low-resource: RTE 2,490 training examples, split b"),
    ],
    ids=str,
)
def test_a_run_on_less_than_all_training_examples_is_called_so_everywhere(
    tmp_path: Path, report: Report, values: dict[str, Any], low: str, told: str
):
    write_run(tmp_path / "run", 0.8, encoder=BERT_BASE, **values)
    files, _ = report(tmp_path)
    assert {row["low_resource"] for row in records(files["csv"])} == {low}
    assert {row["train_examples"] for row in records(files["csv"])} == {str(values.get("examples", ""))}
    assert any(row["paper"] for row in records(files["csv"])) == (low == "no")
    if low == "no":
        assert not any("low-resource" in text.lower() for text in files.values())
        return
    assert told in next(line for line in files["md"].splitlines() if line.startswith("## ")).replace("\\_", "_")
    assert all(told in line.replace("\\_", "_") for line in files["tex"].splitlines() if line.startswith(r"\caption"))
    assert re.search(f"<h2[^>]*>[^<]*{told}", files["html"])
    assert re.search(f"<title id=[^>]*>[^<]*{told}", files["html"])
    assert re.search(f"<text[^>]*>{told}", files["html"])  # above the plot
    assert "the whole training sets of GLUE have RTE 2,490" in files["md"]


def test_of_several_tasks_those_with_fewer_training_examples_are_named(tmp_path: Path, report: Report):
    for task, examples in (("rte", 1000), ("mrpc", 3668), ("sst2", 100)):
        write_run(tmp_path / task, 0.8, task=task, examples=examples)
    assert "low-resource: SST-2 100, RTE 1,000 training examples" in report(tmp_path)[0]["md"]


def test_a_cell_never_mixes_training_sets_of_different_size(tmp_path: Path, report: Report):
    for seed, examples in enumerate((2490, 2490, 1000)):
        write_run(tmp_path / str(seed), 0.8, seed=seed, examples=examples)
    (table,) = tabulate(read_folder(tmp_path)[0])
    assert [[run.examples for run in row.runs] for row in table.rows] == [[1000], [2490, 2490]]
    assert "adakron 12x4 (train examples 1000)" in report(tmp_path)[0]["md"]


def test_evaluations_within_an_epoch_have_their_place_on_the_curve(tmp_path: Path, report: Report):
    path = write_run(tmp_path / "run", [0.5, 0.6, 0.7], examples=160, batch_size=10, eval_every=4) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    steps = [{"epoch": 1, "step": 8}, {"epoch": 1, "step": 16}, {"epoch": 2, "step": 24}]
    path.write_text("".join(json.dumps(line | step) + "\n" for line, step in zip(lines, steps, strict=True)))
    page = report(tmp_path)[0]["html"]
    assert "from 50.0 after epoch 0.5 to 70.0 after epoch 1.5, 1 seed" in page
    assert "eval every 4" in page


def test_runs_that_stopped_early_are_counted(tmp_path: Path, report: Report):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.8, seed=seed, patience=3, best_by="accuracy", early=seed == 1)
    text = report(tmp_path)[0]["md"]
    assert "best epoch by accuracy, seeds 0, 1, 1 of them stopped early" in text
    assert "patience 3" in text


def test_weights_that_share_a_name_are_told_apart(tmp_path: Path):
    for seed in (0, 1):
        path = write_run(tmp_path / str(seed), 0.7, seed=seed) / "adapter" / "adapter.json"
        path.write_text(path.read_text().replace("f" * 64, str(seed) * 64))
    assert [table.fingerprint[:2] for table in tabulate(read_folder(tmp_path)[0])] == ["00", "11"]


def test_a_cell_never_mixes_epochs(tmp_path: Path, report: Report):
    write_run(tmp_path / "short", 0.6, seed=0)
    write_run(tmp_path / "long", 0.8, seed=1, epochs=5)
    (table,) = tabulate(read_folder(tmp_path)[0])
    assert [row.departs["epochs"] for row in table.rows] == [2, 5]
    assert "adakron 12x4 (epochs 5)" in report(tmp_path)[0]["md"]


def test_one_recipe_of_several_tasks_is_one_row(tmp_path: Path):
    for task, epochs in (("rte", 80), ("sst2", 40), ("mrpc", 7)):
        write_run(tmp_path / task, 0.8, task=task, epochs=epochs)
    (table,) = tabulate(read_folder(tmp_path)[0])
    assert len(table.rows) == 1


def write_eight(folder: Path, method: Method, scores: dict[int, float], encoder: EncoderConfig = BERT_BASE) -> None:
    for seed, score in scores.items():
        for number, task in enumerate(EIGHT):
            name = f"{task}-{method.name}-{seed}"
            write_run(folder / name, score + 0.01 * number, method, encoder, task=task, seed=seed)


def test_the_average_is_the_papers(tmp_path: Path):
    write_eight(tmp_path, AdaKron(), {0: 0.8, 1: 0.9})
    (table,) = tabulate(read_folder(tmp_path)[0])
    cell = table.rows[0].cells["best"][tables.AVERAGE]
    assert cell.scores == pytest.approx({0: 83.5, 1: 93.5})
    assert table.published["mrpc"] == "f1"


def test_there_is_no_average_without_all_eight(tmp_path: Path, report: Report):
    write_eight(tmp_path, AdaKron(), {0: 0.8, 1: 0.9})
    write_eight(tmp_path, BitFit(), {0: 0.7})
    (tmp_path / "cola-adakron-1" / "result.json").unlink()
    (tmp_path / "mnli-bitfit-0" / "result.json").unlink()
    text = report(tmp_path)[0]["csv"]
    found = {row["method"]: row for row in records(text, task="average", epoch="best")}
    assert (found["adakron 12x4"]["seeds_found"], found["adakron 12x4"]["seeds_wanted"]) == ("1", "2")
    assert float(found["adakron 12x4"]["mean"]) == pytest.approx(83.5)
    assert found["bitfit"]["mean"] == ""


def test_the_papers_row_stands_where_encoder_and_metric_are_its_own(tmp_path: Path, report: Report):
    write_eight(tmp_path, AdaKron(), {0: 0.8})
    text = report(tmp_path)[0]["csv"]

    def theirs(task: str, metric: str, epoch: str = "best") -> str:
        (found,) = records(text, task=task, metric=metric, epoch=epoch)
        return found["paper"]

    assert theirs("mrpc", "f1") == "90.8"
    assert theirs("rte", "accuracy") == "73.8 75.6"  # Tables 1 and 3
    assert theirs("average", "") == "83.6"
    assert theirs("mrpc", "accuracy") == theirs("mnli", "accuracy_mismatched") == theirs("mrpc", "f1", "last") == ""


@pytest.mark.parametrize(
    "values", [{"encoder": OTHER}, {"limit_train": 9}, {"limit_eval": 9}, {"method": AdaKron((9, 3))}]
)
def test_the_papers_row_is_not_set_beside_something_else(tmp_path: Path, report: Report, values: dict[str, Any]):
    values = {"encoder": BERT_BASE} | values
    write_run(tmp_path / "run", 0.8, **values)
    files, _ = report(tmp_path)
    assert not any(row["paper"] for row in records(files["csv"]))
    assert "The paper's scores" in files["md"]


def test_every_row_of_tables_1_and_2_has_scores():
    data = tomllib.loads(SCORES.read_text("utf-8"))
    there = [(row["table"], row["system"]) for row in data["row"]]
    configs = [(1, "AdaKron 48"), (2, "AdaKron 16")]
    assert sorted([*there, *configs]) == sorted((row.table, row.system) for row in sizes.ROWS if row.table < 3)
    for row in data["row"]:
        assert len(row["scores"]) == len(data["tasks"]) == 8
        # Averages are of unrounded scores; UNIPELT (APL)'s is not what its scores give.
        slack = 0.7 if row["system"] == "UNIPELT (APL)" else 0.11
        assert row["average"] == pytest.approx(statistics.fmean(row["scores"]), abs=slack)
    factors = [tuple(its["factors"]) for its in data["table3"]["rte"]]
    assert factors == [row.method.factors for row in sizes.ROWS if row.table == 3 and isinstance(row.method, AdaKron)]


@pytest.mark.parametrize(("encoder", "metric"), [(BERT_BASE, "f1"), (ROBERTA_LARGE, "accuracy")])
def test_adakrons_scores_come_from_the_recipes(tmp_path: Path, encoder: EncoderConfig, metric: str):
    method = AdaKron() if encoder is BERT_BASE else AdaKron((4, 4))
    write_run(tmp_path / "run", 0.8, method, encoder, task="mrpc")
    (table,) = tabulate(read_folder(tmp_path)[0])
    section = "bert-base" if encoder is BERT_BASE else "roberta-large"
    published = tomllib.loads((RECIPES / "mrpc.toml").read_text("utf-8"))[section]["published"]
    assert paper_rows(table, method)[0].scores["mrpc"] == published[metric]
    assert table.published["mrpc"] == metric


def test_the_page_is_well_formed_and_loads_nothing(two_methods: Path, report: Report):
    for width in (4, 8):
        write_run(two_methods / f"w{width}", 0.6, AdaKron((width, 4)))
    page = report(two_methods)[0]["html"]
    found = Wellformed(page)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert len(found.ids) == len(set(found.ids))
    assert {reference[1:] for reference in found.references if reference.startswith("#")} <= set(found.ids)
    assert all(reference.startswith(("#", "data:")) for reference in found.references)
    assert "script" not in found.tags
    assert found.tags.count("svg") == 3  # parameters, epochs, bottleneck
    assert found.tags.count("table") == found.tags.count("caption") == 3
    assert page.count("<svg") == page.count('role="img"') == page.count("<desc")
    assert re.findall(r"<th(?: scope| class)", page) == ["<th scope"] * found.tags.count("th")


def test_what_files_say_is_escaped(tmp_path: Path, report: Report):
    evil = '<script>alert("1")</script>|_&%$x'
    write_run(tmp_path / "a<b>&", 0.7, model=evil, data=evil, encoder=OTHER)
    write_run(tmp_path / "later", [0.5, 0.6], Pfeiffer(), model=evil, data=evil)
    (tmp_path / "a<b>&" / "metrics.jsonl").write_text("<img src=x>")
    (tmp_path / "<u>.log").write_text("")
    files, _ = report(tmp_path)
    found = Wellformed(files["html"])
    assert not {"script", "b", "u", "img"} & set(found.tags)
    assert r"\<script\>" in files["md"]
    assert not re.search(r"(?<!\\)<", files["md"])
    assert not re.search(r"(?<!\\)[%_]x?", files["tex"].split("\n", 1)[1])


def test_the_same_runs_give_the_same_report(two_methods: Path, report: Report):
    assert report(two_methods)[0] == report(two_methods)[0]


def test_a_report_within_its_runs_does_not_disturb_the_next(two_methods: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(two_methods)]) == main([str(two_methods)]) == 0
    assert capsys.readouterr().err == ""
    written = {path.name for path in two_methods.glob("report.*")}
    assert written == {f"report.{end}" for end in ("md", "csv", "tex", "html")}
