"""What a run prints: what is trainable, its size, its evaluations, and the closing summary."""

import math
from collections.abc import Sequence

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data.plan import Plan
from adakron_jax.params import Tree, count, flatten
from train import terminal
from train.data.glue import TASKS
from train.data.task import metric_of
from train.options.config import RunConfig
from train.options.recipes import paper_scores
from train.output.result import Evaluation, Parameters, Result, low_resource
from train.output.selection_file import RULE, Choice
from train.terminal import say


def show_trainable(trainable: Tree, frozen: Tree, params: Parameters) -> None:
    """Prints what is trainable and what is frozen, in groups."""
    table = terminal.table("parameters", "trainable", "frozen", right=("trainable", "frozen"))
    trained, kept = groups(trainable), groups(frozen)
    for name in sorted(trained.keys() | kept.keys(), key=lambda name: (name not in trained, name)):
        cells = (f"{sizes[name]:,}" if name in sizes else "-" for sizes in (trained, kept))
        table.add_row(name, *cells)
    table.add_row("all", f"{count(trainable):,}", f"{count(frozen):,}", style="bold", end_section=True)
    terminal.show(table)
    say(f"the method trains {params.method:,} parameters, {params.percent:.3f} % of the base's {params.base:,}")


def show_plan(plan: Plan, examples: int, steps: int) -> None:
    """Prints the size of a run, and how its batches are packed."""
    *fewer, most = map(str, plan.row_counts)
    rows = f"{', '.join(fewer)} or {most}" if fewer else most
    say(
        f"{examples:,} training examples, {steps:,} steps; {rows} rows of {plan.row_length} tokens per batch, "
        f"{100 * plan.padding_fraction:.1f} % padding"
    )


def groups(tree: Tree) -> dict[str, int]:
    """Returns parameter counts by part of the model, all layers in one; added modules have parts of their own."""
    sizes: dict[str, int] = {}
    for path, leaf in flatten(tree).items():
        keys = path.removeprefix("encoder/").split("/")
        name = next((key for key in keys if "@" in key), keys[0])
        sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape)
    return sizes


def show_evaluation(
    evaluation: Evaluation, train_loss: float, collapsed: str, *, header: bool, best: bool, name: str
) -> None:
    """Prints a row of the evaluation table: the epoch's mean training loss, scores, the run's name.

    Args:
      collapsed: the name of the rows, if all get the same prediction; else empty.
    """
    scores = evaluation.scores
    width = max(10, *(len(metric) + 2 for metric in scores))
    if header:
        say("epoch    step  train loss" + "".join(f"{metric:>{width}}" for metric in scores))
    cells = "".join(f"{metric_of(metric).show(score):>{width}}" for metric, score in scores.items())
    note = f"collapsed: the same prediction for all of the {collapsed}" if collapsed else ""
    notes = (f"  {note}" for note in ("*" if best else "", name, note) if note)
    say(f"{evaluation.epoch:>5}{evaluation.step:>8}{train_loss:>12.4f}{cells}{''.join(notes)}")


def advice(loss: float, constant: float) -> str:
    """Returns advice for a run that predicts the same for all, from its last training loss and the least such loss."""
    said = f"the training loss ended at {loss:.3g}; the best constant prediction has {constant:.3g}"
    if loss > 1.1 * constant:
        return f"{said}: a lower learning rate may help"
    if loss < 0.9 * constant:
        return f"{said}: it has learned the training rows; check the rows that it is evaluated on"
    return f"{said}: it has learned nothing yet; more epochs, a higher learning rate or another pooling may help"


def show_result(result: Result, config: RunConfig, encoder: EncoderConfig, advised: str = "") -> None:
    """Prints the closing summary, with the paper's scores, where there are any, beside those of whole sets.

    Args:
      advised: what may help if the run has collapsed.
    """
    examples, best, last = result.train_examples, result.best, result.last
    scarce = low_resource(config, examples)
    published = {} if scarce or config.limit_eval != "all" else paper_scores(config, encoder)
    columns = {
        which: {name: metric_of(name).show(score) for name, score in scores.items()}
        for which, scores in result.scored.items()
    }
    columns |= {"paper": {name: str(score) for name, score in published.items()}} if published else {}
    table = terminal.table("metric", *columns, right=[*columns])
    for name in dict.fromkeys([*last.scores, *result.test]):
        table.add_row(name, *(column.get(name, "-") for column in columns.values()))
    speed, seconds, compiled = result.throughput, result.seconds, result.compilations.train
    terminal.show(table)
    say(
        f"{result.task}, {result.method.name}, seed {result.seed}, {result.model}: best epoch {best.epoch}, step "
        f"{best.step:,} (by {result.best_by}), last {last.epoch}, step {last.step:,}; {config.choosing_rows}, one seed"
    )
    if scarce and examples is not None:
        say(f"low-resource: {examples:,} training examples; GLUE has {TASKS[config.task].train_examples:,}")
    if result.stopped_early:
        waited = f"{config.patience} evaluation{'s' if config.patience > 1 else ''}"
        say(f"stopped early, of {config.epochs} epochs: {waited} without a better {result.best_by}")
    if result.collapsed:
        said = f"COLLAPSED: at the end, all of the {config.choosing_rows} get the same prediction"
        say("; ".join(filter(None, (said, advised))))
    say(
        f"{speed.examples_per_second:.0f} examples/s, {100 * speed.padding_fraction:.1f} % padding, "
        f"{compiled} compilation{'s' if compiled != 1 else ''} of the training step; {seconds.train:.0f} s training, "
        f"{seconds.eval:.0f} s evaluation, {seconds.compile:.0f} s compiling, {seconds.total:.0f} s in all"
    )
    say(f"adapter: {config.folder / 'adapter'}")


def show_choices(choices: Sequence[Choice]) -> None:
    """Prints every candidate with its score, the chosen one marked, and the rule."""
    for choice in choices:
        for candidate in choice.candidates:
            words = "; ".join([choice.shown(candidate), *choice.notes(candidate)])
            say(f"{choice.group}, {choice.words(candidate)}: {words}")
    say(RULE)
