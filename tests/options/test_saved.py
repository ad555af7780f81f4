"""A configuration as it is saved: it comes back, and what differs from another is named."""

import dataclasses
import os
import tomllib
from typing import Any

import pytest

from adakron_jax.methods import AdaKron, Full, Head
from train.options.config import RunConfig, options


def saved_form(config: RunConfig) -> dict[str, Any]:
    return tomllib.loads(config.dumps().decode())


@pytest.mark.parametrize("method", [AdaKron((8, 2), "pfeiffer"), Full(), Head()])
@pytest.mark.parametrize("limit", ["all", 64])
def test_a_configuration_comes_back_from_toml(method: Any, limit: Any):
    config = RunConfig(task="stsb", best_by="spearman", method=method, limit_train=limit, learning_rate=1e-30)
    saved = saved_form(config)
    assert config.differences(saved) == []
    assert set(saved) == {field.name for field in dataclasses.fields(RunConfig)}
    assert RunConfig.loads(config.dumps().decode()) == config


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("task = ", "Invalid value"),
        ('task = "rte"', "no 'method'"),
        ('task = "rte"\nmethod = 3', "not iterable"),
        ('task = "rte"\nspeed = 3\n[method]\nname = "head"', "no 'speed'"),
        ('task = "rte"\nseed = "0"\n[method]\nname = "head"', "seed is '0'"),
        ('task = "rte"\n[method]\nname = "magic"', "magic"),
    ],
)
def test_what_no_configuration_can_be_is_a_value_error(text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        RunConfig.loads(text)


@pytest.mark.parametrize(
    ("here", "differences"),
    [
        (
            {"task": "sst2", "epochs": 3, "method": AdaKron((8, 2)), "limit_eval": 5},
            ["epochs 20 -> 3", "limit_eval 'all' -> 5", "method.factors [12, 4] -> [8, 2]", "task 'rte' -> 'sst2'"],
        ),
        (
            {"method": Head()},
            [
                *("method.factors [12, 4] -> 'unset'", "method.name 'adakron' -> 'head'"),
                "method.place 'sequential' -> 'unset'",
            ],
        ),
        ({"out": "elsewhere", "resume": "must", "recipe": "fast"}, []),
    ],
    ids=["values", "methods", "what changes no number"],
)
def test_differences_name_what_changed_from_what_to_what(here: dict[str, Any], differences: list[str]):
    saved = saved_form(RunConfig(task="rte"))
    assert RunConfig(**{"task": "rte"} | here).differences(saved) == differences


def test_a_field_that_the_saved_form_is_too_old_for_differs_only_where_it_is_not_at_its_default():
    saved = saved_form(RunConfig(task="rte"))
    del saved["init_from"]
    assert RunConfig(task="rte").differences(saved) == []
    assert RunConfig(task="rte", init_from="a").differences(saved) == ["init_from '' -> 'a'"]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunConfig)])
def test_every_field_that_decides_numbers_makes_a_difference(name: str):
    others = {
        "task": "qnli", "model": "m", "data": "b.csv", "out": "o", "seed": 1, "method": Full(), "recipe": "fast",
        "epochs": 1, "batch_size": 8, "accumulate": 2, "learning_rate": 1.0, "weight_decay": 0.0, "warmup_ratio": 0.5,
        "max_length": 64, "best_by": "last", "precision": "bf16", "remat": True, "mesh": "data=2",
        "train_split": "other", "limit_train": 9, "limit_eval": 9, "init_from": "a", "eval_every": 9, "patience": 9,
        "resume": "must", "text": ("b",), "label": ("b",), "problem": "regression", "validation": "0.2", "test": "0.2",
        "split_seed": 1, "folds": 3, "fold": 2, "class_weights": "balanced", "pooling": "mean", "quoting": True,
        "evaluate_once": 1, "score_test": False, "scheme": "words", "label_pieces": "all",
    }  # fmt: skip
    config = RunConfig(task="rte", data="a.csv", text=("a",), folds=2 if name == "fold" else 1)
    differences = dataclasses.replace(config, **{name: others[name]}).differences(saved_form(config))
    # For custom data, only the rows count, of which the run has a digest.
    assert bool(differences) == (name not in ("out", "resume", "recipe", "mesh", "data"))
    assert options(config)[name].numbers == (bool(differences) or name == "data")
    assert all(line.startswith(name) for line in differences)


def test_places_may_be_spelled_in_several_ways():
    glue = RunConfig(task="rte", data="folder", model="enc")
    assert dataclasses.replace(glue, data="./folder", model=os.path.abspath("enc")).differences(saved_form(glue)) == []
    assert len(dataclasses.replace(glue, data="other").differences(saved_form(glue))) == 1
    table = RunConfig(task="a", data="a.csv", text=("a",), validation="b.csv")
    moved = dataclasses.replace(table, data="elsewhere/a.csv", validation="elsewhere/b.csv")
    assert moved.differences(saved_form(table)) == []
    assert len(dataclasses.replace(table, validation="0.1").differences(saved_form(table))) == 1
