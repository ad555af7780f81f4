"""The page of a report, which needs nothing but itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.report.plots import plot
from train.report.text import ABOUT_DIFFERENCES, BLOCKS


def render(name: str, summary: str, views: Sequence[Mapping[str, Any]], problems: Sequence[str]) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8"))
    drawn = []
    for number, view in enumerate(views):
        plots = [Markup(svg) for svg in plot(view["table"], f"table{number}")]
        tasks = [task for task, _ in view["heads"]]
        spans = [(task, tasks.count(task)) for task in dict.fromkeys(tasks)]
        drawn.append({**view, "plots": plots, "spans": spans})
    return template.render(
        name=name, summary=summary, views=drawn, problems=problems, blocks=BLOCKS, about_differences=ABOUT_DIFFERENCES
    )
