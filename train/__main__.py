"""`python -m train --task rte`: fine-tunes an encoder, and reports the outcome by its exit code.

Exit codes: 0 done; 2 bad input, named in one line; 130 stopped by the user, resumable; 1 anything else.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adakron_jax.io import interrupts, memory, streams
from train import faults, signals

if TYPE_CHECKING:
    from train.options.command import Command
    from train.options.config import RunConfig


def main(argv: Sequence[str]) -> int:
    streams.prepare()
    memory.collect_seldom()
    interrupts.listen()
    return _guarded(lambda: _run(argv))


def _guarded(run: Callable[[], int], config: "RunConfig | None" = None) -> int:
    """Calls `run`; reports a stop, or a refusal by the machine, in a line that says whether the run can continue."""
    try:
        return run()
    except signals.Stopped as stop:
        return streams.complain("train", f"{stop}; the same command continues", 130)
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or interrupts.came():
            return streams.complain("train", "stopped; the same command starts or continues the run", 130)
        if not (line := faults.refused(error)):
            raise
        return streams.complain("train", line + _kept(config), 2)


def _kept(config: "RunConfig | None") -> str:
    from train.engine.folder import reached

    try:
        step = reached(config) if config else 0
    except OSError:
        return ""
    return f"; the checkpoint of step {step:,} is kept" if step else ""


def _run(argv: Sequence[str]) -> int:
    from train.options.command import parse_command

    try:
        faults.demand_files()
        command = parse_command(argv)
        if command.grid or command.launch.dry_run:
            return _run_grid(command)
    except ValueError as error:
        return streams.complain("train", error, 2)
    if not command.launch.hosts:
        return _guarded(lambda: _run_one(command), command.runs[0])
    from train.engine import hosts

    try:
        return hosts.carry_out(command.launch.hosts, lambda: _guarded(lambda: _run_one(command), command.runs[0]))
    except ValueError as error:  # the hosts cannot be joined
        return streams.complain("train", error, 2)


def _run_one(command: "Command") -> int:
    from train.engine.checkpoint import Damaged
    from train.engine.evaluation import Diverged
    from train.engine.loop import BadInput
    from train.runs import run_one

    try:
        run_one(command)
    except (BadInput, Damaged) as error:
        return streams.complain("train", error, 2)
    except Diverged as diverged:
        kept = f"the last good checkpoint, if there was one, is in {diverged.config.folder}"
        return streams.complain("train", f"{diverged}; {kept}", 1)
    return 0


def _run_grid(command: "Command") -> int:
    from train.runs import failures, run_grid

    failed = failures(run_grid(command))
    return streams.complain("train", failed, 1) if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
