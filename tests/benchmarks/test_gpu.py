"""The GPU campaign's bookkeeping: what is run, recorded, resumed and summed up; never the speed itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax.data.tokenizer import Examples
from adakron_jax.files import read_tensors
from benchmarks.gpu import __main__ as driver
from benchmarks.gpu import correct, packed, profile, science, summary
from benchmarks.gpu.campaign import Campaign, Record, Step, json_lines, records
from benchmarks.gpu.pack import write_encoder
from benchmarks.gpu.settings import Settings, split_of


def printing(name: str, code: str = "", seconds: float = 1.0, **more: Any) -> Step:
    return Step(name, ["-c", f"print('{{\"value\": 1}}', flush=True); import sys, time; {code}"], seconds, **more)


def test_steps_are_recorded_as_they_end_and_not_done_again(tmp_path: Path) -> None:
    steps = [printing("good"), printing("bad", "print('why', file=sys.stderr); sys.exit(7)")]
    steps += [printing("accepted", "sys.exit(1)", accepted=(0, 1)), printing("again", again=True)]
    states = {record.step: record.state for record in Campaign(tmp_path, 60).run("part", steps)}
    assert states == {"good": "done", "bad": "failed", "accepted": "done", "again": "done"}
    bad = records(tmp_path)["part", "bad"]
    assert (bad.said, bad.figures) == ("why", [{"value": 1}])
    with (tmp_path / "figures.jsonl").open("a") as file:
        file.write('{"part": "part", "st')  # as a killed campaign leaves it
    repaired = [steps[0], printing("bad"), *steps[2:]]
    assert [record.step for record in Campaign(tmp_path, 60).run("part", repaired)] == ["bad", "again"]
    assert records(tmp_path)["part", "bad"].state == "done"


def test_a_step_is_ended_at_the_deadline_and_keeps_what_it_has_printed(tmp_path: Path) -> None:
    steps = [printing("long", "time.sleep(60)", seconds=0.1), printing("late", seconds=30.0)]
    long, late = Campaign(tmp_path, 21.0).run("part", steps)
    assert (long.state, long.figures) == ("out of time", [{"value": 1}])
    assert long.seconds < 20
    assert (late.state, late.figures) == ("not begun", [])
    assert "30 needed" in late.said


def test_figures_that_cannot_be_read_are_a_failure(tmp_path: Path) -> None:
    def nothing(printed: str) -> Any:
        raise KeyError("loss")

    (record,) = Campaign(tmp_path, 60).run("part", [printing("unread", read=nothing)])
    assert (record.state, record.said) == ("failed", "no figures: KeyError('loss')")
    assert json_lines('{"a": 1}\nwords\n{"b": ') == [{"a": 1}]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for task in ("mrpc", "rte", "mnli"):
        (tmp_path / "glue" / task).mkdir(parents=True)
    (tmp_path / "glue/rte/train.parquet").touch()
    (tmp_path / "glue/mrpc/train-00000-of-00001.parquet").touch()
    (tmp_path / "glue/mnli/train_partial.parquet").touch()
    return Settings(tmp_path / "glue", tmp_path / "out", "cpu", tmp_path, limit_methods=2, limit_tasks=1)


def test_a_partial_training_set_is_taken_where_there_is_no_other(settings: Settings) -> None:
    found = {task: split_of(settings.data, task) for task in ("mrpc", "rte", "mnli")}
    assert found == {"mrpc": "train", "rte": "train", "mnli": "train_partial"}


def test_names_of_steps_are_unique(settings: Settings) -> None:
    for part, steps in driver.PARTS.items():
        names = [step.name for step in steps(settings)]
        assert len(names) == len(set(names)), part


def run_of(method: str, rate: float, score: float, seed: int = 0, task: str = "mrpc") -> dict[str, Any]:
    about = {"task": task, "method": {"name": method}, "seed": seed, "learning_rate": rate, "parameters": 10}
    return about | {"seconds": 1.0, "together": 1, "scores": {"f1": score, "accuracy": 1 - score}}


def test_seeds_are_run_at_the_rate_that_the_selection_chose(settings: Settings) -> None:
    steps = science.compare(settings, "mrpc", ["adakron", "lora"], "mrpc-0")
    select = next(steps)
    assert tuple(select.words[-2:]) == science.HELD_OUT
    settings.out.mkdir()
    runs = [run_of("adakron", 2e-4, 0.8), run_of("adakron", 5e-4, 0.9), run_of("lora", 5e-4, 0.7)]
    Campaign(settings.out, 60).add(Record("science", select.name, "done", 1.0, [*runs, run_of("lora", 2e-4, 0.7)]))
    adakron, lora = steps
    assert (adakron.name, lora.name) == ("final-mrpc-adakron", "final-mrpc-lora")
    rates = [step.words[step.words.index("--learning-rate") + 1] for step in (adakron, lora)]
    assert rates == ["0.0005", "0.0002"]
    assert "--validation" not in adakron.words


def test_differences_are_paired_by_seed() -> None:
    runs = [run_of("adakron", 1e-3, score, seed) for seed, score in enumerate([0.9, 0.8, 0.7])]
    runs += [run_of("pfeiffer", 1e-3, score, seed) for seed, score in enumerate([0.8, 0.8])]
    difference = science.paired(runs, "adakron", "pfeiffer")["mrpc"]
    assert (difference["mean"], difference["error"], difference["seeds"]) == (
        pytest.approx(0.05),
        pytest.approx(0.05),
        2,
    )
    (adakron, _) = science.table(runs)
    assert adakron[:5] == ("mrpc", "adakron", 10, 1e-3, 3)


def test_curves_are_compared_step_by_step() -> None:
    here = {"loss": {"2": 0.5, "10": 0.25}, "accuracy": [0.7]}
    there = {"loss": {"2": 0.5, "10": 0.5, "12": 1.0}, "accuracy": [0.6]}
    apart = correct.apart(here, there)
    assert apart == {"steps": 2, "early": 0.0, "all": 0.25, "accuracy": [0.7], "accuracy_cpu": [0.6]}
    reference = json.loads(correct.CURVES.read_text())
    assert all(len(reference[seed]["loss"]) > 20 for seed in correct.SEEDS)
    assert correct.read_tests("..F\n2 failed, 31 passed in 3.2s\n") == [{"failed": 2, "passed": 31}]


def test_a_summary_shows_speed_beside_the_aims() -> None:
    def line(system: str, what: str, **figures: Any) -> dict[str, Any]:
        about = {"system": system, "shape": "bert-base", "what": what, "device_bytes": 2**31, "compilations": 1}
        return about | figures

    dense = {"first_seconds": 9.0, "flops": 1e12, "rows": 64, "seq": 128}
    real = {"first_seconds": 9.0, "host_seconds": 0.001, "padding": 0.1, "shapes": 3, "step_seconds": 0.01}
    ours = [line("adakron", "matmul", flops_per_second=5e14), line("adakron", "dense", **dense, step_seconds=0.005,
            rows_per_second=12800), line("adakron", "rte", **real, examples_per_second=6000)]  # fmt: skip
    peer = [line("torch-eager", "dense", **dense, step_seconds=0.02, rows_per_second=3200),
            line("torch-eager", "rte", **real, examples_per_second=2000)]  # fmt: skip
    shown = summary.write(
        [
            Record("speed", "bert-base-adakron", "done", 3.0, ours),
            Record("speed", "bert-base-torch-eager", "done", 3.0, peer),
            Record("speed", "together", "done", 3.0, [{"runs": 8, "ratio": 0.5}]),
            Record("science", "final-mrpc-adakron", "done", 3.0, [run_of("adakron", 1e-3, 0.9, 1)]),
            Record("correct", "oracles", "failed", 3.0, [{"failed": 1}], "a | b"),
        ]
    )
    assert "| bert-base | adakron | 5.00 ms | 12,800 | 200 | 40% | 20% | 2.0 GiB | 9 s |" in shown
    assert "| bert-base, dense: times as fast as torch-eager | 4.00 | 2 | yes |" in shown
    assert "| bert-base, rte: times as fast as torch-eager | 3.00 | 4 | no |" in shown
    assert "| 8 runs together: times as fast as one after another | 2.00 | 4 | no |" in shown
    assert "| oracles | failed | 3 | a / b |" in shown
    assert "* oracles: failed 1" in shown


def test_a_profile_says_what_the_device_did_and_when_it_waited() -> None:
    events = [
        ("gemm_bf16", "layer/dot", 0.0, 2.0),
        ("loop_fusion", "gelu", 1.5, 3.0),
        ("input_reduce", "softmax", 4.0, 5.0),
    ]
    figures = profile.breakdown(events, steps=2)
    assert figures["seconds_by_kind"] == {"matmul": 1.0, "elementwise": 0.75, "attention": 0.5}
    assert figures["idle"] == pytest.approx(1 / 5)
    assert figures["kernels"] == 1.5
    assert profile.breakdown([], steps=2) == {"kernels": 0}


def test_packed_rows_answer_as_padded_ones_and_see_no_neighbours(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "OTHERS", 5)
    lengths = np.array([12, 5, 7, 3, 9])
    tokens = np.random.default_rng(0).integers(5, 90, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    examples = Examples(tokens, np.zeros_like(tokens), offsets, np.zeros(len(lengths), np.int32), 0)
    model = packed.build(tiny, "f32")
    assert packed.difference(*model, examples) < 1e-5
    assert packed.leak(*model, examples) == {"logits": 0.0, "gradient": 0.0}


def test_a_travelling_encoder_is_the_same_in_float16(tiny: Path, tmp_path: Path) -> None:
    write_encoder(tiny, tmp_path / "package")
    here, there = (read_tensors(folder / "model.safetensors") for folder in (tiny, tmp_path / "package/model"))
    assert {x.dtype for x in there.values()} == {np.dtype(np.float16)}
    assert all(np.abs(here[name] - there[name].astype(np.float32)).max() < 1e-3 for name in here)
    assert (tmp_path / "package/model/vocab.txt").read_bytes() == (tiny / "vocab.txt").read_bytes()


@pytest.mark.parametrize(
    ("flags", "said"), [(["--data", "nowhere"], "nowhere"), (["--data", ".", "--oracles", "nothing"], "nothing")]
)
def test_refuses_a_folder_that_is_not_there(
    flags: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver.main([*flags, "--out", "unused"]) == 2
    assert said in capsys.readouterr().err
