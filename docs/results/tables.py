"""`python docs/results/tables.py RUNS...`: writes the report of selection runs into README.md, and curves beside it.

Everything between the page's two marks is generated.
"""

import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from train.report.__main__ import files
from train.report.chosen import curves
from train.report.runs import read_folder
from train.report.tables import Table, tabulate

XML = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'  # of an SVG that is a file
BEGIN, END = "<!-- by tables.py, from here -->", "<!-- to here -->"


def page(text: str, report: str, pictures: Sequence[str]) -> str:
    """The page with a report and pictures between its marks; the report's headings go one level lower."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    tables = re.sub(r"^#", "##", report[report.index("\n\n") :].strip(), flags=re.MULTILINE)
    return "\n\n".join((before + BEGIN, tables, *pictures, END + after))


def draw(folder: Path, tables: Sequence[Table]) -> list[str]:
    """Writes each table's curves to files; returns the lines that show them on a page."""
    shown = []
    for number, curve in enumerate(curve for table in tables for curve in curves(table, "curve")):
        drawing, path = str(curve), folder / f"curve-{number}.svg"
        drawing = drawing.replace("<svg ", f"<svg {XML} ", 1)
        # On a dark page a transparent file would be hard to read.
        path.write_text(drawing.replace('style="', 'style="background: #fff; ', 1), encoding="utf-8")
        title = re.findall("<title[^>]*>(.*?)</title>", drawing)[0]
        shown.append(f"![{title}]({path.name})")
    return shown


def main(*folders: str) -> None:
    here, contents = Path(__file__).parent, [read_folder(Path(folder)) for folder in folders]
    known, problems = (list(itertools.chain(*parts)) for parts in zip(*contents, strict=True))
    tables = [table for table in tabulate(known) if table.selected]
    runs = [run for table in tables for run in table.runs]
    report = files(Path(folders[0]).name, runs, tables, problems)["report.md"]
    readme = here / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8"), report, draw(here, tables)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
