"""What a person sees of a run, and what it leaves in its folder besides weights."""

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from adakron_jax.adapter import write_whole
from adakron_jax.params import Tree, count, flatten
from train.config import RunConfig
from train.recipes import paper_scores
from train.result import low_resource
from train.tasks import TASKS

PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal
LOOK_SECONDS = 1.0  # between two looks at what else there is to do
_PACKAGES = ("adakron-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "datasets", "numpy")

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    console.print(text, markup=False)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


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


class Journal:
    """`metrics.jsonl` and TensorBoard events: one record a logged step and one an evaluation."""

    def __init__(self, folder: Path, resumed_at: int):
        """Continues the journal of a run resumed at a step; records of later steps, which will be repeated, go."""
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        self.records = [record for record in _read_records(self._path) if record["step"] <= resumed_at]
        if not resumed_at:
            self.records = []
        write_whole(self._path, "".join(json.dumps(record) + "\n" for record in self.records).encode())
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name not in ("kind", "step", "split"):
                self._events.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]

    def close(self) -> None:
        self._events.close()


def _read_records(path: Path) -> list[dict[str, Any]]:
    """The whole records of a journal; a killed run may have left half of a last line."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


class _Bar(Progress):
    """A bar, and a line below it."""

    below = ""

    def get_renderables(self) -> Iterator[Any]:
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below, no_wrap=True, overflow="ellipsis")


class Line:
    """How much of a total is done, and time left: a live line on a terminal, else a line now and then."""

    def __init__(self, name: str, total: int, start: int = 0):
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total, completed=start, shown="")
        self._name, self._total, self._start = name, total, start
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()

    def rate(self, done: int) -> float:
        """How many a second since the start."""
        return (done - self._start) / max(time.monotonic() - self._begun, 1e-9)

    def show(self, done: int, rate: float, text: str = "", below: str = "") -> None:
        """Shows it, with the time left at a rate of so many a second, 0 for none known."""
        self._bar.below = below
        self._bar.update(self._task, completed=done, shown=text)
        now = time.monotonic()
        if not console.is_terminal and now - self._told >= PLAIN_SECONDS:
            self._told = now
            left = f"left {_clock((self._total - done) / rate)}" if rate else ""
            words = (f"{self._name} {done}/{self._total}", text, left, below)
            say("  ".join(filter(None, words)))


class ProgressLine(Line):
    """Of a run: loss, learning rate and examples a second; below it what `overview` says of step and that pace."""

    def __init__(self, total: int, start: int, batch_size: int, overview: Callable[[int, float], str]):
        super().__init__("step", total, start)
        self._batch_size, self._overview = batch_size, overview
        self._looked, self._below = -math.inf, overview(start, 0.0)
        self._bar.below = self._below
        self._last: tuple[int, float, float] | None = None
        self._steps, self._seconds = 0, 0.0

    def update(self, step: int, epoch: int, metrics: Mapping[str, float], paused: float) -> None:
        """Shows the state after `step` steps; `paused`: seconds so far that went to other things than training."""
        rate = self._pace(step, paused)
        if (now := time.monotonic()) - self._looked >= LOOK_SECONDS:
            self._looked, self._below = now, self._overview(step, rate * self._batch_size)
        shown = f"epoch {epoch + 1}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}"
        if rate:
            shown += f"  {rate * self._batch_size:.0f} examples/s"
        self.show(step, rate, shown, self._below)

    def note(self, text: str) -> None:
        """Says on a terminal's line what is done instead of steps."""
        self._bar.update(self._task, shown=text)

    def _pace(self, step: int, paused: float) -> float:
        """Steps a second, 0 while unknown: of those alone that no pause fell among, since it overlaps with a step."""
        now, last = time.monotonic(), self._last
        self._last = step, now, paused
        if last is not None and paused == last[2]:
            self._steps += step - last[0]
            self._seconds += now - last[1]
        return self._steps / max(self._seconds, 1e-9)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def scores(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation's record, or of a result's best or last epoch."""
    about = ("kind", "step", "epoch", "train_loss", "collapsed")
    return {name: value for name, value in record.items() if name not in about}


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


def show_result(result: Mapping[str, Any], config: RunConfig) -> None:
    """Prints the closing summary, with the paper's scores beside those of whole sets where it has them."""
    examples = result["train_examples"]
    scarce = low_resource(config, examples)
    published = {} if scarce or config.limit_eval != "all" else paper_scores(config)
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


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    write_whole(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")


def device() -> dict[str, Any]:
    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": len(jax.devices())}
