"""The measures of speed: their arithmetic, what a process is asked and answers, and small forms of each."""

import argparse
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax.architectures.config import ROBERTA_LARGE, EncoderConfig
from benchmarks import gpu, shapes, training
from benchmarks.harness import PEERS, in_turn, ratio, spread, table
from benchmarks.peers import protocol
from benchmarks.peers.protocol import Measured


def test_rounds_are_taken_in_turn_and_ratios_within_them() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    systems = {name: lambda name=name: order.append(name) for name in names}
    assert in_turn(systems, 2, lambda run: run()) == {name: [None, None] for name in names}
    assert order == ["a", "b", "c", "b", "c", "a"]
    assert ratio([10, 5, 8], [5, 2.5, 1]) == 2
    assert spread([3, 1, 2]) == {"median": 2, "lowest": 1, "highest": 3}
    assert table(("x", "y"), [("a", 1)]) == "| x | y |\n| --- | --- |\n| a | 1 |"


def answer(seconds: float) -> dict[str, Any]:
    return {"examples": 10, "tokens": 90, "positions": 100, "peak_bytes": 2**20, "seconds": seconds}


def test_training_is_shown_by_program_and_as_ratios_to_the_first() -> None:
    by_name = {"adakron": [answer(1), answer(2)], "torch": [answer(3), answer(6)]}
    measured = {"f32 rte": by_name, "f32 mrpc": by_name}
    figures = {"examples_per_second": measured, "ratios": training.ratios(measured), "start": {}}
    assert figures["ratios"] == {"f32, adakron over torch": {"rte": 3, "mrpc": 3}}
    shown = training.show(figures)
    assert "| torch | 2.50 (1.67 to 3.33) | 10.0% | 1 |" in shown
    assert "| f32, adakron over torch | 3.00 | rte 3.00, mrpc 3.00 |" in shown


def test_a_shape_is_an_encoder_that_nothing_has_to_be_downloaded_for(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(ROBERTA_LARGE, vocab_size=99, hidden_size=8, num_layers=2, num_heads=2)
    monkeypatch.setitem(shapes.NAMED, "roberta-large", small)
    monkeypatch.setattr(shapes, "WORDS", str(tiny))
    folder = shapes.locate("shape:roberta-large", tmp_path)
    assert EncoderConfig.from_folder(folder) == dataclasses.replace(small, type_vocab_size=2)
    assert (folder / "vocab.txt").read_text() == (tiny / "vocab.txt").read_text()
    assert shapes.locate(str(tiny), tmp_path) == tiny
    with pytest.raises(ValueError, match="model is 'shape:nope'; accepted: shape:bert-base, shape:roberta-large"):
        shapes.locate("shape:nope", tmp_path)


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

    def device_bytes(self) -> int:
        return 0


def test_a_process_takes_its_steps_over_consecutive_batches() -> None:
    asked = [{"ask": "warm", "steps": 4}, {"ask": "real", "steps": 2}, {"ask": "real", "steps": 2}]
    asked += [{"ask": "dense", "steps": 1, "rows": 3, "seq": 8}]
    program, answers = Counting(), io.StringIO()
    protocol.serve_trainer(lambda: program, map(json.dumps, asked), answers)
    first, warm, one, two, dense = map(json.loads, answers.getvalue().splitlines())
    assert program.steps == [0, "wait", 3, 4, "wait", 1, 2, "wait", 3, 4, "wait", "3x8", "wait"]
    assert first["compilations"] == 3
    assert first["peak_bytes"] > 0
    assert (one["examples"], one["tokens"], one["positions"]) == (8, 40, 49)
    assert dense["positions"] == 24
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
    of_tokens = arrays | {"labels": np.array([-100, 1, -100, 3, -100, 0])}
    np.savez(tmp_path / "b.npz", allow_pickle=False, order=np.array([[2, 0], [1, -1]]), pad_id=9, **of_tokens)
    _, labels, _ = next(protocol.padded_batches(tmp_path / "b.npz", None))
    np.testing.assert_array_equal(labels, [[-100, 0, -100], [-100, 1, -100]])


def test_a_file_of_tagged_words_is_read_as_it_trains(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("an\tB-x\no\tI-x\n\nun\tO\n\n" * 3)
    given = argparse.Namespace(conll=tmp_path / "a.conll", batch_size=2, rounds=1, steps=1)
    file, outputs = training.write_examples(tmp_path / "a.npz", given, training.TOKENS, tiny)
    with np.load(file) as arrays:
        assert (outputs, len(arrays["labels"])) == (3, len(arrays["tokens"]))
        assert arrays["labels"][:7].tolist() == [-100, 1, -100, 2, -100, -100, 0]


def test_batches_by_length_hold_every_example_once() -> None:
    order = np.array([[0, 1], [2, 3], [4, -1]])
    grouped = protocol.by_length(order, np.array([9, 1, 8, 2, 5]), group=2)
    assert sorted(map(tuple, grouped.tolist())) == [(0, 2), (3, 1), (4, -1)]


@pytest.mark.nightly
def test_our_program_is_measured_as_it_trains(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(tiny), "--data", "mini", "--task", "sst2", "--part", "real", "dense", "--rounds", "1"]
    words += ["--steps", "1", "--batch-size", "4", "--rows", "2", "--seq", "16", "--peers", "nowhere/python"]
    assert training.main([*words, "--system", "adakron", "torch", "--json", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr()
    assert "left out: torch, which needs torch, transformers in nowhere/python (make bench-peers)" in said.err
    assert "| adakron |" in said.out
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["examples_per_second"]["f32 dense 2 x 16"]["adakron"][0]["examples"] == 2
    assert training.main([*words, "--system", "torch"]) == 2
    assert "training: none of the programs is installed; accepted: at least one" in capsys.readouterr().err
    assert PEERS.name == "python"


def test_packed_rows_give_what_padded_ones_do_and_see_no_neighbours(tiny: Path) -> None:
    found = gpu.packed(str(tiny), "f32")
    assert found["difference"] < 1e-5
    assert found["leak"] == 0


def test_a_campaign_records_each_step_and_does_not_do_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = gpu.Step("good", ["-c", "print('{\"value\": 1}')"], 1)
    bad = gpu.Step("bad", ["-c", "import sys; sys.exit('why')"], 1)
    late = gpu.Step("late", ["-c", "pass"], 1e6)
    monkeypatch.setattr(gpu, "steps", lambda given, scratch: iter([good, bad, late]))
    words = ["--out", str(tmp_path / "out"), "--tiny"]
    assert gpu.main(words) == 1
    lines = gpu.read_lines(tmp_path / "out/figures.jsonl")
    assert [(line["step"], line["state"]) for line in lines] == [
        ("good", "done"),
        ("bad", "failed"),
        ("late", "not begun"),
    ]
    assert lines[0]["figures"] == ['{"value": 1}']
    assert lines[1]["said"] == "why\n"
    assert gpu.main(words) == 1
    again = [line["step"] for line in gpu.read_lines(tmp_path / "out/figures.jsonl")[3:]]
    assert again == ["bad", "late"]
