"""Runs stopped on one number of devices and continued on another: what was saved is restored on any.

    python -m benchmarks.reliability devices --counts 1 2 4 8

The devices are simulated on the CPU. A run is stopped half-way on each count and continued on each; where the program
continues it, losses and trainable parameters must agree with an undisturbed run's on one device to 1e-5.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np

from adakron_jax.io.files import read_tensors
from benchmarks.reliability.runs import STEPS, call, journal, stopped, surroundings, words

TOLERANCE = 1e-5


def apart(folder: Path, other: Path) -> float:
    """The largest difference of two ended runs' adapters and training losses."""
    first, second = (read_tensors(path / "adapter/adapter.safetensors") for path in (folder, other))
    leaves = max(float(np.abs(first[name] - second[name]).max()) for name in first)
    losses, other_losses = (
        np.asarray([record["loss"] for record in journal(path) if record["kind"] == "train"])
        for path in (folder, other)
    )
    return max(leaves, float(np.abs(losses - other_losses).max()))


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])


def main(given: argparse.Namespace, scratch: Path) -> bool:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={max(given.counts)}"
    worst, failed, whole, out = 0.0, [], scratch / "whole", scratch / "out"
    with surroundings(scratch) as model:
        ended = call(words(model, whole))
        assert ended.code == 0, ended
        for saved in given.counts:
            before = scratch / f"stopped-{saved}"
            halfway = stopped(words(model, out, mesh=f"data={saved}"), out, STEPS + STEPS // 2)
            assert halfway.code == 130, halfway
            out.rename(before)
            for restored in given.counts:
                shutil.copytree(before, out)
                ended = call(words(model, out, mesh=f"data={restored}"))
                if ended.code != 0:
                    failed.append(f"{saved} -> {restored}: {ended.err.strip()}")
                else:
                    difference = apart(out, whole)
                    worst = max(worst, difference)
                    failed += [f"{saved} -> {restored}: {difference:.1e} apart"] if difference > TOLERANCE else []
                shutil.rmtree(out)
    pairs = len(given.counts) ** 2
    print(f"{pairs - len(failed)} of {pairs} pairs of {given.counts} devices, at most {worst:.1e} apart")
    print(failed or "none failed")
    return not failed
