"""What a run needs, loaded and laid out on the devices: data, model, optimiser, checkpoints."""

import dataclasses
import functools
import math
import shutil
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from adakron_jax import adapter, files, hub, pretrained
from adakron_jax.config import EncoderConfig
from adakron_jax.data import packing, tokenizer
from adakron_jax.data.packing import Plan
from adakron_jax.encoders.classifier import SequenceClassifier
from adakron_jax.files import write_whole
from adakron_jax.forward import PerShape
from adakron_jax.params import Tree, budget, count, flatten, split_params
from adakron_jax.splice import is_own, is_trainable
from train.data import tokens
from train.data.glue import TASKS, Task
from train.engine import checkpoint, optim
from train.engine.checkpoint import Checkpoints
from train.engine.sharding import Shardings, make_shardings
from train.engine.step import TrainState, compile_steps, init_state
from train.options.config import Limit, RunConfig
from train.output import result, screen

EVAL_BATCH = 256  # examples of an evaluation batch
STEPS_A_SHAPE = 100  # a shape more is a compilation more, which fewer steps would not earn back
LOGS = 2**20  # bytes of a run's folder besides weights, roughly


class Shared:
    """What runs of one process have in common, and read or compile once: models, token arrays, programs.

    Of tokens only the last task's are kept.
    """

    def __init__(self) -> None:
        self.locate = functools.cache(hub.locate)
        self.weights = functools.cache(pretrained.read)
        self.fingerprint = functools.cache(
            lambda folder, encoder: pretrained.fingerprint(self.weights(folder, encoder))
        )
        self.tokenizer = functools.cache(tokenizer.Tokenizer)
        self.examples = functools.lru_cache(maxsize=3)(self._examples)
        self.programs = functools.cache(lambda *constants: ({}, {}, {}))

    def _examples(
        self, source: str, task: str, split_name: str, folder: Path, vocab_size: int, max_length: int
    ) -> tokenizer.Examples:
        found = tokens.load(source, TASKS[task], split_name, self.tokenizer(folder, vocab_size), max_length)
        if found.empty_texts:
            screen.say(f"warning: {found.empty_texts} empty texts in {task} {split_name}, kept")
        return found


@dataclasses.dataclass
class Run:
    """All that a run needs, made by `prepare`.

    Attributes:
      compiled_before: programs of each step that an earlier run has compiled.
      trained: examples trained on since `prepare`.
      stopping: the user has asked to stop, when there was nothing left but to finish.
      overview: a line on what else there is to do, from the step reached and the examples a second.
    """

    config: RunConfig
    task: Task
    encoder: EncoderConfig
    train_set: tokenizer.Examples
    dev_sets: dict[str, tokenizer.Examples]
    plan: Plan
    dev_plans: dict[str, Plan]
    shardings: Shardings
    frozen: Tree
    state: TrainState
    train_step: PerShape
    together_step: PerShape
    eval_step: PerShape
    checkpoints: Checkpoints
    fingerprint: str
    budget: dict[str, Any]
    seconds: dict[str, float]
    compiled_before: dict[str, int]
    trained: int = 0
    stopping: bool = False
    overview: Callable[[int, float], str] = lambda step, rate: ""

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train_set) / self.config.batch_size)

    @property
    def total_steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def steps_per_evaluation(self) -> int:
        """At most; an epoch ends with one in any case."""
        every = self.config.eval_every
        return self.steps_per_epoch if every == "epoch" else min(every, self.steps_per_epoch)


def finished(config: RunConfig) -> dict[str, Any] | None:
    """Checks the run's folder against the configuration; the result, if the run has ended there.

    Raises:
      ValueError: the folder is a file, or holds a run that `--resume` or the configuration does not allow here.
    """
    folder = config.folder
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"out is {str(folder)!r}, and {there} is a file; accepted: a folder, or a path to a new one")
    saved = folder / "config.toml"
    if not saved.is_file():
        if config.resume == "must":
            raise ValueError(f"resume is 'must', and {folder} holds no run")
        return None
    if config.resume == "never":
        raise ValueError(f"resume is 'never', and {folder} holds a run; give another --out")
    try:
        earlier = tomllib.loads(saved.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder}: its config.toml is damaged ({error}); give another --out") from None
    if differences := config.differences(earlier):
        raise ValueError(f"{folder} holds a run of another configuration: {'; '.join(differences)}; give another --out")
    if not (ended := folder / "result.json").is_file():
        return None
    try:
        return result.parse(ended.read_text(encoding="utf-8"), config)
    except ValueError as error:
        raise ValueError(f"{ended}: damaged or of no such run ({error}); give another --out") from None


def fit(config: RunConfig, shared: Shared) -> tuple[Path, EncoderConfig]:
    """The model's folder and its encoder; ValueError if the length or the method is not for this encoder."""
    folder = shared.locate(config.model)
    encoder = EncoderConfig.from_folder(folder)
    if config.max_length > encoder.max_length:
        raise ValueError(f"max_length is {config.max_length}; accepted: at most {encoder.max_length}, the encoder's")
    config.method.splices(encoder)
    return folder, encoder


def prepare(config: RunConfig, shared: Shared | None = None) -> Run:
    """Loads data and model and resumes from the run's folder, if it holds a checkpoint.

    Args:
      shared: from which is taken what an earlier run has loaded.

    Raises:
      ValueError: something that was asked for is not there or does not fit.
    """
    begun = time.monotonic()
    configure_jax(config)
    shared = shared or Shared()
    task, (folder, encoder) = TASKS[config.task], fit(config, shared)
    shardings = make_shardings(config.mesh, encoder)

    train_set, dev_sets = read_examples(config, task, folder, encoder, shared)
    total = config.epochs * math.ceil(len(train_set) / config.batch_size)
    multiple = shardings.mesh.shape["data"]

    model, base = read_model(config, task, folder, encoder, shared)
    fresh = model.fresh(jax.random.key(config.seed), lambda path: path not in base)
    params = model.assemble(base, fresh | transferred(config, task, model.shapes(), shared))
    trainable, frozen = split_params(params, is_trainable(config.method))
    frozen = jax.device_put(jax.tree.map(lambda x: jnp.asarray(x, model.dtype), frozen), shardings.of(frozen))
    schedule = optim.linear_schedule(config.learning_rate, total, config.warmup_ratio)
    optimizer = optim.adamw(config.weight_decay)
    state = init_state(jax.tree.map(jnp.asarray, trainable), optimizer, schedule, config.seed)
    state = jax.device_put(state, shardings.of(state))
    steps = compile_steps(model, task.problem.kind, optimizer, shardings, state, frozen)
    programs = shared.programs(model, task.problem.kind, config.weight_decay, config.mesh)  # pyright: ignore[reportArgumentType]
    steps.train.executables, steps.together.executables, steps.evaluate.executables = programs

    checkpoints, state = open_folder(config, state)
    return Run(
        config=config,
        task=task,
        encoder=encoder,
        train_set=train_set,
        dev_sets=dev_sets,
        plan=packing.plan(
            train_set.lengths,
            config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            accumulate=config.accumulate,
            shapes=min(packing.SHAPES, math.ceil(total / STEPS_A_SHAPE)),
            multiple=multiple,
        ),
        dev_plans={
            name: packing.plan(examples.lengths, EVAL_BATCH, shapes=1, multiple=multiple)
            for name, examples in dev_sets.items()
        },
        shardings=shardings,
        frozen=frozen,
        state=state,
        train_step=steps.train,
        together_step=steps.together,
        eval_step=steps.evaluate,
        checkpoints=checkpoints,
        fingerprint=shared.fingerprint(folder, encoder),
        budget=budget(params, is_trainable(config.method)),
        seconds={"train": 0.0, "eval": 0.0, "total": begun},
        compiled_before={"train": len(steps.train.executables), "eval": len(steps.evaluate.executables)},
    )


def configure_jax(config: RunConfig) -> None:
    """Sets what holds for the whole process: the products' precision, and where programs are kept."""
    # On GPUs and TPUs a float32 product is by default a narrower one. Here f32 means f32.
    jax.config.update("jax_default_matmul_precision", "float32" if config.precision == "f32" else None)
    # A program that was compiled once is taken from disk; JAX_COMPILATION_CACHE_DIR puts it elsewhere.
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(files.cache_folder() / "programs"))
    # The small ones of a start too, which jax by itself would compile again each time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def read_examples(
    config: RunConfig, task: Task, folder: Path, encoder: EncoderConfig, shared: Shared
) -> tuple[tokenizer.Examples, dict[str, tokenizer.Examples]]:
    """The training set, and the development sets by split."""
    limits: dict[str, Limit] = {config.train_split: config.limit_train}
    limits |= dict.fromkeys(task.dev_splits, config.limit_eval)
    sets = {}
    for split_name, limit in limits.items():
        found = shared.examples(config.data, task.name, split_name, folder, encoder.vocab_size, config.max_length)
        sets[split_name] = found.first(limit)
    return sets[config.train_split], {name: sets[name] for name in task.dev_splits}


def read_model(
    config: RunConfig, task: Task, folder: Path, encoder: EncoderConfig, shared: Shared
) -> tuple[SequenceClassifier, pretrained.Leaves]:
    """The classifier in the run's precision, and the pretrained leaves."""
    # A loop over layers compiles fast and is what accelerators want; on a CPU it costs a third of a step in copies.
    # Unrolled, remat saves a CPU nothing: its temporaries were the same 5.3 MB, where in a loop 5.5 became 1.5.
    unroll = jax.default_backend() == "cpu" and not config.remat
    model = SequenceClassifier(
        encoder, config.method, config.dtype, num_labels=task.problem.outputs, unroll=unroll, remat=config.remat
    )
    return model, shared.weights(folder, encoder)


def check_start(config: RunConfig, shared: Shared) -> adapter.Card | None:
    """The card of the adapter that a run starts from, if it does; ValueError if its method or encoder is another."""
    if not config.init_from:
        return None
    said, path = f"init_from is {config.init_from!r}", Path(config.init_from) / "adapter.json"
    if not path.is_file():
        raise ValueError(f"{said}, without an adapter.json; accepted: a portable adapter's folder")
    card, base = adapter.read_card(path), shared.fingerprint(*fit(config, shared))
    if card.method != config.method:
        raise ValueError(f"{said}, of {card.method}; accepted: one of the run's {config.method}")
    if card.fingerprint != base:
        raise ValueError(
            f"{said}, trained on {card.base} with the fingerprint {card.fingerprint[:12]}; accepted: one trained on "
            f"{config.model}, whose fingerprint is {base[:12]}"
        )
    return card


def transferred(config: RunConfig, task: Task, shapes: Tree, shared: Shared) -> pretrained.Leaves:
    """The leaves, path -> array, with which `init_from` starts a run: the adapter's, and the head's if labels agree.

    A resumed run has what learns in its checkpoint, and reads the adapter only for what the method added frozen.

    Raises:
      ValueError: the adapter is damaged, or of another method or encoder.
    """
    learns = is_trainable(config.method)
    rests = any(is_own(path) and not learns(path) for path in flatten(shapes))
    if (reached(config) and not rests) or (card := check_start(config, shared)) is None:
        return {}
    leaves = flatten(adapter.load(Path(config.init_from))[0])
    agree = card.problem == task.problem
    taken = {path: leaf for path, leaf in leaves.items() if agree or not path.startswith("classifier/")}
    head = "its head too" if agree else f"not its head, which tells {', '.join(card.problem.labels) or 'numbers'}"
    screen.say(f"starts from {config.init_from}, of {card.task}: {count(taken):,} parameters taken, {head}")
    return taken


def reached(config: RunConfig) -> int:
    """The step of the last checkpoint in the run's folder; 0 if there is none."""
    folder = config.folder / "checkpoints"
    there = folder.iterdir() if folder.is_dir() else ()
    return max((int(path.name) for path in there if path.name.isdecimal()), default=0)


def open_folder(config: RunConfig, state: TrainState) -> tuple[Checkpoints, TrainState]:
    """Makes the run's folder, or goes on from what it holds: its checkpoints, and the state to begin with."""
    out = config.folder
    out.mkdir(parents=True, exist_ok=True)
    needed, free = checkpoint.space(state) + LOGS, shutil.disk_usage(out).free
    if free < needed and not any(out.iterdir()):
        out.rmdir()
        raise ValueError(f"out is {str(out)!r}: no room on disk, {free:,} bytes are free; accepted: {needed:,} or more")
    checkpoints = Checkpoints(out)
    try:
        resumed, damaged = checkpoints.restore(state)
    except checkpoint.Damaged:
        checkpoints.close()
        raise
    for line in damaged:
        screen.say(f"{line}; the one before is used")
    write_whole(out / "config.toml", config.dumps())
    return checkpoints, state if resumed is None else resumed
