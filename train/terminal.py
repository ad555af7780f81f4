"""Output on the terminal: lines, tables, and the progress of long work, live or as a line now and then."""

import html
import math
import time
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from adakron_jax.io import streams

PLAIN_SECONDS = 15.0  # between two progress lines where there is no terminal
CELL_SECONDS = 0.3  # between two updates of a notebook's bar
LOOK_SECONDS = 1.0  # between two updates of the line below the bar

console = Console(highlight=False)


def say(text: str) -> None:
    _say(text)


def _print(text: str) -> None:
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


_say: Callable[[str], None] = _print


def say_to(listener: Callable[[str], None]) -> None:
    """Sends all further lines to a listener alone; tables and progress are shown nowhere."""
    global _say
    _say, console.quiet = listener, True


def show(table: Table) -> None:
    """Prints a table; nothing is cut if the output is not a terminal."""
    streams.print_table(console, table)


def table(*columns: str, right: Container[str] = ()) -> Table:
    """Returns a table without rules; the columns in `right` hold numbers, which are never wrapped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in right
        table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table


class _Shown(TextColumn):
    """A text that is cut where the columns have no room for it."""

    def __init__(self) -> None:
        super().__init__("{task.fields[shown]}", table_column=Column(overflow="ellipsis"))

    def render(self, task: Any) -> Text:
        text = super().render(task)
        text.no_wrap = True
        return text


class _Bar(Progress):
    """A progress bar with a line below it."""

    below = ""

    def get_renderables(self) -> Iterator[Any]:
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below, no_wrap=True, overflow="ellipsis")


class _Cell:
    """A progress bar in the output of a notebook's cell, removed when it stops."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0

    def show(self, done: int, total: int, text: str) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        if (now := time.monotonic()) - self._shown < CELL_SECONDS:
            return
        self._shown = now
        bar = HTML(f'<progress value="{done}" max="{total}"></progress> {html.escape(text)}')
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)

    def stop(self) -> None:
        from IPython.display import HTML  # pyright: ignore[reportMissingImports]

        if self._handle is not None:
            self._handle.update(HTML(""))


class Line:
    """Progress towards a total, and the time left: live on a terminal and in a notebook, else a line now and then."""

    def __init__(self, name: str, total: int, start: int = 0):
        self._bar = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _Shown(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=total, completed=start, shown="")
        self._name, self._total, self._start = name, total, start
        self._begun = self._told = time.monotonic()
        self._cell = _Cell() if console.is_jupyter else None

    def __enter__(self) -> "Line":
        self._bar.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.stop()
        if self._cell:
            self._cell.stop()

    def per_second(self, done: int) -> float:
        """Returns how many were done a second since the start."""
        return (done - self._start) / max(time.monotonic() - self._begun, 1e-9)

    def show(self, done: int, per_second: float, text: str = "", below: str = "") -> None:
        """Shows that `done` are done, and the time left at a pace of `per_second`, or none if that is 0."""
        self._bar.below = below
        self._bar.update(self._task, completed=done, shown=text)
        if console.is_terminal or console.quiet:
            return
        left = f"left {_clock((self._total - done) / per_second)}" if per_second else ""
        words = "  ".join(filter(None, (f"{self._name} {done}/{self._total}", text, left, below)))
        now = time.monotonic()
        if self._cell:
            self._cell.show(done, self._total, words)
        elif now - self._told >= PLAIN_SECONDS:
            self._told = now
            say(words)


class ProgressLine(Line):
    """The progress of a run: loss, learning rate, examples a second, and below it `overview` of step and that pace."""

    def __init__(self, total: int, start: int, batch_size: int, overview: Callable[[int, float], str]):
        super().__init__("step", total, start)
        self._batch_size, self._overview = batch_size, overview
        self._looked, self._below = -math.inf, overview(start, 0.0)
        self._bar.below = self._below
        self._last: tuple[int, float, float] | None = None
        self._steps, self._seconds = 0, 0.0

    def update(self, step: int, epoch: int, metrics: Mapping[str, float], paused: float) -> None:
        """Shows the state after `step` steps; `paused`: the seconds so far that were not spent on training."""
        per_second = self._pace(step, paused)
        if (now := time.monotonic()) - self._looked >= LOOK_SECONDS:
            self._looked, self._below = now, self._overview(step, per_second * self._batch_size)
        shown = f"epoch {epoch + 1}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}"
        if per_second:
            shown += f"  {per_second * self._batch_size:.0f} examples/s"
        self.show(step, per_second, shown, self._below)

    def note(self, text: str) -> None:
        """Shows on a terminal's line, or in a notebook's cell, what is being done between steps."""
        self._bar.update(self._task, shown=text)
        if self._cell:
            self._cell.show(int(self._bar.tasks[self._task].completed), self._total, text)

    def _pace(self, step: int, paused: float) -> float:
        """Returns steps a second, 0 while unknown; leaves out steps with a pause among them, since the two overlap."""
        now, last = time.monotonic(), self._last
        self._last = step, now, paused
        if last is not None and paused == last[2]:
            self._steps += step - last[0]
            self._seconds += now - last[1]
        return self._steps / max(self._seconds, 1e-9)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
