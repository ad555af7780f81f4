"""`python -m train.report runs/table1`: writes a report of all runs below a folder.

Exit codes: 0 done; 2 bad input, named in one line.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from adakron_jax.flags import add_trust_flag
from adakron_jax.io import streams
from adakron_jax.io.files import write_whole
from adakron_jax.io.parser import Parser
from adakron_jax.methods.external import trust
from train.report import formats, words
from train.report.differences import check_names
from train.report.runs import Run, read_folder
from train.report.tables import Table, tabulate


def main(argv: Sequence[str]) -> int:
    streams.prepare()
    parser = Parser(prog="adakron report", description="Reports all runs below a folder.")
    parser.add_argument("folder", type=Path, help="a folder of runs, at any depth")
    said = "where to write report.md, .csv, .tex and .html (default: FOLDER)"
    parser.add_argument("--out", type=Path, default=None, help=said)
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("METHOD", "METHOD"),
        help="a pair of methods to compare, by name or as in the table; may be repeated (default: adakron with every "
        "other)",
    )
    add_trust_flag(parser)
    try:
        given = parser.parse_args(argv)
        folder, out = given.folder, given.out or given.folder
        trust(*given.trust)
        if not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is not a folder; accepted: one that holds runs")
        runs, problems = read_folder(folder)
        if not runs:
            reasons = f"; {'; '.join(problems)}" if problems else ""
            raise ValueError(f"{str(folder)!r} holds no run; accepted: a folder with a run's config.toml{reasons}")
        for problem in problems:
            print(f"report: {problem}", file=sys.stderr)
        tables = [dataclasses.replace(table, compare=tuple(map(tuple, given.compare))) for table in tabulate(runs)]
        check_names(tables, [name for pair in given.compare for name in pair])
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return streams.complain("report", error, 2)
    contents = files(folder.resolve().name, runs, tables, problems)
    try:
        for name, text in contents.items():
            write_whole(out / name, text.encode())
            print(out / name)
    except OSError as error:
        return streams.complain("report", error, 2)
    return 0


def files(name: str, runs: Sequence[Run], tables: Sequence[Table], problems: Sequence[str]) -> dict[str, str]:
    """Returns file name -> contents of a report; `name` is that of the folder reported on."""
    ended, seeds = sum(bool(run.result) for run in runs), sorted({run.config.seed for run in runs})
    summary = f"{ended} of {len(runs)} runs have ended; {words.numbered('seed', seeds)}."
    views = [formats.view_of(table) for table in tables]
    return {
        "report.md": formats.markdown(name, summary, views, problems),
        "report.csv": formats.comma_separated(tables),
        "report.tex": formats.latex(name, views),
        "report.html": formats.page(name, summary, views, problems),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
