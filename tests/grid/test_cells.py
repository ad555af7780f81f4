"""Grids: which cells a command line or a file asks for, and how they run one after another."""

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from adakron_jax.architectures.config import NAMED
from adakron_jax.methods import AdaKron, BitFit, Full, Pfeiffer
from adakron_jax.paper.sizes import ROWS
from tests.engine.test_run import Ended, call
from tests.options.conftest import write_encoder
from tests.options.test_options import GRIDS
from tests.support.results import result_of
from train import terminal
from train.data.glue import SUITES
from train.engine import loop
from train.engine.cache import Cache
from train.engine.lock import Lock
from train.engine.run import RunGroup
from train.grid import cells, dispatch, worker
from train.options.command import Command, parse, parse_command
from train.options.config import RunConfig
from train.options.recipes import RECIPES
from train.output.result import Result, Seconds, Throughput


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: write_encoder(folder / name, encoder) for name, encoder in NAMED.items()}


@pytest.fixture
def asked(models: dict[str, Path]) -> Callable[..., Command]:
    """What flags ask for, of a BERT-base."""
    return lambda *flags: parse_command(["--model", str(models["bert-base"]), *map(str, flags)])


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a grid's file and says where it is."""

    def write(text: str) -> Path:
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        return tmp_path / "mine.toml"

    return write


def names(command: Command) -> list[str]:
    return [run.folder.name for run in command.runs]


# --- from flags


def test_one_value_of_each_is_one_run_in_the_folder_itself(asked: Callable[..., Command]):
    command = asked("--task", "rte", "--seed", 3, "--out", "o")
    assert not command.grid
    assert not command.launch.dry_run
    assert [run.folder for run in command.runs] == [Path("o")]
    assert asked("--task", "rte", "--method", "full").runs[0].folder == Path("runs/rte-full-seed0")


def test_several_tasks_methods_and_seeds_are_a_run_for_each_combination_below_the_folder(asked: Callable[..., Command]):
    command = asked("--task", "rte", "mrpc", "--method", "adakron", "pfeiffer", "--seed", 0, 1, "--out", "o")
    assert command.grid
    assert names(command) == [
        *("rte-adakron-seed0", "rte-adakron-seed1", "rte-pfeiffer-seed0", "rte-pfeiffer-seed1"),
        *("mrpc-adakron-seed0", "mrpc-adakron-seed1", "mrpc-pfeiffer-seed0", "mrpc-pfeiffer-seed1"),
    ]
    assert {run.folder.parent for run in command.runs} == {Path("o")}
    last = command.runs[-1]
    assert (last.task, last.method, last.seed) == ("mrpc", Pfeiffer(), 1)


def test_every_cell_has_the_recipe_of_its_task_and_method(asked: Callable[..., Command]):
    rte, full, mrpc, _ = asked("--task", "rte", "mrpc", "--method", "adakron", "full").runs
    assert (rte.batch_size, rte.epochs) == (32, 80)
    assert (mrpc.batch_size, mrpc.epochs) == (16, 100)
    assert (full.batch_size, full.epochs, full.learning_rate) == (32, 3, 2e-5)


def test_the_suite_is_the_paper_s_eight_tasks(asked: Callable[..., Command]):
    assert [run.task for run in asked("--task", "glue").runs] == list(SUITES["glue"])
    assert len(set(SUITES["glue"])) == 8
    assert "wnli" not in SUITES["glue"]


def test_several_rates_are_in_the_names(asked: Callable[..., Command]):
    command = asked("--task", "rte", "--learning-rate", "1e-3", "3e-4", "--out", "o")
    assert [run.learning_rate for run in command.runs] == [1e-3, 3e-4]
    assert names(command) == ["rte-adakron-lr0.001-seed0", "rte-adakron-lr0.0003-seed0"]


def test_fields_of_the_method_are_in_the_name_where_they_are_not_the_default(asked: Callable[..., Command]):
    command = asked("--task", "rte", "--seed", 0, 1, "--method.factors", 8, 4, "--method.place", "pfeiffer")
    assert names(command)[0] == "rte-adakron-factors-8-4-place-pfeiffer-seed0"
    assert command.runs[1].method == AdaKron((8, 4), "pfeiffer")


def test_a_field_must_be_one_of_every_method(asked: Callable[..., Command]):
    both = asked("--task", "rte", "--method", "pfeiffer", "houlsby", "--method.r", 16)
    assert [run.method.r for run in both.runs] == [16, 16]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="method full has no field r; accepted: layers"):
        asked("--task", "rte", "--method", "pfeiffer", "full", "--method.r", 16)


def test_two_cells_of_one_name_are_refused(asked: Callable[..., Command]):
    with pytest.raises(ValueError, match="2 cells of the grid are called 'rte-adakron-seed1'; accepted: every cell"):
        asked("--task", "rte", "--seed", 0, 1, 1)


def test_who_wants_one_run_refuses_a_grid(models: dict[str, Path]):
    with pytest.raises(ValueError, match="a grid of 2 runs; accepted: one task"):
        parse(["--model", str(models["bert-base"]), "--task", "rte", "mrpc"])


# --- from a file


def test_a_file_has_lists_of_what_varies_and_tables_of_methods(
    asked: Callable[..., Command], file: Callable[[str], Path]
):
    path = file(
        'task = ["rte", "mrpc"]\nseed = [0, 1]\nepochs = 3\nout = "o"\n'
        '[[method]]\nname = "bitfit"\n[[method]]\nname = "adakron"\nfactors = [8, 4]\n'
    )
    command = asked("--grid", path, "--dry-run")
    assert command.grid
    assert command.launch.dry_run
    assert len(command.runs) == 8
    assert {run.epochs for run in command.runs} == {3}
    assert [run.method for run in command.runs[:4]] == [BitFit(), BitFit(), AdaKron((8, 4)), AdaKron((8, 4))]
    assert command.runs[2].folder == Path("o/rte-adakron-factors-8-4-seed0")


def test_a_file_of_one_cell_is_a_grid(asked: Callable[..., Command], file: Callable[[str], Path]):
    command = asked("--grid", file('task = "rte"\nmethod = "full"\nlearning_rate = 1\n'))
    assert command.grid
    assert [run.folder for run in command.runs] == [Path("runs/rte-full-seed0")]
    assert command.runs[0].learning_rate == 1.0


def test_flags_win_over_the_file(asked: Callable[..., Command], file: Callable[[str], Path]):
    path = file('model = "no-such-model"\ntask = "glue"\nseed = [0, 1]\nepochs = 3\nmethod = ["bitfit", "adakron"]\n')
    command = asked("--grid", path, "--task", "rte", "--seed", 7, "--epochs", 2, "--method", "full", "--out", "o")
    assert [(run.task, run.seed, run.epochs, run.method) for run in command.runs] == [("rte", 7, 2, Full())]
    assert command.runs[0].folder == Path("o/rte-full-seed7")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('tasks = "rte"', "mine.toml: unknown key 'tasks'; accepted: .*task"),
        ('task = ["rte", "rt"]', "mine.toml: task is 'rt'; accepted: cola, .*glue"),
        ("task = []", r"mine.toml: task is \[\]; accepted: one or more"),
        ("task = 3", "mine.toml: task is 3; accepted: str"),
        ('task = "rte"\nseed = [0, "one"]', "mine.toml: seed is 'one'; accepted: int"),
        ('task = "rte"\nepochs = [1, 2]', r"mine.toml: epochs is \[1, 2\]; accepted: int"),
        ('task = "rte"\nmethod = ["lora9"]', "mine.toml: method is 'lora9'; accepted: adakron"),
        ('task = "rte"\n[[method]]\nname = "full"\nr = 3', "mine.toml: method full has no field r; accepted: layers"),
        ('task = "rte"\n[[method]]\nr = 3', "mine.toml: method is {'r': 3}; accepted: a method's name, or a table"),
        ('task = "rte"\n[[method]]\nname = "pfeiffer"\nr = "wide"', "mine.toml: method.r is 'wide'; accepted: int"),
        ("task = ", "mine.toml: "),
        ("seed = 1", "required: --task"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_what_is_accepted(
    asked: Callable[..., Command], file: Callable[[str], Path], text: str, complaint: str
):
    with pytest.raises(ValueError, match=complaint):
        asked("--grid", file(text))


def test_a_file_that_is_not_there_is_refused(asked: Callable[..., Command], tmp_path: Path):
    with pytest.raises(ValueError, match="none.toml': no such file; accepted: a TOML file"):
        asked("--grid", tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "table", "encoder", "tasks"),
    [
        ("table1", 1, "bert-base", SUITES["glue"]),
        ("table2", 2, "roberta-large", SUITES["glue"]),
        ("ablation_table3", 3, "bert-base", ("rte",)),
    ],
)
def test_the_paper_s_tables_have_its_systems_in_its_order(
    models: dict[str, Path], name: str, table: int, encoder: str, tasks: tuple[str, ...]
):
    assert name in GRIDS
    command = parse_command(["--grid", str(RECIPES / f"{name}.toml"), "--model", str(models[encoder])])
    systems = [row.method for row in ROWS if row.table == table]
    assert [(run.task, run.method) for run in command.runs] == [(task, one) for task in tasks for one in systems]
    assert {run.seed for run in command.runs} == {0}
    assert {run.folder.parent for run in command.runs} == {Path("runs") / name}


def test_the_study_on_sst2_offers_eleven_methods_three_rates_each(tiny: Path):
    command = parse_command(["--grid", str(RECIPES / "study-sst2.toml"), "--model", str(tiny)])
    offered = {
        method: {run.learning_rate for run in command.runs if run.method == method}
        for method in {run.method for run in command.runs}
    }
    assert len(command.runs) == 11 * 3 * 3
    assert [len(rates) for rates in offered.values()] == [3] * 11


# --- what a grid costs


def result(examples: int, seconds: float) -> Result:
    record = {"epoch": 1, "step": 1, "accuracy": 0.5}
    throughput = Throughput(examples_per_second=2 * examples / seconds, tokens_per_second=1.0, padding_fraction=0.0)
    spent = Seconds(train=seconds / 2, eval=0.0, compile=0.0, total=seconds)
    return result_of(RunConfig(task="rte"), [record], throughput=throughput, seconds=spent)


def cell(task: str, steps: int, **known: Any) -> cells.Cell:
    return cells.Cell(RunConfig(task=task, batch_size=10, out=f"o/{task}"), steps, **known)


def test_the_time_left_is_unknown_before_the_first_cell_has_ended():
    assert cells.seconds_left([cell("rte", 5), cell("mrpc", 5, error="no")]) is None


def test_the_time_left_goes_by_the_pace_of_the_same_task_or_else_of_all():
    ended = [cell("rte", 10, result=result(100, 50.0)), cell("mrpc", 10, result=result(300, 50.0))]
    assert cells.seconds_left(ended) == 0
    assert cells.seconds_left([*ended, cell("rte", 10)]) == pytest.approx(50)
    assert cells.seconds_left([*ended, cell("rte", 10, reached=8)]) == pytest.approx(10)
    assert cells.seconds_left([*ended, cell("sst2", 10)]) == pytest.approx(25)
    assert cells.seconds_left([*ended, cell("rte", 10, error="no")]) == 0


def test_before_a_cell_has_ended_the_time_left_goes_by_the_pace_of_the_one_that_runs():
    both = [cell("rte", 10, reached=2, running=True, pace=5.0), cell("mrpc", 10)]
    assert cells.seconds_left(both) == pytest.approx((8 + 10) * 10 / 5)
    assert cells.overview(both, both[:1]) == "cell 1 of 2: rte; 0 done, 1 running, 1 left, about 1 min to go"


def test_the_overview_counts_cells_by_how_they_stand():
    four = [cell("rte", 10, result=result(100, 3600.0)), cell("mrpc", 10, error="no")]
    four += [cell("sst2", 10, running=True, reached=5), cell("cola", 20)]
    said = cells.overview(four, four[2:3])
    assert said == "cell 3 of 4: sst2; 1 done, 1 failed, 1 running, 1 left, about 2.5 h to go"


# --- running


SMALL = ["--data", "mini", "--batch-size", "32", "--limit-train", "64", "--limit-eval", "32", "--max-length", "64"]
SMALL += ["--epochs", "1", "--method", "head"]


def test_a_dry_run_says_what_there_is_to_do_fetches_no_weights_and_leaves_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr("adakron_jax.hub.models.locate")
    ended = call(*SMALL, "--task", "sst2", "mrpc", "--model", tiny, "--out", tmp_path / "o", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0] == ["cell", "learning", "rate", "batch", "epochs", "steps", "state"]
    assert ["sst2-head-seed0", "0.001", "32", "1", "2", "to", "do"] in lines
    assert ["mrpc-head-seed0", "0.001", "32", "1", "2", "to", "do"] in lines
    assert "2 cells, 0 done, 2 left; 4 steps in all, 4 left, time unknown" in ended.out
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--max-length", "65"], "max_length is 65; accepted: at most 64"),
        (["--train-split", "trane"], "no split 'trane'"),
        (["--method", "head", "lora", "--method.r", "99"], "no field r"),
        (["--resume", "must"], "resume is 'must'"),
        (["--mesh", "data=16"], "mesh is 'data=16', 16 devices; available: 8"),
    ],
)
def test_what_is_wrong_with_any_cell_is_said_before_the_first_begins(
    tiny: Path, tmp_path: Path, flags: list[str], complaint: str
):
    ended = call(*SMALL, "--task", "sst2", "mrpc", "--model", tiny, "--out", tmp_path / "o", *flags)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert complaint in ended.err
    assert not (tmp_path / "o").exists()


def test_a_stop_while_a_cell_ends_stops_the_grid_and_the_same_command_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def again() -> Ended:
        return call(*SMALL, "--task", "sst2", "--seed", 0, 1, "--model", tiny, "--out", tmp_path / "o")

    def evaluate_and_stop(*args: Any, **more: Any) -> None:
        evaluate(*args, **more)
        os.kill(os.getpid(), signal.SIGINT)

    evaluate = loop.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", evaluate_and_stop)
        stopped = again()
    assert stopped.code == 130
    assert stopped.err == "train: stopped: 1 done, 1 left; the same command continues\n"
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"sst2-head-seed0"}

    first = tmp_path / "o/sst2-head-seed0"
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    ended = again()
    assert (ended.code, ended.err) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert "cell 1 of 2" not in ended.out
    assert "cell 2 of 2: sst2-head-seed1; 1 done, 1 running, 0 left, about " in ended.out
    table = [line.split() for line in ended.out[ended.out.rindex("cell ") :].splitlines()[1:]]
    for seed, row in enumerate(table):
        its = json.loads((tmp_path / f"o/sst2-head-seed{seed}/result.json").read_text(encoding="utf-8"))
        scores = [f"{100 * its[which]['accuracy']:.2f}" for which in ("best", "last")]
        assert row[:4] == [f"sst2-head-seed{seed}", "accuracy", *scores]
    assert len(table) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_whose_interrupt_python_drops_stops_the_grid_before_the_next_cell(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    carry_out = worker.carry_out

    def carry_out_and_stop(*args: Any) -> Any:
        done = carry_out(*args)
        Dropped()
        return done

    monkeypatch.setattr(worker, "carry_out", carry_out_and_stop)
    stopped = call(*SMALL, "--task", "sst2", "--seed", 0, 1, "--model", tiny, "--out", tmp_path / "o")
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == "train: stopped: 1 done, 1 left; the same command continues"


def test_a_cell_that_fails_is_named_at_the_end_and_the_others_run(tiny: Path, tmp_path: Path):
    taken = tmp_path / "o/mrpc-head-seed0"
    taken.mkdir(parents=True)
    lock = Lock(taken)
    ended = call(*SMALL, "--task", "mrpc", "sst2", "--model", tiny, "--out", tmp_path / "o")
    lock.release()
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("train: 1 of 2 cells failed: mrpc-head-seed0: ")
    assert f"{taken} is in use by process" in ended.err
    assert "cell 2 of 2: sst2-head-seed0; 0 done, 1 failed, 1 running, 0 left" in ended.out
    assert not list(taken.iterdir())
    assert (tmp_path / "o/sst2-head-seed0/result.json").is_file()


def test_cells_of_other_learning_rates_are_the_same_programs(tiny: Path, tmp_path: Path):
    flags = [*SMALL, "--task", "sst2", "--model", tiny, "--out", tmp_path]
    assert call(*flags, "--learning-rate", "1e-3", "1e-2").code == 0
    folders = sorted(tmp_path.iterdir())
    compilations = [json.loads((folder / "result.json").read_text())["compilations"] for folder in folders]
    assert compilations == [{"train": 1, "eval": 1}, {"train": 0, "eval": 0}]
    journals = [(folder / "metrics.jsonl").read_text().splitlines() for folder in folders]
    rates = [[json.loads(line).get("learning_rate") for line in journal] for journal in journals]
    assert rates == [[0, pytest.approx(1e-3), None], [0, pytest.approx(1e-2), None]]


def test_the_overview_is_shown_with_the_progress_of_every_cell(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.0)
    ended = call(*SMALL, "--task", "sst2", "--seed", 0, 1, "--model", tiny, "--out", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    shown = [line for line in ended.out.splitlines() if line.startswith("step 1/2  epoch 1  loss ")]
    assert len(shown) == 2
    assert shown[0].endswith("  cell 1 of 2: sst2-head-seed0; 0 done, 1 running, 1 left")  # no pace is known yet
    assert "  cell 2 of 2: sst2-head-seed1; 1 done, 1 running, 0 left, about 1 min to go" in shown[1]


def test_the_pace_is_of_steps_that_nothing_else_fell_among(monkeypatch: pytest.MonkeyPatch):
    rates: list[float] = []
    line = terminal.ProgressLine(9, 0, 8, lambda step, rate: rates.append(rate) or "")
    monkeypatch.setattr(terminal, "LOOK_SECONDS", 0.0)
    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    # Step 1 ended while the program of step 2 compiled for 20 s; an evaluation of 5 s came before step 5.
    for step, now, paused in [(1, 120, 40), (2, 122, 40), (3, 123, 40), (4, 125, 40), (5, 131, 45), (6, 132, 45)]:
        clock[0] = float(now)
        line.update(step, 0, {"loss": 0.5, "learning_rate": 1e-3}, float(paused))
    assert rates == [0, 0, *(8 * steps / seconds for steps, seconds in [(1, 2), (2, 3), (3, 5), (3, 5), (4, 6)])]


def test_the_overview_is_a_line_below_the_bar_and_never_longer_than_the_screen():
    line = terminal.ProgressLine(4, 0, 8, lambda step, rate: f"after step {step}: {'far to go ' * 12}")
    line.update(1, 0, {"loss": 0.5, "learning_rate": 1e-3}, 0.0)
    screen = Console(file=io.StringIO(), width=110)
    with screen.capture() as captured:
        screen.print(line._bar.get_renderable())
    bar, below = captured.get().splitlines()
    assert "1/4" in bar
    assert below.startswith("after step 1: far to go")
    assert below.rstrip().endswith("…")
    line.note("epoch 1  evaluating")
    with screen.capture() as captured:
        screen.print(line._bar.get_renderable())
    assert "1/4 epoch 1  evaluating" in captured.get()


@pytest.mark.parametrize("live", [True, False])
def test_on_a_terminal_lines_break_at_words_and_in_a_pipe_nowhere(monkeypatch: pytest.MonkeyPatch, live: bool):
    console = Console(file=io.StringIO(), width=80, force_terminal=live, color_system=None)
    monkeypatch.setattr(terminal, "console", console)
    words, name = " ".join(f"word{number}" for number in range(30)), "a-long-name-" * 8
    with console.capture() as captured:
        terminal.say(words)
    assert " ".join(captured.get().split()) == words
    assert len(captured.get().splitlines()) == (3 if live else 1)
    table = terminal.table("cell", "steps", right=("steps",))
    table.add_row(name, "1,234,567")
    with console.capture() as captured:
        terminal.show(table)
    assert "1,234,567" in captured.get()
    assert (name in captured.get()) != live


def test_at_80_columns_counts_stay_whole():
    line = terminal.ProgressLine(12_345, 0, 8, lambda step, rate: "")
    line.update(12_341, 0, {"loss": 0.5, "learning_rate": 1e-3}, 0.0)
    screen = Console(file=io.StringIO(), width=80)
    with screen.capture() as captured:
        screen.print(line._bar.get_renderable())
    assert "12341/12345" in captured.get()
    assert len(captured.get().splitlines()) == 1


def test_a_later_cell_takes_what_the_one_before_has_read_and_compiled(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flags = [*SMALL, "--task", "sst2", "--seed", "0", "1", "--model", str(tiny), "--out", str(tmp_path)]
    command, groups = parse_command(flags), []

    def conclude(run: Any, state: Any, group: RunGroup, *more: Any) -> Result:
        groups.append(group)
        return result(0, 1.0)

    monkeypatch.setattr(loop, "conclude", conclude)
    dispatch.train(cells.survey(command.runs, cache := Cache(command.model)), cache, command.launch)
    first, second = groups
    assert second.steps.train.executables is first.steps.train.executables
    assert (first.steps.evaluate.compilations, second.steps.evaluate.compilations) == (1, 0)
    assert np.shares_memory(first.data.train.tokens, second.data.train.tokens)
