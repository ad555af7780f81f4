"""The paper's own rows, where a table of ours may be held against them."""

import dataclasses
import statistics
import tomllib
from collections.abc import Mapping

from adakron_jax.methods import AdaKron
from adakron_jax.paper import SCORES, sizes
from adakron_jax.splice import Method
from train.options.recipes import RECIPES
from train.report.tables import Table


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables: task -> score in percent, of the task's published metric."""

    text: str
    scores: Mapping[str, float]
    average: float | None


def paper_rows(table: Table, method: Method) -> list[PaperRow]:
    """The paper's rows of a method on a table's encoder; none where its scores are of something else."""
    if not table.comparable:
        return []
    data, found = tomllib.loads(SCORES.read_text(encoding="utf-8")), []
    for row in sizes.ROWS:
        if row.encoder != table.named or row.method != method:
            continue
        if row.table == 3 and isinstance(method, AdaKron):
            (score,) = (its["score"] for its in data["table3"]["rte"] if tuple(its["factors"]) == method.factors)
            found.append(PaperRow(f"paper, Table 3: {row.system}", {"rte": score}, None))
            continue
        theirs = [its for its in data["row"] if (its["table"], its["system"]) == (row.table, row.system)]
        if theirs:
            scores = dict(zip(data["tasks"], theirs[0]["scores"], strict=True))
            source = f", from {theirs[0]['source']}" if "source" in theirs[0] else ""
            found.append(PaperRow(f"paper, Table {row.table}: {row.system}{source}", scores, theirs[0]["average"]))
        else:  # the configurations' own
            scores = {
                task: tomllib.loads((RECIPES / f"{task}.toml").read_text("utf-8"))[row.encoder]["published"][metric]
                for task, metric in table.published.items()
            }
            average = round(statistics.fmean(scores.values()), 1)
            found.append(PaperRow(f"paper, Table {row.table}: {row.system}", scores, average))
    return found
