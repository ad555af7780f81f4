"""The page of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.evaluation.page import view as assessed
from adakron_jax.pages import render
from train.output.selection import RULE
from train.report import chosen
from train.report.plots import plot
from train.report.words import ABOUT_DIFFERENCES


def page(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    drawn = []
    for number, view in enumerate(views):
        tasks = [task for task, _ in view["heads"]]
        spans = [(task, tasks.count(task)) for task in dict.fromkeys(tasks)]
        plots = list(plot(view["table"], f"table{number}"))
        curves = list(chosen.curves(view["table"], f"table{number}-chosen"))
        title, assessment = view["assessed"] or ("", None)
        wrong = assessment and assessed(assessment, f"table{number}-run")
        drawn.append(
            {**view, "plots": plots, "curves": curves, "spans": spans, "assessed_title": title, "assessed": wrong}
        )
    return render.render(
        Path(__file__).with_name("page.html.jinja"),
        name=name,
        summary=summary,
        views=drawn,
        problems=problems,
        rule=RULE,
        about_differences=ABOUT_DIFFERENCES,
    )
