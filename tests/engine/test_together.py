"""`--together`: seeds and learning rates of a method in one compiled step, each as if it had run alone."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from adakron_jax.data.packing import Batch, side_by_side
from adakron_jax.encoders.inputs import blank
from tests.engine.test_run import call, read_json, records
from tests.support.runs import differences, outcome
from train.engine import loop
from train.engine.steps import step
from train.engine.steps.optim import linear_schedule

SMALL = ["--task", "sst2", "--data", "mini", "--batch-size", "8", "--limit-train", "48", "--limit-eval", "16"]
SMALL += ["--max-length", "32", "--epochs", "2", "--method", "vera"]


@pytest.fixture(scope="module")
def flags(tiny: Path) -> list[str]:
    return [*SMALL, "--model", str(tiny)]


@pytest.fixture(scope="module")
def both(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a grid's cells one after another, and together."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    varied = ["--seed", "0", "3", "--learning-rate", "1e-3", "3e-2"]
    assert call(*flags, *varied, "--out", alone).code == 0
    ended = call(*flags, *varied, "--out", together, "--together")
    assert (ended.code, ended.err) == (0, "")
    assert "4 cells together" in ended.out
    return alone, together


def test_each_run_ends_as_it_does_alone(both: tuple[Path, Path]):
    alone, together = (sorted(folder.iterdir()) for folder in both)
    assert [folder.name for folder in together] == [folder.name for folder in alone]
    assert len(alone) == 4
    for one, other in zip(alone, together, strict=True):
        for kind, names in (("train", ("loss", "grad_norm", "learning_rate")), ("eval", ("train_loss", "accuracy"))):
            expected, found = ([[r[name] for name in names] for r in records(folder, kind)] for folder in (one, other))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4, err_msg=one.name)
        expected, found = (load_file(folder / "adapter/adapter.safetensors") for folder in (one, other))
        assert found.keys() == expected.keys()
        for path, leaf in expected.items():
            np.testing.assert_allclose(found[path], leaf, rtol=0, atol=1e-4, err_msg=path)


def test_runs_together_differ_from_each_other(both: tuple[Path, Path]):
    losses = [[r["loss"] for r in records(folder, "train")] for folder in both[1].iterdir()]
    assert len(set(map(tuple, losses))) == len(losses)


def test_a_result_says_how_many_ran_together_and_one_program_served_them(both: tuple[Path, Path]):
    results = [read_json(folder / "result.json") for folder in sorted(both[1].iterdir())]
    assert {result["together"] for result in results} == {4}
    assert {result["compilations"]["train"] for result in results} == {1}
    assert {read_json(folder / "result.json")["together"] for folder in both[0].iterdir()} == {1}


def test_one_that_diverges_is_named_and_the_others_go_on_without_it(flags: list[str], tmp_path: Path):
    ended = call(*flags, "--method", "adakron", "--learning-rate", "1e-3", "1e30", "--out", tmp_path, "--together")
    assert ended.code == 1
    assert "1 of 2 cells failed: sst2-adakron-lr1e+30-seed0: the loss at step" in ended.err
    assert read_json(tmp_path / "sst2-adakron-lr0.001-seed0/result.json")["together"] == 1
    assert not (tmp_path / "sst2-adakron-lr1e+30-seed0/result.json").exists()


def test_a_kill_between_their_checkpoints_changes_nothing(both: tuple[Path, Path], flags: list[str], tmp_path: Path):
    out = tmp_path / "together"
    shutil.copytree(both[1], out)
    folders = sorted(out.glob("sst2-vera-lr0.001-*"))
    expected = [outcome(folder) for folder in folders]
    for folder in folders:
        (folder / "result.json").unlink()
        shutil.rmtree(folder / "adapter")
    shutil.rmtree(folders[1] / "checkpoints/12")
    varied = ["--seed", "0", "3", "--learning-rate", "1e-3", "3e-2"]
    ended = call(*flags, *varied, "--out", out, "--together")
    assert (ended.code, ended.err) == (0, "")
    assert "resumed after step 6 of 12" in ended.out
    assert [differences(folder, right) for folder, right in zip(folders, expected, strict=True)] == [[], []]


def test_stopped_together_they_go_on_together(
    flags: list[str], both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    varied = ["--seed", "0", "3", "--learning-rate", "1e-3", "3e-2"]
    evaluate, evaluated = loop.evaluate, []

    def evaluate_and_stop(run: Any, *rest: Any, **more: Any) -> None:
        evaluate(run, *rest, **more)
        if not evaluated:
            os.kill(os.getpid(), signal.SIGINT)
        evaluated.append(run)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", evaluate_and_stop)
        assert call(*flags, *varied, "--out", tmp_path, "--together").code == 130
    ended = call(*flags, *varied, "--out", tmp_path, "--together")
    assert ended.code == 0
    assert "resumed after step 6 of 12" in ended.out
    for folder in tmp_path.iterdir():
        expected, found = ([r["loss"] for r in records(f, "train")] for f in (both[1] / folder.name, folder))
        assert found == expected


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--method", "adakron"], "together, with one run; accepted: several seeds or learning rates"),
        (["--seed", "0", "1", "--patience", "1"], "patience is above 0, with together; accepted: one of them"),
    ],
)
def test_what_cannot_go_together_is_refused(flags: list[str], tmp_path: Path, more: list[str], complaint: str):
    ended = call(*flags, *more, "--together", "--out", tmp_path / "o")
    assert (ended.code, ended.err) == (2, f"train: {complaint}\n")
    assert not (tmp_path / "o").exists()


def test_batches_side_by_side_have_the_rows_of_the_largest():
    def batch(rows: int) -> Batch:
        return Batch({"tokens": np.full((1, rows, 4), rows)}, np.full((1, rows, 2), rows), np.ones((1, rows, 2)))

    both: Any = side_by_side([batch(2), batch(3)])
    assert both.inputs["tokens"].shape == (2, 1, 3, 4)
    np.testing.assert_array_equal(both.weights[0, 0], [[1, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(both.labels[1, 0], np.full((3, 2), 3))


@pytest.mark.parametrize(("limit", "loops"), [(1, "length=3"), (40, "length=1"), (48, "")])
def test_a_cpu_takes_no_more_runs_at_once_than_its_limit(monkeypatch: pytest.MonkeyPatch, limit: int, loops: str):
    rows, seq = 2, 8
    inputs = jax.tree.map(lambda x: jnp.stack([x + run for run in range(3)])[:, None], blank(rows, seq, 1))
    batches = Batch(inputs, jnp.zeros((3, 1, rows, 1)), jnp.ones((3, 1, rows, 1)))
    schedule = jax.tree.map(lambda x: jnp.stack([x] * 3), linear_schedule(1e-3, 10, 0.1))
    states = step.TrainState(jnp.array([10.0, 20.0, 30.0]), None, schedule, None, None)
    frozen = {"base": jnp.float32(100), "of@a": jnp.array([1.0, 2.0, 3.0])}

    def one(state: Any, frozen: Any, batch: Batch) -> Any:
        return state.step + frozen["base"] + frozen["of@a"] + batch.inputs.tokens.sum() + batch.weights.sum()

    def several(states: Any, frozen: Any, batches: Batch) -> Any:
        return step.train_step_of_group(one, states, frozen, batches)

    monkeypatch.setattr(step, "CPU_POSITIONS", limit)
    np.testing.assert_array_equal(several(states, frozen, batches), [113, 140, 167])
    program = str(jax.make_jaxpr(several)(states, frozen, batches))
    assert ("scan[" in program) == bool(loops)
    assert loops in program
