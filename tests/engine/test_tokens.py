"""Runs that find entities: together, in micro-batches, interrupted and by several hosts they end as they do alone."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.shapes import write_tiny
from tests.engine.test_hosts import start
from tests.engine.test_resume import stop_after
from tests.support.runs import call, differences, journal, outcome

WORDS = {"O": ["a", "fine", "film", "no", "met", "in"], "person": ["Anna", "Li", "Bo"], "place": ["Ulm", "Rome"]}
SENTENCES, STEPS = 52, 12  # of two epochs; the last batch of each is half full


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of every run here but for its folder; nothing is dropped, so that batches may be parted."""
    folder, rng = tmp_path_factory.mktemp("tokens"), random.Random(0)
    write_tiny(folder / "tiny")
    config = json.loads((folder / "tiny/config.json").read_text())
    config |= dict.fromkeys(["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"], 0.0)
    (folder / "tiny/config.json").write_text(json.dumps(config))
    lines = []
    for _ in range(SENTENCES):
        for _ in range(rng.randint(1, 14)):
            kind = rng.choice([*WORDS, "O"])
            prefix = "" if kind == "O" else rng.choice(["B-", "I-"])
            lines.append(f"{rng.choice(WORDS[kind])}\t{prefix}{kind}\n")
        lines.append("\n")
    (folder / "people.conll").write_text("".join(lines))
    said = {"data": folder / "people.conll", "model": folder / "tiny", "validation": 8 / SENTENCES, "max-length": 64}
    said |= {"batch-size": 8, "epochs": 2, "learning-rate": "1e-2"}
    return [word for name, value in said.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def alone(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    ended = call([*flags, "--seed", "0", "3", "--out", str(out)])
    assert (ended.code, ended.err) == (0, "")
    return out


def assert_alike(one: Path, other: Path) -> None:
    """Losses, scores and parameters of two finished runs agree."""
    for kind, names in (("train", ("step", "loss", "grad_norm")), ("eval", ("step", "entity_f1", "token_accuracy"))):
        found, expected = (
            [[record[name] for name in names] for record in journal(run) if record["kind"] == kind]
            for run in (one, other)
        )
        assert found
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    found, expected = (load_file(run / "adapter/adapter.safetensors") for run in (one, other))
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=0, atol=1e-4, err_msg=name)


def folders(out: Path) -> Sequence[Path]:
    return [out / f"people-adakron-seed{seed}" for seed in (0, 3)]


def test_a_batch_may_be_computed_in_parts(flags: list[str], alone: Path, tmp_path: Path):
    assert call([*flags, "--accumulate", "2", "--out", str(tmp_path / "run")]).code == 0
    assert_alike(tmp_path / "run", folders(alone)[0])


def test_stopped_in_an_epoch_a_run_goes_on_to_the_same_bits(flags: list[str], alone: Path, tmp_path: Path):
    words = [*flags, "--out", str(tmp_path / "run")]
    assert stop_after(words, STEPS - 3).code == 130
    ended = call(words)
    assert ended.code == 0
    assert f"resumed after step {STEPS - 3} of {STEPS}" in ended.out
    assert differences(tmp_path / "run", outcome(folders(alone)[0])) == []


def test_together_and_stopped_between_they_end_as_each_does_alone(flags: list[str], alone: Path, tmp_path: Path):
    words = [*flags, "--seed", "0", "3", "--together", "--out", str(tmp_path)]
    assert stop_after(words, STEPS - 3).code == 130
    ended = call(words)
    assert ended.code == 0
    assert re.search(rf"resumed after step [1-9] of {STEPS}", ended.out)
    for one, other in zip(folders(tmp_path), folders(alone), strict=True):
        assert_alike(one, other)


@pytest.mark.nightly
def test_two_hosts_train_to_the_numbers_of_one_process(flags: list[str], alone: Path, tmp_path: Path):
    ended = start([*flags, "--out", str(tmp_path / "run")], 2).end()
    assert [(host.code, host.err) for host in ended] == [(0, ""), (0, "")]
    assert_alike(tmp_path / "run", folders(alone)[0])
