"""Model cards in the hub's format: what a classifier is, its training data, its scores, and how to use it."""

import dataclasses
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adakron_jax.adapter import Card, portable_shapes
from adakron_jax.architectures.layers import ALL_LAYERS
from adakron_jax.architectures.paths import CLASSIFIER
from adakron_jax.io.files import read_json
from adakron_jax.methods import external
from adakron_jax.params import count

LIBRARY = "adakron-jax"


def model_card(card: Card, name: str, use: str, run: Path | None = None) -> str:
    """Returns the text of a README.md, metadata first.

    Args:
      card: the adapter's.
      name: the model's name.
      use: how it is used, in Markdown.
      run: the folder of the run that trained it, if there is one, for its seed, data and counts.
    """
    from huggingface_hub import EvalResult, ModelCardData

    facts = _facts(run)
    dataset = str(facts.get("data", card.task) or "unknown")
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=_plain(card.task) or "unknown",
            dataset_name=dataset,
            metric_type=metric,
            metric_value=score,
        )
        for metric, score in card.scores.items()
    ]
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="text-classification",
        tags=["adapter", card.method.name, card.problem.name],
        base_model=card.base if _is_hub_id(card.base) else None,
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n" + "\n".join(_text(card, name, use, facts)) + "\n"


def _facts(run: Path | None) -> dict[str, Any]:
    """Returns what a run's folder says beyond its adapter."""
    facts: dict[str, Any] = {}
    if run and (run / "result.json").is_file():
        facts |= read_json(run / "result.json")
    if run and (run / "config.toml").is_file():  # its `data` is a name, the result's is a fingerprint
        facts |= tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    return facts


def _text(card: Card, name: str, use: str, facts: dict[str, Any]) -> Iterable[str]:
    method = {field.name: getattr(card.method, field.name) for field in dataclasses.fields(card.method)}
    method = {key: value for key, value in method.items() if (key, value) != ("layers", ALL_LAYERS)}
    trained = portable_shapes(card)
    head = count(trained.get(CLASSIFIER, {}))
    rows = {
        "Encoder": f"{card.base} ({card.encoder.model_type}, {card.encoder.num_layers} layers, fingerprint "
        f"{card.fingerprint[:12]})",
        "Method": card.method.name + "".join(f", {key} {_plain(value)}" for key, value in method.items()),
        "Needs": external.import_path(type(card.method)),
        "Parameters": f"{count(trained) - head:,} of the adapter, {head:,} of the head",
        "Problem": card.problem.name,
        "Labels": ", ".join(card.problem.labels),
        "Reads": f"{card.pooling}, at most {card.max_length} tokens",
        "Trained on": ", ".join(str(x) for x in dict.fromkeys((card.task, facts.get("data", ""))) if x),
        "Training examples": facts.get("train_examples") or "",
        "Seed": facts.get("seed", ""),
    }
    yield from (f"# {name}", "", f"A text classifier made with {LIBRARY}.", "", "| | |", "|---|---|")
    yield from (f"| {key} | {_cell(value)} |" for key, value in rows.items() if value != "")
    if card.scores:
        yield from ("", "## Scores", "", "Of the development set, in the epoch that was best there.", "")
        yield from ("| metric | value |", "|---|---|")
        yield from (f"| {_cell(metric)} | {score:.4f} |" for metric, score in card.scores.items())
    yield from ("", "## Use", "", use)


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _is_hub_id(base: str) -> bool:
    return not base.startswith((".", "/", "~", "pkg:")) and base.count("/") <= 1
