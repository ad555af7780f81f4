"""What we export, loaded by the programs it is for: the same logits. `make test-peers` runs this.

The programs run in an environment of their own, `.venv-peers`; without it these tests are skipped.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import padded
from adakron_jax.interop.convert import export_adapter, import_adapter
from adakron_jax.params import unflatten
from adakron_jax.splice import Method
from tests.methods.test_fuse import random_leaves
from tests.support.adapters import CASES, card_of

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.is_file(), reason="no .venv-peers; make bench-peers makes it")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of full length, so that a mean over the padded ones is none of padding."""
    path, rng = tmp_path_factory.mktemp("inputs") / "inputs.npz", np.random.default_rng(0)
    ids = rng.integers(5, 97, (2, 9))
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids))
    return path


@pytest.fixture(scope="module")
def peer() -> Iterator[subprocess.Popen[str]]:
    """One process for all cases: its imports take longer than they do."""
    command = [str(PYTHON), str(Path(__file__).parent / "compare.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.mark.parametrize(("to", "base", "method", "fields"), CASES, ids=lambda x: getattr(x, "name", None))
def test_the_peer_computes_the_same(
    to: str, base: str, method: Method, fields: dict[str, Any], inputs: Path, peer: Any, tmp_path: Path
) -> None:
    card = card_of(base, method, fields)
    tree = unflatten(random_leaves(adapter.portable_shapes(card)))
    adapter.save(tmp_path / "adapter", tree, card)
    export_adapter(str(tmp_path / "adapter"), to, tmp_path / "out")
    peer.stdin.write(f"{to} {tmp_path / 'out'} {card.base} {inputs} {tmp_path / 'logits.npy'}\n")
    peer.stdin.flush()
    while (line := peer.stdout.readline()).strip() != "done":
        assert line and not line.startswith("failed"), line  # noqa: PT018
    theirs = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(theirs, logits_of(tmp_path / "adapter", card, inputs), rtol=0, atol=1e-5)
    again = import_adapter(tmp_path / "out", card.base, tmp_path / "again")
    np.testing.assert_allclose(theirs, logits_of(tmp_path / "again", again, inputs), rtol=0, atol=1e-5)


def logits_of(folder: Path, card: Card, inputs: Path) -> np.ndarray:
    """Ours, in the unit of a regression."""
    arrays = np.load(inputs)
    model, params, _ = adapter.attach(folder, pretrained.read(Path(card.base), card.encoder))
    packed = padded(*(jnp.asarray(arrays[name], jnp.int32) for name in arrays.files))
    params = jax.tree.map(jnp.asarray, params)
    logits = np.asarray(model.apply({"params": params}, packed))
    mean, scale = card.problem.unit
    return mean + scale * (logits if card.problem.reads == "token" else logits[:, 0])
