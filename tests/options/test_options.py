"""A run's configuration, from defaults, recipes and flags; nothing is trained here."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.architectures.config import NAMED
from adakron_jax.flags import attributes_of
from adakron_jax.methods import AdaKron, Full, Head
from adakron_jax.methods.registry import METHODS, fields_of, make_method
from tests.options.conftest import Parse
from train.data.glue import TASKS
from train.options.command import parse, parse_command
from train.options.config import RunConfig
from train.options.flags import make_parser
from train.options.recipes import RECIPES, TABLE

GRIDS = {"table1", "table2", "ablation_table3", "study", "study-sst2"}  # whose tests are those of grids
FILES = sorted(path for path in RECIPES.rglob("*.toml") if path.stem not in (*GRIDS, TABLE))


# --- defaults < recipe < flags


def test_what_neither_recipe_nor_flags_say_is_the_default(bert: Parse):
    config = bert()
    for name in ("weight_decay", "warmup_ratio", "accumulate", "precision", "mesh", "seed", "limit_train"):
        assert getattr(config, name) == RunConfig.__dataclass_fields__[name].default
    assert config.method == AdaKron()


def test_the_task_s_recipe_wins_over_the_defaults(bert: Parse):
    config = bert()
    assert (config.batch_size, config.epochs, config.learning_rate) == (32, 80, 5e-4)
    assert config.batch_size != RunConfig.batch_size
    assert config.epochs != RunConfig.epochs


def test_a_flag_wins_over_the_recipe_and_leaves_the_rest_of_it(bert: Parse):
    config = bert("--batch-size", "16", "--best-by", "last")
    assert (config.batch_size, config.best_by, config.epochs) == (16, "last", 80)


def test_the_fast_recipe_has_a_tenth_of_the_epochs_but_keeps_three_and_a_flag_wins_over_it(bert: Parse):
    assert bert("--recipe", "fast").epochs == 8
    assert bert("--recipe", "fast").batch_size == 32
    assert bert("--recipe", "fast", "--epochs", "5").epochs == 5
    assert bert("--recipe", "fast", task="wnli").epochs == 3
    assert bert("--recipe", "fast", "--method", "full").epochs == bert("--method", "full").epochs == 3


def test_the_method_s_recipe_wins_over_the_task_s_and_a_flag_over_both(bert: Parse):
    assert bert("--method", "full").learning_rate == 2e-5
    assert bert("--method", "full").method == Full()
    assert bert("--method", "full").max_length == 128
    assert bert("--method", "full", "--learning-rate", "1e-5").learning_rate == 1e-5
    assert bert("--method", "pfeiffer").learning_rate == 5e-4


def test_a_roberta_gets_the_recipe_of_roberta_large_and_its_factors(roberta: Parse):
    config = roberta()
    assert (config.batch_size, config.epochs, config.max_length) == (64, 60, 256)
    assert config.method == AdaKron(factors=(4, 4))
    assert roberta("--method.factors", "8", "2").method == AdaKron(factors=(8, 2))
    assert roberta("--method.place", "pfeiffer").method == AdaKron(factors=(4, 4), place="pfeiffer")
    assert roberta("--method", "head").method == Head()


def test_a_recipe_of_one_s_own_replaces_the_task_s(bert: Parse, recipe: Callable[[str], str]):
    mine = recipe('batch_size = 24\nbest_by = "last"\nlimit_train = 100\nadakron = { factors = [6, 2] }\n')
    config = bert("--recipe", mine)
    assert (config.batch_size, config.best_by, config.limit_train) == (24, "last", 100)
    assert config.method == AdaKron(factors=(6, 2))
    assert config.epochs == RunConfig.epochs
    assert config.recipe == mine
    assert bert("--recipe", mine, "--batch-size", "8", "--method.factors", "3").batch_size == 8
    assert bert("--recipe", mine, "--method.factors", "3").method == AdaKron(factors=(3,))
    assert bert("--recipe", mine, "--method", "full").method == Full()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epoch = 3", "mine.toml: unknown key 'epoch'; accepted: .*epochs"),
        ('task = "rte"', "mine.toml: unknown key 'task'"),
        ("epochs = ", "mine.toml: "),
        ("epochs = 0", "epochs is 0; accepted: at least 1"),
        ('epochs = "many"', "epochs.*many.*accepted"),
        ("epochs = 2.5", "epochs.*2.5.*accepted"),
        ('learning_rate = "high"', "learning_rate.*high.*accepted"),
        ('limit_train = "some"', "limit_train.*some.*accepted"),
        ("mesh = 8", "mesh.*8.*accepted"),
        ("adakron = 3", "adakron.*3.*accepted"),
        ("adakron = { factors = 12 }", "factors.*12.*accepted"),
        ("adakron = { factors = [1.5] }", "factors.*1.5.*accepted"),
        ("adakron = { rank = 3 }", "adakron has no field rank; accepted: factors, place"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused(bert: Parse, recipe: Callable[[str], str], text: str, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        bert("--recipe", recipe(text))


def test_a_recipe_that_is_not_there_is_refused_with_what_is_accepted(bert: Parse, tmp_path: Path):
    with pytest.raises(ValueError, match="none.toml': no such file; accepted: paper, table, fast, or a TOML file"):
        bert("--recipe", str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match=str(tmp_path)):
        bert("--recipe", str(tmp_path))


# --- the recipes that come with the program


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_recipe_for_either_encoder_that_chooses_as_its_authors_did(
    bert: Parse, roberta: Parse, task: str
):
    assert (RECIPES / f"{task}.toml").is_file()
    for config in (bert(task=task), roberta(task=task)):
        assert config.task == task
        assert config.best_by == TASKS[task].best_by
        assert config.best_by in (*TASKS[task].metrics, "last")
    assert roberta(task=task).method == AdaKron(factors=(4, 4))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_every_file_of_recipes_has_the_sections_of_a_task_or_is_a_recipe_itself(bert: Parse, path: Path):
    if path.parent == RECIPES and path.stem in TASKS:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        assert set(values) == set(NAMED)
        for section in values.values():
            assert {"learning_rate", "epochs", "batch_size", "max_length", "best_by"} <= set(section)
            assert set(section.get("published", {})) <= set(TASKS[path.stem].metrics)
    else:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        tables = {name: said.pop(name) for name in METHODS if name in said}
        for method in tables or [AdaKron.name]:
            config = bert("--recipe", str(path), "--method", method, task="sst2")
            assert config.method == make_method(method, tables.get(method, {}))
            assert {name: getattr(config, name) for name in said} == said


# --- ranges


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"task": "glue"}, "task is 'glue'; accepted: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli"),
        ({"precision": "f16"}, "precision is 'f16'; accepted: auto, f32, bf16"),
        ({"resume": "always"}, "resume is 'always'; accepted: auto, never, must"),
        ({"epochs": 0}, "epochs is 0; accepted: at least 1"),
        ({"batch_size": 0}, "batch_size is 0; accepted: at least 1"),
        ({"accumulate": 0}, "accumulate is 0; accepted: at least 1"),
        ({"accumulate": 3, "batch_size": 32}, "accumulate is 3; accepted: a divisor of batch_size 32"),
        ({"limit_train": 0}, "limit_train is 0; accepted: all, or at least 1"),
        ({"limit_eval": -1}, "limit_eval is -1; accepted: all, or at least 1"),
        ({"seed": -1}, r"seed is -1; accepted: 0 to 2\*\*32 - 1"),
        ({"seed": 2**32}, "seed is 4294967296; accepted"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; accepted: above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; accepted: above 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; accepted: above 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; accepted: at least 0"),
        ({"weight_decay": float("inf")}, "weight_decay is inf; accepted: at least 0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio is 1.5; accepted: 0 to 1"),
        ({"warmup_ratio": -0.5}, "warmup_ratio is -0.5; accepted: 0 to 1"),
        ({"max_length": 7}, "max_length is 7; accepted: at least 8"),
        ({"best_by": "f1"}, "best_by is 'f1'; accepted: auto, accuracy, last"),
        ({"best_by": "accuracy", "task": "stsb"}, "best_by is 'accuracy'; accepted: auto, pearson, spearman, last"),
        ({"eval_every": 0}, "eval_every is 0; accepted: epoch, or at least 1"),
        ({"patience": -1}, "patience is -1; accepted: at least 0"),
        ({"patience": 2, "best_by": "last"}, "patience is 2; accepted: 0, since best_by is 'last'"),
        ({"mesh": "model"}, "mesh is 'model'; accepted: axes such as data=8 or data=4,model=2"),
        ({"mesh": "data=0"}, "mesh is 'data=0'; accepted"),
        ({"mesh": "rows=2"}, "mesh is 'rows=2'; accepted"),
        ({"mesh": "data=2,model=x"}, "mesh is 'data=2,model=x'; accepted"),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_value_out_of_its_range_is_refused_with_what_is_accepted(fields: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        RunConfig(**({"task": "rte"} | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 2**32 - 1},
        {"warmup_ratio": 1.0},
        {"warmup_ratio": 0.0, "weight_decay": 0.0},
        {"max_length": 8, "limit_train": 1, "limit_eval": 1, "epochs": 1, "batch_size": 1},
        {"task": "cola", "best_by": "matthews"},
        {"task": "mrpc", "best_by": "f1"},
        {"mesh": "data=4,model=2"},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_accepted(fields: dict[str, Any]):
    config = RunConfig(**({"task": "rte"} | fields))
    assert {name: getattr(config, name) for name in fields} == fields


def test_the_default_folder_is_named_after_task_method_and_seed():
    assert RunConfig(task="rte", seed=3, method=Full()).folder == Path("runs/rte-full-seed3")
    assert RunConfig(task="rte", out="elsewhere").folder == Path("elsewhere")


# --- flags


def test_flags_are_read_as_the_types_of_their_fields(bert: Parse):
    config = bert("--seed", "7", "--learning-rate", "1e-3", "--limit-train", "100", "--limit-eval", "all", "--out", "o")
    assert (config.seed, config.learning_rate, config.limit_train, config.limit_eval) == (7, 1e-3, 100, "all")
    assert config.out == "o"


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--epochs", "two"], "--epochs: invalid int value: 'two'"),
        (["--learning-rate", "low"], "--learning-rate: invalid float value: 'low'"),
        (["--limit-train", "some"], "--limit-train.*'some'.*all"),
        (["--eval-every", "often"], "--eval-every.*'often'.*epoch"),
        (["--seed"], "--seed: expected at least one argument"),
        (["rte"], "unknown argument 'rte'; accepted: --task"),
        (["--precision", "f16"], "--precision: invalid choice: 'f16'.*f32.*bf16"),
        (["--method", "lora9"], "method is 'lora9'; accepted: adakron.*full.*head"),
        (["--method.factors", "12", "x"], "method.factors is '12 x'; accepted: int"),
        (["--method.factors", "1.5"], "method.factors is '1.5'; accepted: int"),
        (["--method.factors", "12", "0"], r"method.factors is \(12, 0\); accepted: .*at least 1"),
        (["--method.factors", "-3"], r"method.factors is \(-3,\); accepted: .*at least 1"),
        (["--method.factors"], "--method.factors: expected at least one argument"),
        (["--method.place", "parallel"], "method.place is 'parallel'; accepted: sequential, pfeiffer"),
        (["--method.place", "pfeiffer", "sequential"], "method.place is 'pfeiffer sequential'; accepted: one value"),
        (["--method.nonsense", "3"], "--method.nonsense.*accepted: .*factors.*place"),
        (["--method", "full", "--method.factors", "3"], "method full has no field factors; accepted: layers"),
    ],
)
def test_a_flag_that_is_not_understood_is_refused_with_what_is_accepted(bert: Parse, flags: list[str], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        bert(*flags)


def test_help_lists_flags_in_groups_the_ten_everyday_ones_first():
    text = make_parser().format_help()
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings == [
        *("options", "everyday flags", "a table of your own", "optimisation", "data", "evaluation", "machine", "grids"),
        "selection",
        "fields of the method",
    ]
    everyday = text[text.index("everyday flags:") : text.index("\na table of your own:")]
    assert re.findall(r"^  (--\S+)", everyday, re.MULTILINE) == [
        *("--task", "--model", "--data", "--out", "--seed", "--method", "--recipe", "--epochs", "--batch-size"),
        "--learning-rate",
    ]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_help_with_a_method_says_what_its_fields_are(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        parse(["--help", name])
    assert end.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    said = attributes_of(METHODS[name])
    assert out.startswith(f"usage: adakron train --method {name}")
    for field in fields_of(METHODS[name]):
        assert f"--method.{field.name} {field.name.upper()} {said[field.name].rstrip('.')} (default: " in out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [([], "required: --task"), (["--help", "lorra"], "method is 'lorra'; accepted: adakron")],
    ids=["no task", "help with what is no method"],
)
def test_a_command_that_names_no_run_is_refused(flags: list[str], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        parse(flags)


def test_a_command_line_asks_for_no_more_of_a_model_than_its_configuration(
    bert: Parse, monkeypatch: pytest.MonkeyPatch
):
    def fetch(model: str) -> Path:
        raise AssertionError(f"the weights of {model} were asked for")

    monkeypatch.setattr("adakron_jax.hub.models.locate", fetch)
    assert bert().task == "rte"


def test_a_recipe_may_say_the_model_whose_configuration_is_read(models: dict[str, Path], recipe: Callable[[str], str]):
    command = parse_command(["--task", "rte", "--recipe", recipe(f'model = "{models["roberta-large"]}"')])
    assert command.model.encoder == NAMED["roberta-large"]
    assert command.runs[0].model == command.model.name == str(models["roberta-large"])


# --- fields of a method


def test_a_method_s_fields_are_read_as_their_types(bert: Parse):
    assert bert("--method.factors", "12", "4").method == AdaKron(factors=(12, 4))
    assert bert("--method.factors", "48").method == AdaKron(factors=(48,))
    flags = ("--method.factors", "4", "3", "2", "--method.place", "pfeiffer")
    assert bert(*flags).method == AdaKron((4, 3, 2), "pfeiffer")


def test_a_relative_encoder_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "enc").mkdir()
    (tmp_path / "enc/config.json").write_text((Path(__file__).parents[1] / "oracles/base-bert/config.json").read_text())
    monkeypatch.chdir(tmp_path)
    assert parse(["--task", "rte", "--model", "./enc"]).model == str(tmp_path / "enc")


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--lr", "3"], "unknown argument '--lr'; accepted: --learning-rate, or another"),
        (["--epoch", "3"], "unknown argument '--epoch'; accepted: --epochs"),
        (["--learning_rate=3"], "unknown argument '--learning_rate'; accepted: --learning-rate"),
        (["--output_dir", "x"], "unknown argument '--output_dir'; accepted: --out"),
        (["--qqqq"], "unknown argument '--qqqq'; accepted: --task, --model, --data, --out, or another"),
        (["--folds", "0"], "folds is 0; accepted: at least 1"),
        (["--folds", "-1"], "folds is -1; accepted: at least 1"),
        (["--method", "lora", "--method.factors", "12", "4"], "method lora has no field factors; accepted: .*r, alpha"),
    ],
)
def test_a_mistaken_flag_is_answered_by_the_near_one(bert: Parse, flags: list[str], complaint: str):
    with pytest.raises(ValueError, match=complaint) as refusal:
        bert(*flags)
    assert len(str(refusal.value)) < 200


def test_a_flag_alone_says_yes_and_words_say_either(bert: Parse):
    assert not bert().remat
    assert bert("--remat").remat
    assert bert("--remat", "true", "--seed", "1").remat
    assert not bert("--remat", "false").remat
    with pytest.raises(ValueError, match=r"--remat: 'yes'; accepted: true, false"):
        bert("--remat", "yes")
