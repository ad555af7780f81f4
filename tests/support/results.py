"""The records of finished runs, without running them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.options.config import RunConfig
from train.output.result import Compilations, Parameters, Result, Seconds, Throughput, read_evaluation, scored_by


def result_of(config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> Result:
    """Returns a finished run's result, with the best and the last of its records."""
    scored = scored_by(config, known.get("problem", ""))
    values = {
        "params": Parameters(method=0, head=2, base=1000, percent=0.0),
        "best": read_evaluation(max(records, key=lambda record: record[scored[0]]), scored),
        "last": read_evaluation(records[-1], scored),
        "collapsed": False,
        "throughput": Throughput(examples_per_second=1.0, tokens_per_second=20.0, padding_fraction=0.0),
        "compilations": Compilations(train=1, eval=1),
        "seconds": Seconds(compile=1.0, train=1.0, eval=1.0, total=3.0),
        "device": {"platform": "cpu"},
        "versions": {},
    }
    of_config = {name: getattr(config, name) for name in ("task", "model", "method", "seed", "best_by")}
    return Result(**(of_config | values | known))


def write_result(folder: Path, config: RunConfig, records: Sequence[Mapping[str, Any]], **known: Any) -> None:
    """Writes a finished run's `config.toml` and `result.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(config.dumps())
    result_of(config, records, **known).write(folder)
