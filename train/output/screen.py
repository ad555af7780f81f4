"""What a person sees of a run, and what it leaves in its folder besides weights."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from adakron_jax.config import EncoderConfig
from adakron_jax.params import Tree, count, flatten
from train.data.glue import TASKS
from train.options.config import RunConfig
from train.options.recipes import paper_scores
from train.output.result import low_resource, scores

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    console.print(text, markup=False)


def show_learning(trainable: Tree, frozen: Tree, budget: Mapping[str, Any]) -> None:
    """Prints what learns and what is frozen, in groups."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameters")
    table.add_column("learn", justify="right")
    table.add_column("frozen", justify="right")
    learning, resting = groups(trainable), groups(frozen)
    for name in sorted(learning.keys() | resting.keys(), key=lambda name: (name not in learning, name)):
        cells = (f"{sizes[name]:,}" if name in sizes else "-" for sizes in (learning, resting))
        table.add_row(name, *cells)
    table.add_row("all", f"{count(trainable):,}", f"{count(frozen):,}", style="bold", end_section=True)
    console.print(table)
    say(
        f"the method trains {budget['method']:,} parameters, {budget['percent']:.3f} % of the base's {budget['base']:,}"
    )


def groups(tree: Tree) -> dict[str, int]:
    """Parameter counts by part of the model, what a method added under the name of its module."""
    sizes: dict[str, int] = {}
    for path, leaf in flatten(tree).items():
        keys = path.removeprefix("encoder/").removeprefix("layers/").split("/")
        name = next((key for key in keys if "@" in key), keys[0])
        sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape)
    return sizes


def show_evaluation(record: Mapping[str, Any], header: bool, best: bool, name: str) -> None:
    """Prints a row of the evaluation table: the epoch's mean training loss, its scores in percent, the run's name."""
    found = scores(record)
    width = max(10, *(len(name) + 2 for name in found))
    if header:
        say("epoch    step  train loss" + "".join(f"{name:>{width}}" for name in found))
    cells = "".join(f"{100 * value:>{width}.2f}" for value in found.values())
    notes = (
        ("  *" if best else "")
        + (f"  {name}" if name else "")
        + ("  collapsed: every example gets the same answer" if record["collapsed"] else "")
    )
    say(f"{record['epoch']:>5}{record['step']:>8}{record['train_loss']:>12.4f}{cells}{notes}")


def show_result(result: Mapping[str, Any], config: RunConfig, encoder: EncoderConfig) -> None:
    """Prints the closing summary, with the paper's scores beside those of whole sets where it has them."""
    examples = result["train_examples"]
    scarce = low_resource(config, examples)
    published = {} if scarce or config.limit_eval != "all" else paper_scores(config, encoder)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("metric", "best", "last", *(["paper"] if published else [])):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for name in scores(result["last"]):
        ours = [f"{100 * result[which][name]:.2f}" for which in ("best", "last")]
        table.add_row(name, *ours, *([str(published.get(name, "-"))] if published else []))
    speed, spent = result["throughput"], result["seconds"]
    console.print(table)
    say(
        f"{result['task']}, {result['method']['name']}, seed {result['seed']}, {result['model']}: best epoch "
        f"{result['best']['epoch']}, step {result['best']['step']:,} (by {result['best_by']}), last "
        f"{result['last']['epoch']}, step {result['last']['step']:,}; development set, one seed"
    )
    if scarce and examples is not None:
        say(f"low-resource: {examples:,} training examples; GLUE has {TASKS[config.task].train_examples:,}")
    if result["stopped_early"]:
        waited = f"{config.patience} evaluation{'s' if config.patience > 1 else ''}"
        say(f"stopped early, of {config.epochs} epochs: {waited} without a better {result['best_by']}")
    if result["collapsed"]:
        say("COLLAPSED: at the end every example gets the same answer; a lower learning rate or another seed may help")
    say(
        f"{speed['examples_per_second']:.0f} examples/s, {100 * speed['padding_fraction']:.1f} % padding, "
        f"{result['compilations']['train']} compilations of the training step; {spent['train']:.0f} s training, "
        f"{spent['eval']:.0f} s evaluation, {spent['compile']:.0f} s compiling, {spent['total']:.0f} s in all"
    )
    say(f"adapter: {config.folder / 'adapter'}")
