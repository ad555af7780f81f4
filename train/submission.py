"""A submission to the GLUE leaderboard: a zip of the predictions of each task's best run on the test set."""

import dataclasses
import functools
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from adakron_jax import adapter
from adakron_jax.data.examples import Examples
from adakron_jax.encoders import pretrained
from adakron_jax.io import files
from adakron_jax.predictor import logits_of, on_device
from train.data import sources, token_cache
from train.data.glue import BOUNDS, TASKS, Task
from train.engine.steps.step import configure_jax
from train.options.config import RunConfig
from train.options.model import Pretrained
from train.output.result import parse as parse_result
from train.terminal import Line, say

Classify = Callable[[str, Examples], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
      score: the task's first metric on the development set, after the best epoch.
    """

    folder: Path
    config: RunConfig
    score: float

    @property
    def task(self) -> Task:
        return TASKS[self.config.task]


def submit(roots: Sequence[str], out: Path, data_name: str = "", model: str = "") -> None:
    """Writes the zip of predictions for all tasks; a task without a run gets its most frequent label throughout.

    Raises:
      ValueError: a folder has no run, a run is damaged or of another encoder, or its test set is missing.
    """
    files.check_writable(out)
    runs = find(roots)
    ready = prepare(runs, data_name, model)  # all is read before the first prediction, to fail early
    missing = {sheet.task.name for sheet in SHEETS if sheet.name not in ready}
    source = data_name or next(iter(runs.values())).config.data
    majorities = {name: majority(task, source) for name, task in TASKS.items() if name in missing}
    words_by_sheet = {}
    for sheet in SHEETS:
        if sheet.name in ready:
            classify, examples = ready[sheet.name]
            say(f"{sheet.name}: {len(examples):,} predictions by {runs[sheet.task.name].folder}")
            words_by_sheet[sheet.name] = sheet.words(classify(sheet.name, examples))
        else:
            words_by_sheet[sheet.name] = words = sheet.words(np.full(sheet.size, majorities[sheet.task.name]))
            why = "no test set" if sheet.task.name in runs else "no run"
            say(f"{sheet.name}: {why}; the most frequent label, {words[0]}, for all {sheet.size:,} examples")
    files.write_whole(out, pack(words_by_sheet))
    say(f"wrote {out}")


def find(roots: Sequence[str]) -> dict[str, Trained]:
    """Returns the best run of each task in the folders and below them; ValueError if a folder has none."""
    claims: dict[str, dict[Path, Trained]] = {}
    for root in roots:
        results = sorted(Path(root).rglob("result.json"))
        finished = [path.parent for path in results if path.with_name("adapter").is_dir()]
        if not finished:
            raise ValueError(f"{root}: no finished run; accepted: a folder with adapter and result.json, or one above")
        for run in map(read_run, finished):
            claims.setdefault(run.task.name, {})[run.folder.resolve()] = run
    best = {}
    for name, runs in claims.items():
        best[name] = max(runs.values(), key=lambda run: run.score)
        if len(runs) > 1:
            score = f"{best[name].task.metrics[0]} {best[name].score:.4f}"
            say(f"{name}: {best[name].folder}, the best of {len(runs)} runs on the development set, with {score}")
    return best


def read_run(folder: Path) -> Trained:
    """Reads a finished run's folder; ValueError says what is damaged."""
    try:
        config = RunConfig.loads((folder / "config.toml").read_text(encoding="utf-8"), folder)
        result = parse_result((folder / "result.json").read_text(encoding="utf-8"), config)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: damaged result.json or config.toml ({error})") from None
    if config.custom_data:
        raise ValueError(f"{folder}: a run on {config.data}; accepted: runs on GLUE's tasks")
    return Trained(folder, config, result.best.scores[config.metrics[0]])


def prepare(runs: Mapping[str, Trained], data_name: str, model: str) -> dict[str, tuple[Classify, Examples]]:
    """Returns the classifier and the examples of each sheet of the runs' tasks, by the sheet's name."""

    ready, models = {}, functools.cache(Pretrained)
    for run in runs.values():
        encoder = models(model or run.config.model)
        classify = classifier(run, encoder.leaves)
        load = functools.partial(token_cache.load, data_name or run.config.data, labelled=False)
        for sheet in (sheet for sheet in SHEETS if sheet.task is run.task):
            try:
                examples = load(sheet.examples, sheet.split, encoder.tokenizer, run.config.max_length)
            except ValueError as error:
                if not sheet.source:
                    raise ValueError(f"the test set of {run.task.name}: {error}") from None
                # Few copies of GLUE have the diagnostic set, and it does not count in the score.
                say(f"warning: {sheet.name}: {error}")
                continue
            ready[sheet.name] = classify, examples
            if len(examples) != sheet.size:
                say(f"warning: {sheet.name} has {len(examples):,} examples; the site expects {sheet.size:,}")
    return ready


def classifier(run: Trained, base: pretrained.Leaves) -> Classify:
    """Returns a function of a name to show and examples, which predicts label codes or values by the run's adapter."""
    model, params, card = adapter.attach(run.folder / "adapter", base, dtype=run.config.dtype)
    problem = run.task.problem  # a regression's lacks the unit that the run computed
    if (card.task, card.problem.name, card.problem.labels) != (run.task.name, problem.name, problem.labels):
        raise ValueError(f"{run.folder}: its adapter is for {card.task} {card.problem.labels}, not {run.task.name}")

    def classify(name: str, examples: Examples) -> np.ndarray:
        configure_jax(model.dtype)
        placed = on_device(params, model)  # here, so that only one run's are on the device at a time
        with Line(name, len(examples)) as line:
            logits = logits_of(model, placed, examples, lambda done: line.show(done, line.per_second(done)))
        if not np.isfinite(logits).all():
            raise ValueError(f"{run.folder}: its logits are not finite")
        return card.problem.predict(logits)

    return classify


def majority(task: Task, data_name: str) -> int | float:
    """Returns the training set's most frequent label, or a regression's mean; warns and returns 0 without a set."""
    try:
        targets = task.problem.targets(sources.read(data_name, task, "train"), task.label)
    except ValueError as error:
        say(f"warning: {task.name}: no training set to take the most frequent label from, so it is 0: {error}")
        return 0
    return task.problem.constant(targets)


def pack(words_by_sheet: Mapping[str, Sequence[str]]) -> bytes:
    """Returns the bytes of a zip with a file per entry; the same predictions give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, words in words_by_sheet.items():
            lines = ["index\tprediction", *(f"{i}\t{word}" for i, word in enumerate(words))]
            info = zipfile.ZipInfo(f"{name}.tsv")  # dated 1980 by default
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, "\n".join(lines) + "\n")
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One file of predictions, as the leaderboard at gluebenchmark.com requires it.

    Attributes:
      name: the file's name without `.tsv`.
      task: the task whose model predicts.
      size: the number of examples in the official test set.
      split: the split of the data.
      spelled: whether labels are written as names rather than codes.
      source: the name under which the data have the examples, if not the task's.
    """

    name: str
    task: Task
    size: int
    split: str = "test"
    spelled: bool = False
    source: str = ""

    @property
    def examples(self) -> Task:
        """The task under the name that its test examples have in the data."""
        return dataclasses.replace(self.task, name=self.source or self.task.name)

    def words(self, predictions: np.ndarray) -> list[str]:
        """Returns label codes, or a regression's values, as the site reads them."""
        if bounds := BOUNDS.get(self.task.name):
            return [f"{value:.3f}" for value in np.clip(predictions, *bounds)]
        return [self.task.labels[code] if self.spelled else str(code) for code in predictions]


SHEETS = (
    Sheet("CoLA", TASKS["cola"], 1063),
    Sheet("SST-2", TASKS["sst2"], 1821),
    Sheet("MRPC", TASKS["mrpc"], 1725),
    Sheet("STS-B", TASKS["stsb"], 1379),
    Sheet("MNLI-m", TASKS["mnli"], 9796, "test_matched", spelled=True),
    Sheet("MNLI-mm", TASKS["mnli"], 9847, "test_mismatched", spelled=True),
    Sheet("QNLI", TASKS["qnli"], 5463, spelled=True),
    Sheet("RTE", TASKS["rte"], 3000, spelled=True),
    Sheet("QQP", TASKS["qqp"], 390965),
    Sheet("WNLI", TASKS["wnli"], 146),
    Sheet("AX", TASKS["mnli"], 1104, spelled=True, source="ax"),
)
