"""Submissions to the leaderboard: which run answers, how the site wants it, and what is refused."""

import contextlib
import io
import os
import re
import signal
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adakron_jax import adapter, tokenizer
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, BitFit, Head
from adakron_jax.params import flatten, split_params, unflatten
from adakron_jax.splice import Method
from benchmarks.shapes import write_tiny
from tests.data.test_sources import write
from tests.support.results import write_result
from train import submit, terminal
from train.data import sources
from train.data.glue import TASKS, Task
from train.options.config import RunConfig
from train.submission import SHEETS, find, majority, pack

OFFICIAL = {
    "CoLA.tsv": 1063,
    "SST-2.tsv": 1821,
    "MRPC.tsv": 1725,
    "STS-B.tsv": 1379,
    "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847,
    "QNLI.tsv": 5463,
    "RTE.tsv": 3000,
    "QQP.tsv": 390965,
    "WNLI.tsv": 146,
    "AX.tsv": 1104,
}
MAX_LENGTH = 48
HEAD = Head()


def save_run(folder: Path, model: Path, task: Task, score: float = 0.5, method: Method = HEAD) -> Path:
    """A run's folder as training leaves it, but with random values, large enough to give different answers."""
    encoder = EncoderConfig.from_folder(model)
    shapes = SequenceClassifier(encoder, method, num_labels=task.problem.outputs).shapes()
    rng = np.random.default_rng(0)
    portable = split_params(shapes, adapter.is_portable(method))[0]
    tree = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), portable)
    fingerprint = pretrained.fingerprint(pretrained.read(model, encoder))
    card = adapter.Card(method, task.name, task.problem, str(model), fingerprint, encoder, {}, MAX_LENGTH)
    adapter.save(folder / "adapter", tree, card)
    config = RunConfig(
        task=task.name, model=str(model), data="mini", method=method, max_length=MAX_LENGTH, best_by="last"
    )
    write_result(folder, config, [{"epoch": 1, "step": 1} | dict.fromkeys(task.scored, score)])
    return folder


def texts(name: str, count: int) -> list[dict[str, Any]]:
    """Examples of unequal length from `mini`, without labels."""
    task = TASKS[name]
    rows = sources.read("mini", task, "train")
    return [
        dict(zip(task.texts, row, strict=True))
        for row in list(zip(*(rows[name] for name in task.texts), strict=True))[:count]
    ]


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test sets of three tasks and the diagnostic one, unlabelled in every way that there is, and two training sets."""
    folder = tmp_path_factory.mktemp("glue")
    write(folder / "rte/test.parquet", [row | {"label": -1} for row in texts("rte", 30)])
    write(folder / "stsb/test.tsv", texts("stsb", 20))
    write(folder / "sst2/train.tsv", [{"sentence": "a", "label": label} for label in (1, 0, 1)])
    write(folder / "mnli/test_matched.jsonl", texts("mnli", 20))
    write(folder / "mnli/test_mismatched.jsonl", texts("mnli", 20)[::-1])
    write(folder / "ax/test.csv", texts("mnli", 10))
    write(folder / "qnli/train.parquet", [{"question": "a", "sentence": "b", "label": label} for label in (1, 0, 1)])
    return folder


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    save_run(folder / "rte", tiny, TASKS["rte"], method=AdaKron((2, 2)))
    save_run(folder / "stsb", tiny, TASKS["stsb"])
    save_run(folder / "mnli", tiny, TASKS["mnli"])
    (folder / "unfinished/adapter").mkdir(parents=True)
    return folder


def answers(path: Path) -> dict[str, list[str]]:
    """The predictions of each file of a zip, whose header and index are checked."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            header, *lines = archive.read(name).decode("ascii").removesuffix("\n").split("\n")
            assert header == "index\tprediction"
            assert [line.split("\t")[0] for line in lines] == [str(i) for i in range(len(lines))]
            found[name] = [line.split("\t")[1] for line in lines]
    return found


def refused(capsys: pytest.CaptureFixture[str], out: Path, *argv: Any) -> str:
    """The one line with which a command line is refused, leaving nothing behind."""
    before = sorted(out.parent.iterdir())
    assert submit.main([*map(str, argv), "--out", str(out)]) == 2
    assert sorted(out.parent.iterdir()) == before
    complaint = capsys.readouterr().err
    assert complaint.startswith("submit: ")
    assert complaint.count("\n") == 1
    return complaint


@pytest.fixture(scope="module")
def submission(runs: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The zip of a folder of three runs, and what was said."""
    out, said = tmp_path_factory.mktemp("out") / "glue.zip", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert submit.main([str(runs), "--data", str(glue), "--out", str(out)]) == 0
    return out, said.getvalue()


def logits_alone(run: Path, model: Path, task: Task, rows: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """Logits of each example on its own in a padded row, by the parameters put together here."""
    encoder = EncoderConfig.from_folder(model)
    tree, card = adapter.load(run / "adapter")
    params = unflatten(pretrained.read(model, encoder) | flatten(tree))
    classifier = SequenceClassifier(encoder, card.method, num_labels=task.problem.outputs)
    fast = tokenizer.Tokenizer(model, encoder.vocab_size).fast
    inputs = np.zeros((4, len(rows), MAX_LENGTH), np.int32)
    for i, row in enumerate(rows):
        encoded = fast(*row, truncation="longest_first", max_length=MAX_LENGTH, return_token_type_ids=True)
        length = len(encoded["input_ids"])
        inputs[0, i, :length], inputs[1, i, :length] = encoded["input_ids"], encoded["token_type_ids"]
        inputs[2, i, :length], inputs[3, i, :length] = 1, np.arange(length)
    tokens, token_types, segments, positions = map(jnp.asarray, inputs)
    packed = Packed(tokens, token_types, segments, positions, jnp.zeros((len(rows), 1), jnp.int32))
    return np.asarray(jax.jit(classifier.apply)({"params": params}, packed))[:, 0]


def rows_of(name: str, count: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.values()) for row in texts(name, count))


def test_the_zip_holds_every_file_of_the_site_and_nothing_else(submission: tuple[Path, str]):
    found = answers(submission[0])
    assert found.keys() == OFFICIAL.keys()
    given = {"RTE.tsv": 30, "STS-B.tsv": 20, "MNLI-m.tsv": 20, "MNLI-mm.tsv": 20, "AX.tsv": 10}
    assert {name: len(words) for name, words in found.items()} == OFFICIAL | given


def test_a_test_set_of_another_size_than_the_sites_is_warned_of(submission: tuple[Path, str]):
    said = submission[1].splitlines()
    assert "warning: RTE has 30 examples; the site expects 3,000" in said
    assert "warning: AX has 10 examples; the site expects 1,104" in said
    assert not any(line.startswith("warning: SST-2") for line in said)


@pytest.mark.parametrize("name", ["rte", "mnli"])
def test_inference_is_answered_in_words_in_the_order_of_the_test_set(
    submission: tuple[Path, str], runs: Path, tiny: Path, name: str
):
    file, count = {"rte": ("RTE.tsv", 30), "mnli": ("MNLI-m.tsv", 20)}[name]
    codes = logits_alone(runs / name, tiny, TASKS[name], rows_of(name, count)).argmax(-1)
    words = answers(submission[0])[file]
    assert words == [TASKS[name].labels[code] for code in codes]
    assert len(set(words)) > 1


def test_similarity_is_clipped_and_has_three_decimals(submission: tuple[Path, str], runs: Path, tiny: Path):
    values = logits_alone(runs / "stsb", tiny, TASKS["stsb"], rows_of("stsb", 20))[:, 0]
    words = answers(submission[0])["STS-B.tsv"]
    np.testing.assert_allclose([float(word) for word in words], np.clip(values, 0, 5), atol=2e-3)
    assert values.min() < 0
    assert "0.000" in words
    assert all(len(word) == 5 for word in words)


def test_the_model_of_mnli_answers_the_mismatched_and_the_diagnostic_set(submission: tuple[Path, str]):
    found = answers(submission[0])
    assert found["MNLI-mm.tsv"] == found["MNLI-m.tsv"][::-1]
    assert found["AX.tsv"] == found["MNLI-m.tsv"][:10]


def test_a_task_without_a_run_gets_the_training_sets_most_frequent_answer_and_is_named(submission: tuple[Path, str]):
    found, said = answers(submission[0]), submission[1]
    assert set(found["SST-2.tsv"]) == {"1"}
    assert set(found["QNLI.tsv"]) == {"not_entailment"}
    assert "SST-2: no run; the most frequent label, 1, for all 1,821 examples" in said
    assert "QNLI: no run; the most frequent label, not_entailment, for all 5,463 examples" in said


def test_without_a_training_set_the_answer_is_the_first_label_which_is_said(submission: tuple[Path, str]):
    found, said = answers(submission[0]), submission[1]
    assert set(found["QQP.tsv"]) == set(found["WNLI.tsv"]) == {"0"}
    assert "wnli: no training set to take the most frequent label from, so it is 0: " in said


def test_a_similarity_without_a_run_is_the_training_sets_mean(tmp_path: Path):
    pairs = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (1.5, 2.0, 5.0)]
    write(tmp_path / "stsb/train.tsv", pairs)
    assert majority(TASKS["stsb"], str(tmp_path)) == pytest.approx(8.5 / 3)


def test_the_same_answers_give_the_same_bytes(submission: tuple[Path, str]):
    found = {name.removesuffix(".tsv"): words for name, words in answers(submission[0]).items()}
    assert pack(found) == submission[0].read_bytes()
    with zipfile.ZipFile(submission[0]) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert list(submission[0].parent.iterdir()) == [submission[0]]


def test_of_several_runs_of_a_task_the_best_on_the_development_set_answers(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, score in (("a", 0.5), ("deep/b", 0.75), ("c", 0.7)):
        save_run(tmp_path / name, tiny, TASKS["mrpc"], score)
    found = find([str(tmp_path), str(tmp_path / "a")])
    assert {name: run.folder for name, run in found.items()} == {"mrpc": tmp_path / "deep/b"}
    said = f"mrpc: {tmp_path / 'deep/b'}, the best of 3 runs on the development set, with f1 0.7500"
    assert " ".join(capsys.readouterr().out.split()) == said


def test_what_a_method_learned_in_the_encoder_takes_the_place_of_its_own(tiny: Path, tmp_path: Path):
    run = save_run(tmp_path, tiny, TASKS["rte"], method=BitFit())
    base = pretrained.read(tiny, EncoderConfig.from_folder(tiny))
    _, params, card = adapter.attach(run / "adapter", base)
    assert card.method == BitFit()
    learned, found = flatten(adapter.load(run / "adapter")[0]), flatten(params)
    assert {"pooler/bias", "classifier/kernel"} <= learned.keys()
    assert found.keys() == base.keys() | learned.keys()
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, learned[path] if path in learned else base[path])


def test_another_encoder_than_the_adapters_is_refused(
    runs: Path, glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_tiny(tmp_path / "other")
    weights = tmp_path / "other/model.safetensors"
    tensors = load_file(weights)
    tensors["bert.pooler.dense.bias"] = tensors["bert.pooler.dense.bias"] + 1
    save_file(tensors, weights)
    out = tmp_path / "glue.zip"
    complaint = refused(capsys, out, runs / "rte", "--data", glue, "--model", tmp_path / "other")
    assert f"{runs / 'rte/adapter'}: trained on " in complaint
    assert "fingerprint" in complaint


def test_a_missing_test_set_of_a_run_is_refused_by_task_and_file(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    complaint = refused(capsys, tmp_path / "glue.zip", runs / "rte")
    assert "the test set of rte: " in complaint
    assert "mini/rte has no split 'test'; available: train.tsv, validation.tsv" in complaint


def test_a_missing_diagnostic_set_is_warned_of_and_gets_the_most_frequent_answer(
    runs: Path, glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "glue").mkdir()
    (tmp_path / "glue/mnli").symlink_to(glue / "mnli")
    argv = [str(runs / "mnli"), "--data", str(tmp_path / "glue"), "--out", str(tmp_path / "glue.zip")]
    assert submit.main(argv) == 0
    said = capsys.readouterr().out
    assert "warning: AX: data " in said
    assert "AX: no test set; the most frequent label, entailment, for all 1,104 examples" in said
    assert answers(tmp_path / "glue.zip")["AX.tsv"] == ["entailment"] * 1104


@pytest.mark.parametrize(
    ("file", "contents", "complaint"),
    [
        ("result.json", "{", "damaged .*\\(Expecting property name"),
        ("result.json", '{"method": {"name": "head"}, "best": {}}', "damaged .*\\(no 'accuracy'"),
        ("result.json", "[]", "damaged .*\\("),
        ("config.toml", "model = 1\nmodel = 2", "damaged .*\\(Cannot overwrite"),
        ("config.toml", 'model = "a"', "damaged .*\\(no 'method'"),
        ("adapter/adapter.json", "{}", "adapter.json: no 'format'"),
    ],
)
def test_a_damaged_run_is_refused_by_name(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, contents: str, complaint: str
):
    run = save_run(tmp_path / "run", tiny, TASKS["rte"])
    (run / file).write_text(contents)
    assert re.search(f"{run}.*{complaint}", refused(capsys, tmp_path / "glue.zip", run))


def test_an_adapter_of_another_task_than_its_runs_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = save_run(tmp_path / "run", tiny, TASKS["rte"])
    save_run(tmp_path / "other", tiny, TASKS["mrpc"])
    for name in ("adapter.json", "adapter.safetensors"):
        (run / "adapter" / name).write_bytes((tmp_path / "other/adapter" / name).read_bytes())
    assert "its adapter is for mrpc" in refused(capsys, tmp_path / "glue.zip", run)


def test_answers_that_are_not_finite_are_refused(
    tiny: Path, glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = save_run(tmp_path / "run", tiny, TASKS["rte"])
    tree, card = adapter.load(run / "adapter")
    tree["classifier"]["bias"] = np.array([0, np.nan], np.float32)
    adapter.save(run / "adapter", tree, card)
    assert "its logits are not finite" in refused(capsys, tmp_path / "glue.zip", run, "--data", glue)


def test_a_folder_without_a_finished_run_is_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_run(tmp_path / "good", tiny, TASKS["rte"])
    (tmp_path / "half/adapter").mkdir(parents=True)
    complaint = refused(capsys, tmp_path / "glue.zip", tmp_path / "good", tmp_path / "half")
    assert f"{tmp_path / 'half'}: no finished run; accepted: a folder with adapter and result.json" in complaint
    assert "nowhere: no finished run" in refused(capsys, tmp_path / "glue.zip", tmp_path / "nowhere")


def test_an_output_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert submit.main(["nothing", "--out", str(tmp_path)]) == 2
    assert submit.main(["nothing", "--out", str(tmp_path / "no/glue.zip")]) == 2
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 2
    assert all(" cannot be written; accepted: a file in a folder that exists" in each for each in complaints)


def test_a_stop_is_one_line_and_leaves_nothing(
    runs: Path, glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("train.submission.logits_of", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert submit.main([str(runs / "rte"), "--data", str(glue), "--out", str(tmp_path / "glue.zip")]) == 130
    assert capsys.readouterr().err == "submit: stopped; nothing is written\n"
    assert not list(tmp_path.iterdir())


def test_answering_shows_how_far_it_is(
    runs: Path, glue: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    assert submit.main([str(runs / "rte"), "--data", str(glue), "--out", str(tmp_path / "glue.zip")]) == 0
    assert "RTE 30/30  left 0:00" in capsys.readouterr().out.splitlines()


def test_an_unknown_flag_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "--colour" in refused(capsys, tmp_path / "glue.zip", "a", "--colour", "red")


@pytest.mark.parametrize(
    ("name", "words"), [("WNLI", ["0", "1"]), ("SST-2", ["0", "1"]), ("QNLI", ["entailment", "not_entailment"])]
)
def test_the_codes_0_and_1_have_the_words_of_the_site(name: str, words: list[str]):
    sheet = next(sheet for sheet in SHEETS if sheet.name == name)
    assert sheet.words(np.array([0, 1])) == words


def test_similarity_is_clipped_at_both_ends():
    sheet = next(sheet for sheet in SHEETS if sheet.name == "STS-B")
    assert sheet.words(np.array([-3, 0.12345, 4.9996, 7], np.float32)) == ["0.000", "0.123", "5.000", "5.000"]
