"""The training program from end to end: whole runs, and what it says to bad input."""

import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from adakron_jax import adapter
from adakron_jax.methods import AdaKron
from adakron_jax.params import flatten
from train.__main__ import main
from train.data import sources
from train.engine import checkpoint, lock

SMALL = ["--data", "mini", "--batch-size", "32", "--limit-train", "64", "--limit-eval", "32", "--max-length", "64"]


class Ended(NamedTuple):
    """How a call of the program ended."""

    code: int
    out: str
    err: str


def call(*flags: object) -> Ended:
    """Runs the program in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(flag) for flag in flags])
    return Ended(code, out.getvalue(), err.getvalue())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


# --- a whole run


class Whole(NamedTuple):
    """A run to its end."""

    flags: list[str]
    folder: Path
    ended: Ended

    @property
    def result(self) -> dict[str, Any]:
        return read_json(self.folder / "result.json")


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """AdaKron on SST-2, at a rate too low to change an answer, so that the first epoch is the best."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    flags = [*SMALL, "--task", "sst2", "--model", str(tiny), "--epochs", "2", "--limit-train", "100"]
    flags += ["--learning-rate", "1e-6", "--out", str(folder)]
    return Whole(flags, folder, call(*flags))


def test_a_run_ends_with_exit_code_0_and_leaves_the_promised_folder_and_nothing_else(whole: Whole):
    assert (whole.ended.code, whole.ended.err) == (0, "")
    promised = "config.toml metrics.jsonl result.json checkpoints best adapter tensorboard predictions"
    assert {path.name for path in whole.folder.iterdir()} == set(promised.split())
    assert {path.name for path in (whole.folder / "adapter").iterdir()} == {"adapter.safetensors", "adapter.json"}
    assert {path.name for path in (whole.folder / "checkpoints").iterdir()} == {"4", "8"}
    assert {path.name for path in (whole.folder / "best").iterdir()} == {"4"}
    assert [path.name for path in (whole.folder / "tensorboard").iterdir() if "tfevents" not in path.name] == []


def test_the_journal_has_a_record_of_every_step_and_every_evaluation(whole: Whole):
    steps = records(whole.folder, "train")
    assert [(record["step"], record["epoch"]) for record in steps] == [(s, 1 + (s > 4)) for s in range(1, 9)]
    for record in steps:
        assert set(record) == {"kind", "step", "epoch", "loss", "grad_norm", "learning_rate"}
        assert record["loss"] > 0
        assert record["grad_norm"] > 0
        assert 0 <= record["learning_rate"] <= 1.0001e-6
    evaluations = records(whole.folder, "eval")
    assert [(record["step"], record["epoch"]) for record in evaluations] == [(4, 1), (8, 2)]
    for record in evaluations:
        assert set(record) == {"kind", "step", "epoch", "train_loss", "accuracy", "collapsed"}
        epoch = [step["loss"] for step in steps if step["epoch"] == record["epoch"]]
        assert record["train_loss"] == pytest.approx(np.mean(epoch))
        assert (32 * record["accuracy"]) == pytest.approx(round(32 * record["accuracy"]))


def test_the_result_has_every_promised_key(whole: Whole, tiny: Path):
    result = whole.result
    assert set(result) == {
        *("task", "model", "method", "seed", "params", "best_by", "best", "last", "collapsed", "stopped_early"),
        *("train_examples", "together", "problem", "data", "test", "throughput", "seconds", "compilations", "device"),
        *("versions", "journal", "sha256"),
    }
    assert (result["task"], result["model"], result["seed"]) == ("sst2", str(tiny), 0)
    assert result["method"] == {"name": "adakron", "layers": "all", "factors": [12, 4], "place": "sequential"}
    assert set(result["throughput"]) == {"examples_per_second", "tokens_per_second", "padding_fraction"}
    assert set(result["seconds"]) == {"compile", "train", "eval", "total"}
    assert set(result["compilations"]) == {"train", "eval"}
    assert result["device"] == {"platform": "cpu", "kind": jax.devices()[0].device_kind, "count": 8}
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(result["versions"])
    assert result["versions"]["jax"] == jax.__version__


def test_the_result_s_scores_are_those_of_the_journal(whole: Whole):
    first, second = records(whole.folder, "eval")
    result = whole.result
    assert result["best_by"] == "accuracy"
    assert result["best"] == {"epoch": 1, "step": 4, "accuracy": first["accuracy"]}
    assert result["last"] == {"epoch": 2, "step": 8, "accuracy": second["accuracy"]}
    assert result["collapsed"] == second["collapsed"]
    assert (result["stopped_early"], result["train_examples"]) == (False, 100)


def test_the_result_counts_parameters_as_worked_out_by_hand(whole: Whole):
    # A layer's adapter on hidden size 16: 16 -> 12 and 16 -> 4, both with biases, then 48 -> 16 with biases.
    adapters = 2 * ((16 * 12 + 12) + (16 * 4 + 4) + (48 * 16 + 16))
    params = whole.result["params"]
    assert set(params) == {"method", "head", "base", "percent"}
    assert (params["method"], params["head"]) == (adapters, 16 * 2 + 2)
    assert params["percent"] == pytest.approx(100 * adapters / params["base"])


def test_the_result_s_numbers_are_possible(whole: Whole):
    result = whole.result
    speed, seconds = result["throughput"], result["seconds"]
    assert 1 <= result["compilations"]["train"] <= 3
    assert result["compilations"]["eval"] == 1
    assert 0 < speed["examples_per_second"] < speed["tokens_per_second"]
    assert 0 <= speed["padding_fraction"] < 1
    assert all(value > 0 for value in seconds.values())
    assert seconds["compile"] + seconds["train"] + seconds["eval"] <= seconds["total"]
    assert speed["examples_per_second"] * seconds["train"] == pytest.approx(200)


def test_the_text_names_what_learns_its_share_and_the_evaluations(whole: Whole):
    text, params = whole.ended.out, whole.result["params"]
    lines = [line.split() for line in text.splitlines()]
    assert ["ffn_dense@adakron", f"{params['method']:,}", "-"] in lines
    assert ["classifier", str(params["head"]), "-"] in lines
    assert ["all", f"{params['method'] + params['head']:,}", f"{params['base']:,}"] in lines
    assert f"the method trains {params['method']:,} parameters, {params['percent']:.3f} % of the base's" in text
    header = lines.index(["epoch", "step", "train", "loss", "accuracy"])
    rows = [line for line in lines[header + 1 :] if line[:2] in (["1", "4"], ["2", "8"])]
    for row, record in zip(rows, records(whole.folder, "eval"), strict=True):
        assert row[2:4] == [f"{record['train_loss']:.4f}", f"{100 * record['accuracy']:.2f}"]
    assert ["metric", "best", "last"] in lines
    assert f"adapter: {whole.folder / 'adapter'}" in text


def test_the_adapter_is_the_best_epoch_s_trainable_tree_bit_for_bit(whole: Whole):
    tree, card = adapter.load(whole.folder / "adapter")
    assert card.method == AdaKron()
    assert (card.task, card.problem.labels) == ("sst2", ("negative", "positive"))
    assert card.scores == {"accuracy": whole.result["best"]["accuracy"]}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    with ocp.StandardCheckpointer() as reader:
        best = flatten(reader.restore(whole.folder / "best" / "4" / "default", like))
    exported = flatten(tree)
    assert exported.keys() == best.keys()
    for path, leaf in best.items():
        np.testing.assert_array_equal(exported[path], leaf, err_msg=path)


def test_the_best_epoch_s_tree_is_not_the_last_one_s(whole: Whole):
    files = ((whole.folder / folder).rglob("*") for folder in ("best/4", "checkpoints/8"))
    best, last = (sum(path.stat().st_size for path in paths if path.is_file()) for paths in files)
    assert best < last
    tree, _ = adapter.load(whole.folder / "adapter")
    with ocp.CheckpointManager(whole.folder / "checkpoints") as manager:
        state = manager.restore(8, args=ocp.args.StandardRestore())
    ended = flatten(state["trainable"])
    assert any(not np.array_equal(leaf, ended[path]) for path, leaf in flatten(tree).items())


def test_the_same_command_says_that_the_run_has_ended_and_changes_nothing(whole: Whole):
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")}
    again = call(*whole.flags)
    assert (again.code, again.err) == (0, "")
    assert "this run has ended" in again.out
    assert f"{100 * whole.result['best']['accuracy']:.2f}" in again.out
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*")} == before


def change(text: str, **values: Any) -> str:
    return json.dumps(json.loads(text) | values)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text[:100], ""),
        (lambda text: "{}", "no 'method'"),
        (lambda text: "[]", "it is []; accepted: an object"),
        (lambda text: change(text, seed=7), "seed is 7, but 0 in config.toml"),
        (lambda text: change(text, best={"epoch": 1, "step": 4}), "no 'accuracy'"),
        (lambda text: change(text, seconds={"train": 1}), "no 'seconds.eval'"),
        (lambda text: change(text, throughput="fast"), "throughput is 'fast'; accepted: an object"),
        (lambda text: change(text, collapsed=None), "collapsed is None"),
    ],
)
def test_a_result_that_no_such_run_wrote_is_refused_in_one_line(
    whole: Whole, tmp_path: Path, spoil: Callable[[str], str], told: str
):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    path = folder / "result.json"
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    ended = call(*whole.flags, "--out", folder)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith(f"train: {path}: damaged, or not of this run (")
    assert told in ended.err


def test_an_ended_run_whose_journal_is_damaged_is_refused(whole: Whole, tmp_path: Path):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    path = folder / "metrics.jsonl"
    line = f"train: {path}: damaged: not what the run has recorded; give another --out\n"
    path.write_bytes(path.read_bytes()[:-1])
    cut = call(*whole.flags, "--out", folder)
    path.unlink()
    gone = call(*whole.flags, "--out", folder)
    assert [(ended.code, ended.err) for ended in (cut, gone)] == [(2, line)] * 2


def test_a_folder_that_another_process_is_in_is_refused_but_not_what_a_killed_one_left(tiny: Path, tmp_path: Path):
    flags = [*SMALL, "--task", "sst2", "--model", tiny, "--method", "head", "--epochs", 1, "--out", tmp_path / "o"]
    (tmp_path / "o").mkdir()
    held = lock.Lock(tmp_path / "o")
    ended = call(*flags)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert f"{tmp_path / 'o'} is in use by process {os.getpid()} on " in ended.err
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["lock"]
    held.release()
    (tmp_path / "o/lock").write_text("process 1 on elsewhere\n")
    assert call(*flags).code == 0
    assert not (tmp_path / "o/lock").exists()


def test_a_damaged_best_tree_is_named_at_the_end(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def spoil(state: Any) -> None:
        wait(state)
        for path in (tmp_path / "o/best").rglob("d/*"):
            path.write_bytes(b"no tensors")

    wait = checkpoint.Checkpoints.wait
    monkeypatch.setattr(checkpoint.Checkpoints, "wait", spoil)
    ended = call(*SMALL, "--task", "sst2", "--model", tiny, "--method", "head", "--epochs", 1, "--out", tmp_path / "o")
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith(f"train: {tmp_path / 'o/best/2'}: damaged checkpoint (")
    assert not (tmp_path / "o/result.json").exists()


# --- other kinds of run


def test_a_regression_is_scored_by_its_correlations(tiny: Path, tmp_path: Path):
    ended = call(*SMALL, "--task", "stsb", "--model", tiny, "--method", "head", "--epochs", 1, "--out", tmp_path / "o")
    assert (ended.code, ended.err) == (0, "")
    result = read_json(tmp_path / "o/result.json")
    assert result["best_by"] == "last"
    assert set(result["last"]) == {"epoch", "step", "pearson", "spearman"}
    assert all(-1 <= result["last"][metric] <= 1 for metric in ("pearson", "spearman"))
    assert result["last"]["pearson"] != 0
    assert adapter.load(tmp_path / "o/adapter")[1].problem.labels == ()
    assert (result["params"]["method"], result["params"]["head"]) == (0, 16 + 1)


@pytest.fixture(scope="module")
def divided(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A finished run on MNLI, in bfloat16, its batches divided into two parts on each of two devices."""
    folder = tmp_path_factory.mktemp("runs") / "divided"
    flags = [*SMALL, "--task", "mnli", "--model", str(tiny), "--epochs", "1", "--method.place", "pfeiffer"]
    flags += ["--accumulate", "2", "--precision", "bf16", "--remat", "--mesh", "data=2", "--out", str(folder)]
    return Whole(flags, folder, call(*flags))


def test_accumulation_bfloat16_and_two_devices_go_together(divided: Whole):
    assert (divided.ended.code, divided.ended.err) == (0, "")
    tree, card = adapter.load(divided.folder / "adapter")
    assert card.method == AdaKron(place="pfeiffer")
    assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in flatten(tree).values())
    steps = records(divided.folder, "train")
    assert [record["step"] for record in steps] == [1, 2]
    assert all(math.isfinite(record["loss"]) for record in steps)


def test_mnli_is_scored_on_both_development_sets(divided: Whole):
    result = divided.result
    assert set(result["last"]) == {"epoch", "step", "accuracy", "accuracy_mismatched"}
    header = next(line for line in divided.ended.out.splitlines() if line.startswith("epoch "))
    assert header.split()[-2:] == ["accuracy", "accuracy_mismatched"]
    card = adapter.load(divided.folder / "adapter")[1]
    assert card.problem.labels == ("entailment", "neutral", "contradiction")
    assert card.scores == {name: result["best"][name] for name in ("accuracy", "accuracy_mismatched")}


# --- help


def test_help_exits_with_0_and_loads_none_of_the_heavy_packages():
    code = (
        "import sys\n"
        "from train.__main__ import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    print('exit', stop.code)\n"
        "print('heavy', *sorted({'transformers', 'datasets', 'orbax', 'sklearn', 'scipy'} & sys.modules.keys()))\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    *text, exit_code, heavy = ended.stdout.splitlines()
    assert (exit_code, heavy.split()) == ("exit 0", ["heavy"])
    for flag in ("--task", "--learning-rate", "--method.factors", "--resume"):
        assert any(flag in line for line in text)


# --- bad input


class Place(NamedTuple):
    """What a mistake may be made with: a folder of its own, the model, and where the run would go."""

    folder: Path
    tiny: Path
    out: Path


HEADER = b"sentence\tlabel\n"
Make = Callable[[Place], list[object]]  # the flags of a mistake


def write_rows(folder: Path, contents: bytes, task: str) -> Path:
    """Writes a data folder whose training split has these contents, and whose validation split is fine."""
    (folder / "data" / task).mkdir(parents=True)
    (folder / "data" / task / "train.tsv").write_bytes(contents)
    (folder / "data" / task / "validation.tsv").write_bytes(b"sentence\tlabel\na bad one\t0\n")
    return folder / "data"


def with_rows(contents: bytes, task: str = "sst2") -> Make:
    return lambda place: ["--data", write_rows(place.folder, contents, task)]


def without_split(place: Place) -> list[object]:
    folder = write_rows(place.folder, HEADER, "sst2")
    (folder / "sst2/train.tsv").unlink()
    return ["--data", folder]


def with_model(change: Callable[[Path], object], name: str = "model") -> Make:
    """A copy of the model in which something is another."""

    def make(place: Place) -> list[object]:
        change(Path(shutil.copytree(place.tiny, place.folder / name)))
        return ["--model", place.folder / name]

    return make


def without(file: str) -> Make:
    return with_model(lambda folder: (folder / file).unlink())


pickled = with_model(lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled")
truncated_weights = with_model(lambda folder: os.truncate(folder / "model.safetensors", 1000))


def out_is_a_file(place: Place) -> list[object]:
    place.out.write_text("mine")
    return []


def out_is_below_a_file(place: Place) -> list[object]:
    (place.folder / "file").write_text("mine")
    return ["--out", place.folder / "file" / "run"]


def flags(*values: object) -> Make:
    return lambda place: list(values)


MISTAKES: dict[str, tuple[Make, list[str]]] = {
    "an unknown task": (flags("--task", "glu"), ["task", "'glu'", "sst2", "rte", "glue"]),
    "an unknown method": (flags("--method", "lora9"), ["method", "'lora9'", "adakron", "full", "head"]),
    "an unknown field": (flags("--method.rank9", 3), ["--method.rank9", "accepted", "--method.factors"]),
    "a foreign field": (flags("--method", "full", "--method.factors", 3), ["full", "factors", "accepted: layers"]),
    "factors of zero": (flags("--method.factors", 12, 0), ["factors", "(12, 0)", "at least 1"]),
    "an unknown flag": (flags("--bach-size", 3), ["'--bach-size'", "accepted", "--batch-size"]),
    "an abbreviated flag": (flags("--epoch", 3), ["'--epoch'", "accepted", "--epochs"]),
    "a word for a number": (flags("--epochs", "two"), ["--epochs", "'two'", "int"]),
    "a word for a limit": (flags("--limit-train", "some"), ["--limit-train", "'some'", "all"]),
    "a value out of range": (flags("--batch-size", 0), ["batch_size", "0", "at least 1"]),
    "an unknown recipe": (flags("--recipe", "slow"), ["'slow'", "paper, table, fast, or a TOML file"]),
    "an unknown model folder": (flags("--model", "./no-such-folder"), ["'./no-such-folder'", "no such folder"]),
    "an unknown model": (flags("--model", "acme/none"), ["'acme/none'", "not in the cache", "give --model a folder"]),
    "an unknown package": (flags("--model", "pkg:no_such_package"), ["'pkg:no_such_package'", "no installed package"]),
    "a package without a model": (flags("--model", "pkg:json"), ["'pkg:json'", "no model folder"]),
    "a model without a configuration": (without("config.json"), ["model", "no config.json", "accepted"]),
    "a model without weights": (without("model.safetensors"), ["model", "no weights", "accepted: model.safetensors"]),
    "a model without a vocabulary": (without("vocab.txt"), ["model", "tokenizer"]),
    "a model with pickled weights only": (pickled, ["pickled", "pytorch_model.bin", "never loaded", "convert"]),
    "a model with half its weights": (truncated_weights, ["model.safetensors"]),
    "no data folder": (flags("--data", "no-such-folder"), ["'no-such-folder'", "accepted: hub, mini, or a folder"]),
    "data without the task": (with_rows(HEADER, "cola"), ["data", "no task 'sst2'", "available: cola"]),
    "data without the split": (without_split, ["no split 'train'", "available: validation.tsv"]),
    "an unknown training split": (flags("--train-split", "trane"), ["no split 'trane'", "available: train.tsv"]),
    "a missing column": (with_rows(b"text\tlabel\nfine\t1\n"), ["train.tsv", "'sentence'; available: 'text', 'label'"]),
    "a label out of range": (
        with_rows(HEADER + b"fine\t1\nbad\t7\n"), ["train.tsv, row 3", "label", "'7'", "0 (negative)"],
    ),
    "a row that is not UTF-8": (with_rows(HEADER + b"fine\t1\n\xff\xfe\t1\n"), ["train.tsv, row 3", "not UTF-8"]),
    "an empty training set": (with_rows(HEADER), ["train.tsv", "no rows", "at least one"]),
    "an example longer than the encoder takes": (flags("--max-length", 65), ["max_length", "65", "at most 64"]),
    "more devices than there are": (flags("--mesh", "data=16"), ["'data=16'", "16 devices", "available: 8"]),
    "a mesh that does not divide the heads": (flags("--mesh", "model=4"), ["'model=4'", "2 attention heads"]),
    "a mesh of an unknown axis": (flags("--mesh", "rows=2"), ["'rows=2'", "data=4,model=2"]),
    "out is a file": (out_is_a_file, ["out", "is a file", "accepted: a folder"]),
    "out is below a file": (out_is_below_a_file, ["out", "file"]),
    "nothing to resume": (flags("--resume", "must"), ["resume", "'must'", "no run"]),
}  # fmt: skip


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    """Every path below the folder, with what files hold."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(tiny: Path, tmp_path: Path, mistake: str):
    make, named = MISTAKES[mistake]
    place = Place(tmp_path, tiny, tmp_path / "out")
    extra = make(place)
    before = snapshot(tmp_path)
    ended = call(*SMALL, "--task", "sst2", "--model", tiny, "--out", place.out, "--epochs", 1, *extra)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith("train: ")
    assert ended.err.endswith("\n")
    assert [part for part in named if part not in ended.err] == []
    assert snapshot(tmp_path) == before


def test_a_run_without_a_task_is_refused():
    ended = call("--data", "mini")
    line = "train: the following arguments are required: --task, or --data, --text and --label\n"
    assert (ended.code, ended.err) == (2, line)


def test_a_bad_row_of_the_built_in_data_would_be_refused_too(tiny: Path, tmp_path: Path, monkeypatch: Any):
    shutil.copytree(sources.MINI / "sst2", tmp_path / "mini/sst2")
    with (tmp_path / "mini/sst2/validation.tsv").open("a", encoding="utf-8") as file:
        file.write("a film\tgood\t0\n")
    monkeypatch.setattr(sources, "MINI", tmp_path / "mini")
    ended = call(*SMALL, "--task", "sst2", "--model", tiny, "--out", tmp_path / "out")
    assert ended.code == 2
    assert all(part in ended.err for part in ("validation.tsv, row", "'good'"))
    assert not (tmp_path / "out").exists()


# --- divergence

DIVERGING = [*SMALL, "--task", "sst2", "--method", "head", "--learning-rate", "1e30"]


def test_a_run_whose_loss_is_no_number_ends_with_1_names_the_step_and_has_no_result(tiny: Path, tmp_path: Path):
    ended = call(*DIVERGING, "--model", tiny, "--epochs", 3, "--limit-train", 128, "--out", tmp_path / "o")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    steps = [record["step"] for record in records(tmp_path / "o", "train")]
    assert f"the loss at step {steps[-1] + 1} is " in ended.err
    assert "learning rate" in ended.err
    assert not any((tmp_path / "o" / name).exists() for name in ("result.json", "adapter"))
    assert "NaN" not in (tmp_path / "o/metrics.jsonl").read_text(encoding="utf-8")


def test_a_run_that_diverges_in_its_last_step_is_no_success(tiny: Path, tmp_path: Path):
    # The first step has rate 0; the second and last one takes the weights beyond float32.
    flags = [*DIVERGING, "--learning-rate", "1e38", "--weight-decay", "10", "--epochs", 1]
    ended = call(*flags, "--model", tiny, "--limit-train", 64, "--out", tmp_path / "o")
    assert ended.code == 1
    assert "step 2" in ended.err
    assert not (tmp_path / "o/result.json").exists()
