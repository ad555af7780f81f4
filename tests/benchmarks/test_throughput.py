"""The measure of speed: its arithmetic, what a process is asked and answers, and what it refuses."""

import dataclasses
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax.architectures.config import ROBERTA_LARGE, EncoderConfig
from adakron_jax.encoders import pretrained
from benchmarks import shapes
from benchmarks.throughput import __main__ as throughput
from benchmarks.throughput import protocol, settings, summary
from benchmarks.throughput.protocol import Measured


def answer(seconds: float, examples: int = 10, tokens: int = 90, peak_bytes: int = 2**20) -> dict[str, Any]:
    sizes = {"examples": examples, "tokens": tokens, "positions": 100, "peak_bytes": peak_bytes}
    return sizes | {"seconds": seconds, "elsewhere": 0.5, "compilations": 2, "flops_per_second": 1e9, "device_bytes": 0}


def figures(**speed: float) -> dict[str, Any]:
    """Measurements of programs by the seconds of their rounds; every second round is twice as slow for all."""
    real = {name.replace("_", "-"): [answer(seconds), answer(2 * seconds)] for name, seconds in speed.items()}
    dense = {name: {"steps": answers, "matmul": answers, "flops": 10**9} for name, answers in real.items()}
    settings = {"rows": 10, "seq": 8}
    return {"settings": settings, "start": {}, "real": {"rte": real, "mrpc": real}, "dense": dense, "depth": {}}


def test_a_ratio_is_taken_within_rounds() -> None:
    assert summary.ratio([10, 5, 8], [5, 2.5, 1]) == 2
    assert summary.geometric_mean([2, 8]) == pytest.approx(4)
    assert summary.spread([3, 1, 2]) == (2, 1, 3)


def test_padding_is_a_share_of_all_positions() -> None:
    assert summary.padding([answer(1, tokens=80), answer(1, tokens=90)]) == pytest.approx(0.15)


def test_targets_are_those_of_what_was_measured() -> None:
    lines = summary.targets(figures(adakron=1.0, authors=3.0, full=2.0))
    assert [(line["name"], round(line["value"], 3), line["reached"]) for line in lines] == [
        ("examples/s, adakron over authors", 3.0, False),
        ("padding of a batch, the worst task", 0.1, True),
        ("dense step, adakron's over full's", 0.5, True),
    ]
    only_starts = figures() | {"start": {"adakron": {"cold": 20.0, "warm": [9.0, 7.0, 7.5]}}, "depth": {"ratio": 1.4}}
    by_name = {line["name"]: (line["value"], line["reached"]) for line in summary.targets(only_starts)}
    assert by_name == {
        "seconds to the first step, warm": (7.5, True),
        "compiling, RoBERTa-large's step over BERT-base's": (1.4, False),
    }


def test_targets_on_an_accelerator_are_others() -> None:
    measured = figures(adakron=1.0, torch_adakron=3.0, torch_compiled=1.5)
    names = {line["name"] for line in summary.targets(measured)}
    assert not any("torch-compiled" in name for name in names)
    for answers in measured["real"].values():
        answers["adakron"][-1]["device_bytes"] = 2**30
    # 1 GFLOP in 1.5 s, by the median, where one matmul takes 1 s
    measured["dense"]["adakron"]["matmul"] = [{"flops_per_second": 1e9}]
    lines = {line["name"]: (line["value"], line["target"]) for line in summary.targets(measured)}
    assert lines["examples/s, adakron over torch-adakron"] == (pytest.approx(3), 2)
    assert lines["examples/s, adakron over torch-compiled"] == (pytest.approx(1.5), 1.2)
    assert lines["dense step, torch-compiled's over adakron's"] == (pytest.approx(1.5), 1.2)
    assert lines["dense step, its matmuls' rate over one matmul's"] == (pytest.approx(1 / 1.5), 0.5)
    assert lines["peak memory, adakron over torch-adakron"][0] == 2**10


def test_a_shape_is_an_encoder_that_nothing_has_to_be_downloaded_for(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(ROBERTA_LARGE, vocab_size=99, hidden_size=8, num_layers=2, num_heads=2)
    monkeypatch.setitem(shapes.NAMED, "roberta-large", small)
    monkeypatch.setattr(shapes, "WORDS", str(tiny))
    folder = shapes.locate("shape:roberta-large", tmp_path)
    encoder = EncoderConfig.from_folder(folder)
    assert encoder == dataclasses.replace(small, type_vocab_size=2)
    assert pretrained.read(folder, encoder)["encoder/layers/1/attention/query/kernel"].std() == pytest.approx(
        0.02, rel=1
    )
    assert (folder / "vocab.txt").read_text() == (tiny / "vocab.txt").read_text()
    assert shapes.locate(str(tiny), tmp_path) == tiny
    with pytest.raises(ValueError, match="model is 'shape:nope'; accepted: shape:bert-base, shape:roberta-large"):
        shapes.locate("shape:nope", tmp_path)


def test_a_program_may_be_measured_on_some_tasks_only() -> None:
    measured = figures(adakron=1.0, torch_adakron=2.0)
    measured["real"]["mrpc"] = {"adakron": measured["real"]["mrpc"]["adakron"]}
    shown = summary.show(measured)
    assert "| `torch-adakron` | 3.75 (2.50 to 5.00) | - |" in shown
    assert "| `torch-adakron` | 3.00 (2.00 to 4.00) s | 1 GFLOP | 33 % | 1 |" in shown
    assert "busy with other work meanwhile: rte 0.50 (0.50 to 0.50), mrpc" in shown
    assert "| examples/s, adakron over torch-adakron | 2.00 | at least 1.5 | yes | rte 2.00 |" in shown


class Counting:
    """A program that only notes what it is asked."""

    compilations = 3

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def batches(self) -> Iterator[Measured]:
        for number in range(100):
            yield Measured(number, 4, 20, 24 + number % 2)

    def dense(self, rows: int, seq: int) -> str:
        return f"{rows}x{seq}"

    def step(self, inputs: Any) -> None:
        self.steps.append(inputs)

    def wait(self) -> None:
        self.steps.append("wait")

    def matmul(self, m: int, k: int, n: int) -> Any:
        return lambda: self.steps.append((m, k, n))

    def flops(self, inputs: Any) -> int:
        return 7 * len(inputs)

    def device_bytes(self) -> int:
        return 0


def test_a_process_takes_its_steps_over_consecutive_batches() -> None:
    asked = [{"ask": "warm", "steps": 4}, {"ask": "real", "steps": 2}, {"ask": "real", "steps": 2}]
    asked += [{"ask": "dense", "steps": 1, "rows": 3, "seq": 8}, {"ask": "matmul", "steps": 1, "sizes": [2, 3, 4]}]
    asked += [{"ask": "count", "steps": 1, "rows": 3, "seq": 8}]
    program, answers = Counting(), io.StringIO()
    protocol.serve(lambda: program, map(json.dumps, asked), answers)
    first, warm, one, two, dense, matmul, count = map(json.loads, answers.getvalue().splitlines())
    assert program.steps == [0, "wait", 3, 4, "wait", 1, 2, "wait", 3, 4, "wait", "3x8", "wait", (2, 3, 4), (2, 3, 4)]
    assert first["compilations"] == 3
    assert first["peak_bytes"] > 0
    assert (one["examples"], one["tokens"], one["positions"]) == (8, 40, 49)
    assert dense["positions"] == 24
    assert matmul["flops_per_second"] > 0
    assert count["flops"] == 21
    assert warm.keys() == two.keys()


def test_padded_batches_hold_the_examples_in_order(tmp_path: Path) -> None:
    arrays = {"tokens": np.arange(1, 7), "token_types": np.array([0, 0, 1, 0, 1, 1]), "offsets": np.array([0, 3, 4, 6])}
    np.savez(tmp_path / "a.npz", labels=np.array([5, 6, 7]), order=np.array([[2, 0], [1, -1]]), pad_id=9, **arrays)
    batches = protocol.padded_batches(tmp_path / "a.npz", None)
    inputs, labels, sizes = next(batches)
    np.testing.assert_array_equal(inputs["input_ids"], [[5, 6, 9], [1, 2, 3]])
    np.testing.assert_array_equal(inputs["token_type_ids"], [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(inputs["attention_mask"], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(labels, [7, 5])
    assert sizes == Measured(None, 2, 5, 6)
    assert next(batches)[2] == Measured(None, 1, 1, 1)
    assert next(protocol.padded_batches(tmp_path / "a.npz", 8))[0]["input_ids"].shape == (2, 8)
    grouped = protocol.padded_batches(tmp_path / "a.npz", None, grouped=True)
    by_length = sorted((next(grouped)[2] for _ in range(2)), key=lambda sizes: sizes.examples)
    assert by_length == [Measured(None, 1, 1, 8), Measured(None, 2, 5, 16)]


def test_batches_by_length_hold_every_example_once() -> None:
    order = np.array([[0, 1], [2, 3], [4, -1]])
    grouped = protocol.by_length(order, np.array([9, 1, 8, 2, 5]), group=2)
    assert sorted(map(tuple, grouped.tolist())) == [(0, 2), (3, 1), (4, -1)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "required: --model, --data"),
        (["--model", "m", "--data", "d", "--rounds", "0"], "rounds is 0; accepted: at least 1"),
        (["--model", "m", "--data", "d", "--threads", "9999"], "threads is 9999; accepted: at most"),
        (["--model", "m", "--data", "d", "--task", "nope"], "invalid choice: 'nope'"),
        (["--model", "m", "--data", "d", "--json", "nowhere/a.json"], "no folder nowhere"),
        (["--model", "pkg:nope", "--data", "d", "--system", "lora"], "no installed package of this name"),
    ],
)
def test_refuses_in_one_line(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    assert throughput.main(flags) == 2
    os.sched_setaffinity(0, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("throughput: ")
    assert said in line


def test_adds_to_what_was_measured_before_under_the_same_conditions(tmp_path: Path) -> None:
    flags = ["--model", "m", "--data", "d", "--json", str(tmp_path / "a.json")]
    nothing = throughput.earlier(settings.parse(flags))
    assert nothing["real"] == {}
    before = nothing | {"real": {"rte": {}}}
    (tmp_path / "a.json").write_text(json.dumps(before))
    assert throughput.earlier(settings.parse([*flags, "--rounds", "9"])) == before
    with pytest.raises(ValueError, match="was measured with seq 128, not 64"):
        throughput.earlier(settings.parse([*flags, "--seq", "64"]))
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="is no measurement"):
        throughput.earlier(settings.parse(flags))


def test_names_and_leaves_out_what_is_not_installed(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "m", "--data", "d", "--system", "adapters", "--peers", "nowhere/python"]
    assert throughput.main(flags) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first == "left out: adapters, which needs torch, transformers, adapters in nowhere/python (make bench-peers)"
    assert last == "throughput: none of the programs is installed; accepted: at least one"
