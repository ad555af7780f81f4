"""Recipes: the hyper-parameters of `configs/`, and the paper's scores that are stored with them."""

import tomllib
import typing
from pathlib import Path
from typing import Any

from adakron_jax.architectures.config import BERT_BASE, NAMED, EncoderConfig
from adakron_jax.methods import AdaKron
from adakron_jax.methods.registry import METHODS, make_method
from train.options.config import RunConfig, options, typed

_TRAIN = Path(__file__).parents[1]
RECIPES = next(path for path in (_TRAIN.parent / "configs", _TRAIN / "configs") if path.is_dir())
TABLE = "table"  # the recipe for custom data
NAMES = ("paper", TABLE, "fast")  # all others are files
WIDTH = 384  # of the encoder that the learning rates of `table` are for; wider ones take proportionally less
BY_RECIPE = ("epochs", "batch_size", "learning_rate")  # what every recipe here sets
FAST = 10  # `--recipe fast` divides the epochs by this, to no fewer than FAST_EPOCHS
FAST_EPOCHS = 3


def family(encoder: EncoderConfig) -> str:
    """Returns the section of a recipe to follow: that for BERT-base, or that for RoBERTa-large."""
    return "bert-base" if encoder.model_type == BERT_BASE.model_type else "roberta-large"


def read_recipe(recipe: str, task: str, encoder: EncoderConfig, method: str, rows: int = 0) -> dict[str, Any]:
    """Returns the values of a recipe: the task's for the kind of encoder, then the method's; or those of a TOML file.

    Args:
      task: one of GLUE's, or TABLE.
      rows: how many rows of a table train.

    Raises:
      ValueError: there is no such recipe, or it has unknown keys.
    """
    if recipe not in NAMES:
        return _of_method(read_file(Path(recipe)), method)
    if recipe != "fast" and (recipe == TABLE) != (task == TABLE):
        accepted = f"{TABLE}, fast, or a TOML file, for a table" if task == TABLE else "paper, fast, or a TOML file"
        raise ValueError(f"recipe is {recipe!r}; accepted: {accepted}")
    overlay = RECIPES / "methods" / f"{method}.toml"
    of_method = _of_method(read_file(overlay), method) if overlay.is_file() else {}
    if task == TABLE:
        values = table_recipe(rows, encoder)
        values |= {key: value for key, value in of_method.items() if key not in ("epochs", "batch_size")}
    else:
        values = _of_method(read_file(RECIPES / f"{task}.toml", family(encoder)), method) | of_method
    if recipe == "fast":
        values["epochs"] = min(values["epochs"], max(FAST_EPOCHS, round(values["epochs"] / FAST)))
    return values


def table_recipe(rows: int, encoder: EncoderConfig) -> dict[str, Any]:
    """Returns the learning rate, epochs, batch size and length for a table of so many training rows."""
    sizes = load_toml(RECIPES / f"{TABLE}.toml")["sizes"]
    size = next((size for size in sizes if rows <= size.get("rows", rows)), sizes[-1])
    values = {key: value for key, value in size.items() if key != "rows"}
    values["learning_rate"] *= min(1.0, WIDTH / encoder.hidden_size)
    return values | {"max_length": min(RunConfig.max_length, encoder.max_length)}


def described_table() -> str:
    """Returns what `--help` says about the recipe for tables."""
    lines = (
        f"learning rate {size['learning_rate']:g}, {size['epochs']} epochs, batches of {size['batch_size']} for "
        f"{'up to ' + format(size['rows'], ',') if 'rows' in size else 'more'} training rows"
        for size in load_toml(RECIPES / f"{TABLE}.toml")["sizes"]
    )
    return f"{'; '.join(lines)}; learning rates are for encoders {WIDTH} wide; wider ones take proportionally less"


def read_file(path: Path, section: str = "") -> dict[str, Any]:
    """Returns the values of a recipe's file, with tables of some methods' fields; ValueError names a mistake in it."""
    if not path.exists():
        raise ValueError(f"recipe {str(path)!r}: no such file; accepted: {', '.join(NAMES)}, or a TOML file")
    values = load_toml(path)
    values = values[section] if section else values
    values.pop("published", None)
    accepted = {name for name, known in options(RunConfig).items() if known.recipe}
    for key in values.keys() - accepted - METHODS.keys():
        raise ValueError(f"{path}: unknown key {key!r}; accepted: {', '.join(sorted(accepted))}, or a method's name")
    hints = typing.get_type_hints(RunConfig) | dict.fromkeys(METHODS, dict)
    return {key: typed_in(path, key, value, hints[key]) for key, value in values.items()}


def _of_method(values: dict[str, Any], method: str) -> dict[str, Any]:
    """Returns the values without the tables of other methods."""
    return {key: value for key, value in values.items() if key == method or key not in METHODS}


def load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None


def typed_in(path: Path, key: str, value: Any, hint: Any) -> Any:
    """Converts a value as `typed` does; the ValueError names the file too."""
    try:
        return typed(key, value, hint)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def paper_encoder(encoder: EncoderConfig) -> str | None:
    """Returns the name of the paper's encoder with these sizes and this vocabulary, if it is one."""
    sizes = ("model_type", "vocab_size", "hidden_size", "num_layers")
    same = (name for name, known in NAMED.items() if all(getattr(known, s) == getattr(encoder, s) for s in sizes))
    return next(same, None)


def paper_scores(config: RunConfig, encoder: EncoderConfig) -> dict[str, float]:
    """Returns the paper's scores, in percent, for this task, method and encoder; empty where it has none."""
    name = paper_encoder(encoder)
    if name is None or config.custom_data:
        return {}
    recipe = load_toml(RECIPES / f"{config.task}.toml")[name]
    method = make_method(AdaKron.name, recipe.get(AdaKron.name, {}))
    return recipe.get("published", {}) if config.method == method else {}


def published_scores(task: str, encoder: str) -> dict[str, float]:
    """Returns the scores, in percent, that the recipe of a task in the paper has for one of its encoders."""
    return load_toml(RECIPES / f"{task}.toml")[encoder]["published"]
