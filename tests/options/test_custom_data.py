"""The flags of a table of one's own, and of parts drawn from GLUE's training sets."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import BERT_BASE
from train.data.sources import MINI
from train.options.command import Command, parse_command
from train.options.config import RunConfig
from train.options.recipes import table_recipe

REVIEWS = str(MINI / "reviews.csv")
COLUMNS = ("--text", "review", "--label", "sentiment")


def command(tiny: Path, *flags: str) -> Command:
    return parse_command(["--model", str(tiny), *flags])


def test_a_table_is_a_task_called_as_its_file(tiny: Path):
    (config,) = command(tiny, "--data", REVIEWS, *COLUMNS).runs
    assert (config.task, config.text, config.label, config.custom_data) == (
        "reviews",
        ("review",),
        ("sentiment",),
        True,
    )
    assert (config.problem, config.validation, config.test, config.best_by) == ("auto", "auto", "none", "auto")
    assert (config.recipe, config.learning_rate, config.epochs, config.batch_size) == ("table", 3e-3, 20, 16)
    assert str(config.folder) == "runs/reviews-adakron-seed0"


def test_two_columns_are_pairs_and_several_labels_are_taken(tiny: Path):
    flags = ("--data", REVIEWS, "--text", "a", "b", "--label", "x", "y", "--task", "mine")
    (config,) = command(tiny, *flags).runs
    assert (config.task, config.text, config.label) == ("mine", ("a", "b"), ("x", "y"))
    assert RunConfig.loads(config.dumps().decode()) == config


@pytest.mark.parametrize(
    ("rows", "flags", "values"),
    [
        (1000, (), (3e-3, 20, 16)),
        (4000, (), (2e-3, 12, 16)),
        (5000, (), (2e-3, 8, 32)),
        (5000, ("--validation", "0.1", "--test", "0.2"), (2e-3, 12, 16)),
        (30_000, (), (1e-3, 4, 64)),
        (30_000, ("--limit-train", "100", "--epochs", "5"), (3e-3, 5, 16)),
        (5000, ("--recipe", "fast"), (2e-3, 3, 32)),
        (5000, ("--method", "full"), (2e-5, 8, 32)),
    ],
)
def test_the_recipe_for_tables_follows_their_size(
    tiny: Path, tmp_path: Path, rows: int, flags: tuple[str, ...], values: tuple[float, int, int]
):
    (tmp_path / "t.csv").write_text("text,label\n" + "a,x\n" * rows)
    (config,) = command(tiny, "--data", str(tmp_path / "t.csv"), "--text", "text", *flags).runs
    assert (config.learning_rate, config.epochs, config.batch_size) == values
    assert RunConfig.loads(config.dumps().decode()) == config


def test_wide_encoders_take_lower_learning_rates_and_lengths_are_the_encoders():
    assert table_recipe(100, BERT_BASE) == {"learning_rate": 1.5e-3, "epochs": 20, "batch_size": 16, "max_length": 128}
    short = dataclasses.replace(BERT_BASE, max_position_embeddings=64)
    assert table_recipe(100, short)["max_length"] == 64


def test_methods_and_seeds_make_a_grid_as_for_glue(tiny: Path):
    runs = command(tiny, "--data", REVIEWS, *COLUMNS, "--method", "lora", "head", "--seed", "0", "1").runs
    assert [run.folder.name for run in runs] == [
        f"reviews-{method}-seed{seed}" for method in ("lora", "head") for seed in (0, 1)
    ]


@pytest.mark.parametrize("task", [("--data", REVIEWS, *COLUMNS), ("--task", "rte")])
def test_folds_are_runs_of_a_grid_each_by_a_name_of_its_own(tiny: Path, task: tuple[str, ...]):
    runs = command(tiny, *task, "--folds", "3").runs
    assert [run.fold for run in runs] == [1, 2, 3]
    assert [run.folder.name.partition("adakron-")[2] for run in runs] == [f"fold{k}of3-seed0" for k in (1, 2, 3)]
    (one,) = command(tiny, *task, "--folds", "3", "--fold", "2").runs
    assert one.folder.name.endswith("-fold2of3-seed0")


def test_a_part_of_glues_training_set_may_choose(tiny: Path):
    (config,) = command(tiny, "--task", "rte", "--validation", "0.1", "--split-seed", "3").runs
    assert (config.validation, config.split_seed, config.custom_data) == ("0.1", 3, False)


def test_a_grids_file_may_say_the_columns(tiny: Path, tmp_path: Path):
    path = tmp_path / "grid.toml"
    path.write_text(f'data = "{REVIEWS}"\ntext = "review"\nlabel = ["sentiment"]\nseed = [0, 1]\n')
    runs = command(tiny, "--grid", str(path)).runs
    assert [(run.text, run.label, run.seed) for run in runs] == [(("review",), ("sentiment",), k) for k in (0, 1)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", REVIEWS, *COLUMNS, "--recipe", "paper"), "recipe is 'paper'; accepted: table, fast, or a TOML"),
        (("--task", "rte", "--recipe", "table"), "recipe is 'table'; accepted: paper, fast, or a TOML file"),
        (("--data", REVIEWS), "data is '.*reviews.csv', a table; accepted: --text COLUMN and --label COLUMN with it"),
        (("--data", "hub:me/set", "--task", "rte"), "data is 'hub:me/set', a table; accepted: --text COLUMN"),
        ((), "arguments are required: --task, or --data, --text and --label"),
        (COLUMNS, "data is .hub.; accepted: a table: a file, a folder"),
        (("--task", "mine", *COLUMNS), "data is 'hub'; accepted: a table: a file, a folder"),
        (("--data", REVIEWS, *COLUMNS, "--task", "a/b"), "task is 'a/b'; accepted: a name of letters"),
        (
            ("--data", REVIEWS, *COLUMNS, "--best-by", "f2"),
            "best_by is 'f2'; accepted: auto, accuracy, .*, mae, .*, last",
        ),
        (("--data", REVIEWS, *COLUMNS, "--problem", "x"), "argument --problem: invalid choice: 'x'"),
        (("--data", REVIEWS, *COLUMNS, "--folds", "3", "--validation", "0.2"), "validation is '0.2'; accepted: auto"),
        (("--data", REVIEWS, *COLUMNS, "--folds", "3", "--fold", "4"), "fold is 4; accepted: 1 to 3"),
        (("--task", "rte", "--validation", "dev.csv"), "validation is 'dev.csv'; accepted: auto, or a share"),
        (("--task", "rte", "--validation", "1.5"), "'1.5' is not a share; accepted"),
        (("--task", "rte", "--test", "0.1"), "test is '0.1'; accepted: none, but for a table of one's own"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tiny: Path, flags: Any, message: str):
    with pytest.raises(ValueError, match=message):
        command(tiny, *flags)
