"""The paper's own rows, where a table of ours can be compared with them."""

import dataclasses
import statistics
import tomllib
from collections.abc import Mapping

from adakron_jax.methods import AdaKron
from adakron_jax.paper import SCORES, sizes
from adakron_jax.splice import Method
from train.options.recipes import published_scores
from train.report.tables import Table


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables; `scores` are in percent, of each task's published metric."""

    text: str
    scores: Mapping[str, float]
    average: float | None


def paper_rows(table: Table, method: Method) -> list[PaperRow]:
    """Returns the paper's rows for a method on a table's encoder; none if its scores are not comparable."""
    if not table.comparable:
        return []
    data, rows = tomllib.loads(SCORES.read_text(encoding="utf-8")), []
    for row in sizes.ROWS:
        if row.encoder != table.named or row.method != method:
            continue
        text, average = f"paper, Table {row.table}: {row.system}", None
        printed = [line for line in data["row"] if (line["table"], line["system"]) == (row.table, row.system)]
        if row.table == 3 and isinstance(method, AdaKron):
            (score,) = (line["score"] for line in data["table3"]["rte"] if tuple(line["factors"]) == method.factors)
            scores = {"rte": score}
        elif printed:
            scores, average = dict(zip(data["tasks"], printed[0]["scores"], strict=True)), printed[0]["average"]
            text += f", from {printed[0]['source']}" if "source" in printed[0] else ""
        else:  # in the recipes
            scores = {task: published_scores(task, row.encoder)[metric] for task, metric in table.published.items()}
            average = round(statistics.fmean(scores.values()), 1)
        rows.append(PaperRow(text, scores, average))
    return rows
