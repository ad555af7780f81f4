"""The page of a report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adakron_jax.evaluation.page import view as assessed
from adakron_jax.pages import render
from train.report.plots import plot
from train.report.words import ABOUT_DIFFERENCES


def page(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    drawn = []
    for number, view in enumerate(views):
        tasks = [task for task, _ in view["heads"]]
        spans = [(task, tasks.count(task)) for task in dict.fromkeys(tasks)]
        plots = list(plot(view["table"], f"table{number}"))
        title, assessment = view["assessed"] or ("", None)
        wrong = assessment and assessed(assessment, f"table{number}-run")
        drawn.append({**view, "plots": plots, "spans": spans, "assessed_title": title, "assessed": wrong})
    return render.render(
        Path(__file__).with_name("page.html.jinja"),
        name=name,
        summary=summary,
        views=drawn,
        problems=problems,
        about_differences=ABOUT_DIFFERENCES,
    )
