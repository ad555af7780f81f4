"""Evaluating within an epoch, and stopping when it brings nothing better."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adakron_jax.adapter import read_card
from tests.engine.test_resume import assert_same, saved_steps, stop_after
from tests.support.runs import call, journal, outcome
from train.engine.evaluation import out_of_patience

STEPS, EPOCHS = 8, 2
LAST = STEPS * EPOCHS
Flags = Callable[..., list[str]]


@pytest.fixture(scope="module")
def flags(tiny: Path) -> Flags:
    """A command line whose runs have one configuration but for what is asked."""
    said: dict[str, Any] = {"task": "sst2", "data": "mini", "model": tiny, "epochs": EPOCHS, "batch-size": 8}
    said |= {"limit-train": 8 * STEPS, "limit-eval": 32, "max-length": 64, "method": "head", "eval-every": 3}
    return lambda **more: [
        word for name, value in (said | more).items() for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def evaluated(records: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(record["epoch"], record["step"]) for record in records if record["kind"] == "eval"]


@pytest.fixture(scope="module")
def whole(flags: Flags, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    ended = call(flags(learning_rate=1e-3, out=folder))
    assert (ended.code, ended.err) == (0, "")
    return folder


def test_an_epoch_is_evaluated_every_so_many_steps_and_at_its_end(whole: Path):
    assert evaluated(journal(whole)) == [(1, 3), (1, 6), (1, 8), (2, 11), (2, 14), (2, 16)]
    losses = {record["step"]: record["loss"] for record in journal(whole) if record["kind"] == "train"}
    second = next(record for record in journal(whole) if record["kind"] == "eval" and record["step"] == 11)
    assert second["train_loss"] == pytest.approx(sum(losses[step] for step in (9, 10, 11)) / 3)


def test_the_best_evaluation_is_kept_wherever_it_was(whole: Path):
    records = [record for record in journal(whole) if record["kind"] == "eval"]
    best = max(records, key=lambda record: record["accuracy"])
    said = json.loads((whole / "result.json").read_text())["best"]
    assert (said["epoch"], said["step"]) == (best["epoch"], best["step"])
    assert read_card(whole / "adapter/adapter.json").scores == {"accuracy": best["accuracy"]}


@pytest.mark.parametrize("step", [3, 13])
def test_a_run_stopped_at_an_evaluation_or_between_two_ends_as_if_it_had_not_been(
    flags: Flags, whole: Path, tmp_path: Path, step: int
):
    words = flags(learning_rate=1e-3, out=tmp_path / "run")
    assert stop_after(words, step).code == 130
    assert saved_steps(tmp_path / "run")[-1] == step
    ended = call(words)
    assert (ended.code, ended.err) == (0, "")
    assert_same(tmp_path / "run", outcome(whole))


def test_patience_ends_a_run_that_gets_no_better_and_a_resumed_one_at_the_same_step(flags: Flags, tmp_path: Path):
    words = flags(learning_rate=1e-30, patience=1)
    ended = call([*words, "--out", str(tmp_path / "whole")])
    assert (ended.code, ended.err) == (0, "")
    found = tmp_path / "whole"
    assert evaluated(journal(found)) == [(1, 3), (1, 6)]
    result = json.loads((found / "result.json").read_text())
    assert (result["stopped_early"], result["best"]["step"], result["last"]["step"]) == (True, 3, 6)
    assert f"stopped early, of {EPOCHS} epochs: 1 evaluation without a better accuracy" in ended.out
    rates = [record["learning_rate"] for record in journal(found) if record["kind"] == "train"]
    assert rates[-1] > 0.5 * max(rates)  # planned for all steps

    words += ["--out", str(tmp_path / "parts")]
    for step in (2, 6):  # after the latter there is nothing left but to conclude
        assert stop_after(words, step).code == 130
    ended = call(words)
    assert (ended.code, ended.err) == (0, "")
    assert_same(tmp_path / "parts", outcome(found))
    assert "stopped early" in call(words).out


def test_patience_counts_evaluations_since_the_best_the_first_of_equals():
    def tired(patience: int, *scores: float) -> bool:
        records = [{"step": step, "accuracy": score} for step, score in enumerate(scores)]
        return out_of_patience(records, patience, "accuracy")

    assert not tired(1)
    assert not tired(1, 0.5)
    assert not tired(1, 0.5, 0.6)
    assert tired(1, 0.5, 0.5)
    assert not tired(2, 0.5, 0.5)
    assert tired(2, 0.5, 0.6, 0.5, 0.6)
    assert not tired(0, 0.5, 0.4, 0.3)


def test_a_finished_run_of_an_older_version_is_understood(flags: Flags, tmp_path: Path):
    words = flags(learning_rate=1e-3, eval_every="epoch", epochs=1, out=tmp_path / "run")
    assert call(words).code == 0
    path, config = tmp_path / "run/result.json", tmp_path / "run/config.toml"
    result = json.loads(path.read_text())
    del result["stopped_early"], result["train_examples"], result["sha256"]
    path.write_text(json.dumps(result))
    new = ("eval_every", "patience", "init_from")
    kept = [line for line in config.read_text().splitlines() if not line.startswith(new)]
    config.write_text("\n".join(kept))
    ended = call(words)
    assert (ended.code, ended.err) == (0, "")
    assert "this run has ended" in ended.out
