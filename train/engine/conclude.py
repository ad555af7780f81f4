"""What a run leaves when it ends: the portable adapter of its best evaluation, its result, and a summary."""

import dataclasses

import numpy as np

from adakron_jax import adapter
from adakron_jax.params import merge_params, split_params
from adakron_jax.splice import is_added
from train.engine import hosts
from train.engine.evaluation import assess_best, best_of, score_once
from train.engine.run import Clock, Run, RunGroup
from train.engine.steps.step import TrainState
from train.options.model import Pretrained
from train.output import screen
from train.output.result import Compilations, Evaluation, Result, Throughput, device, read_evaluation, versions


def conclude(run: Run, state: TrainState, group: RunGroup, base: Pretrained, clock: Clock) -> Result:
    """Writes the portable adapter of the best evaluation and `result.json`, and shows the summary."""
    config, data, steps = run.config, group.data, group.steps
    run.checkpoints.wait()
    records = run.journal.of("eval")
    best = read_evaluation(best_of(records, data.best_by), data.task.scored)
    state = dataclasses.replace(state, trainable=run.checkpoints.restore_best(best.step, state.trainable))
    save_adapter(run, state, group, base, best)
    with clock.on("eval", steps):
        test = score_once(run, state, group)
        if config.custom_data:
            assess_best(run, state, group, base.tokenizer)
    last = read_evaluation(records[-1], data.task.scored)
    result = Result(
        task=config.task,
        model=config.model,
        method=config.method,
        seed=config.seed,
        params=run.params,
        best_by=data.best_by,
        best=best,
        last=last,
        collapsed=records[-1]["collapsed"],
        stopped_early=last.step < data.last_step,
        train_examples=len(data.train),
        together=len(group.runs),
        problem=data.task.problem.name if config.custom_data else "",
        data=data.task.fingerprint,
        test=test,
        journal=run.journal.digest,
        throughput=throughput(run, group, last.step, clock),
        seconds=clock.seconds(steps),
        compilations=Compilations(train=steps.train.compilations, eval=steps.evaluate.compilations),
        device=device(),
        versions=versions(),
    )
    if hosts.is_writer():
        result.write(config.folder)
    constant = data.task.problem.constant_loss(
        data.train.labels, data.train.weights if data.train.weights.size else None
    )
    screen.show_result(result, config, base.encoder, screen.advice(records[-1]["train_loss"], constant))
    return result


def save_adapter(run: Run, state: TrainState, group: RunGroup, base: Pretrained, best: Evaluation) -> None:
    """Writes the leaves that the method added or trained, and the card that describes them."""
    config, task = run.config, group.data.task
    pooling, head = base.reads(config.pooling, task.problem)
    card = adapter.Card(
        method=config.method,
        task=config.task,
        problem=task.problem,
        base=config.model,
        fingerprint=base.fingerprint,
        encoder=base.encoder,
        scores=best.scores,
        max_length=config.max_length,
        pooling=pooling,
        head=head,
        texts=task.texts,
        label=task.label,
    )
    leaves = hosts.fetch(merge_params(state.trainable, split_params(run.frozen, is_added)[0]))
    if hosts.is_writer():
        adapter.save(config.folder / "adapter", leaves, card)


def throughput(run: Run, group: RunGroup, last_step: int, clock: Clock) -> Throughput:
    data = group.data
    trained = data.examples_before(last_step) - data.examples_before(run.start)
    speed = trained / max(clock.spent["train"], 1e-9)
    return Throughput(
        examples_per_second=speed,
        tokens_per_second=speed * float(np.mean(data.train.lengths)),
        padding_fraction=run.plan.padding_fraction,
    )
