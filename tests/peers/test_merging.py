"""Merged adapters, merged by the programs themselves: the same logits. `make test-peers` runs this.

`python -m tests.peers.test_merging` writes what they compute where `tests/merging` has it.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from adakron_jax.interop.convert import export_adapter
from adakron_jax.merging import merge_adapters
from tests.merging.cases import CASES, STORED, inputs, logits_of, written
from tests.peers.test_peers import PYTHON, pytestmark
from tests.support.adapters import BASES

__all__ = ["pytestmark"]


def computed(folder: Path) -> dict[str, np.ndarray]:
    """Name of a case -> the logits of its peer."""
    np.savez(folder / "inputs.npz", allow_pickle=False, **inputs())
    lines = []
    for name, case in CASES.items():
        folders = []
        for number, path in enumerate(written(case, folder / name)):
            folders.append(str(folder / f"{name}-{number}"))
            export_adapter(str(path), case.to, Path(folders[-1]))
        said = {"to": case.to, "folders": folders, "base": str(BASES[case.base]), "theirs": case.theirs}
        said["weights"] = case.ours.get("weights", (1 / len(folders),) * len(folders))
        said |= {"head": case.ours.get("head"), "seed": case.ours.get("seed", 0)}
        said |= {"inputs": str(folder / "inputs.npz"), "logits": str(folder / f"{name}.npy")}
        lines.append(json.dumps(said))
    command = [str(PYTHON), str(Path(__file__).parent / "merge.py")]
    peer = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    assert [line for line in peer.stdout.splitlines() if line.startswith("failed")] == [], peer.stdout
    return {name: np.load(folder / f"{name}.npy") for name in CASES}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return computed(tmp_path_factory.mktemp("merged"))


@pytest.mark.parametrize("name", CASES)
def test_the_peer_computes_the_same(name: str, theirs: dict[str, np.ndarray], tmp_path: Path) -> None:
    case = CASES[name]
    folders = written(case, tmp_path)
    ours = case.ours | ({"head": folders[case.ours["head"]]} if "head" in case.ours else {})
    merge_adapters(folders, tmp_path / "merged", **ours)
    np.testing.assert_allclose(logits_of(tmp_path / "merged"), theirs[name], rtol=0, atol=2e-5)
    np.testing.assert_allclose(np.load(STORED)[name], theirs[name], rtol=0, atol=1e-6)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        np.savez(STORED, allow_pickle=False, **computed(Path(made)))
