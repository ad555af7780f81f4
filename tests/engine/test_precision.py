"""bfloat16 beside float32."""

import dataclasses
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.engine.test_run import SMALL, call, records
from train.engine.cache import Cache
from train.engine.folder import decided
from train.options.config import RunConfig
from train.options.model import Pretrained


@pytest.mark.nightly
def test_losses_in_bf16_are_within_the_noise_of_seeds(tiny: Path, tmp_path: Path):
    def losses(name: str, *more: object) -> np.ndarray:
        flags = ["--task", "sst2", "--model", tiny, "--epochs", 6, "--learning-rate", 1e-2, "--out", tmp_path / name]
        assert call(*SMALL, *flags, *more).code == 0
        return np.array([record["loss"] for record in records(tmp_path / name, "train")])

    f32, other_seed, bf16 = losses("f32"), losses("seed", "--seed", 1), losses("bf16", "--precision", "bf16")
    assert len(f32) == 12
    assert f32[-2:].mean() < 0.95 * f32[:2].mean()
    noise, error = np.abs(other_seed - f32).mean(), np.abs(bf16 - f32).mean()
    assert 0 < error < noise / 4


def test_auto_goes_on_in_the_precision_that_a_run_began_in(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also on a machine where a new one would begin in another; an explicit precision has to agree."""
    configs = [RunConfig(task="sst2", out=str(tmp_path / name)) for name in "ab"]
    cache = Cache(Pretrained(str(tiny)))
    assert configs[0].precision == "auto"
    assert [config.precision for config in decided(configs, cache)] == ["f32", "f32"]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [config.precision for config in decided(configs, cache)] == ["bf16", "bf16"]
    begun = [dataclasses.replace(config, precision="f32") for config in configs]
    for config in begun:
        config.folder.mkdir()
        (config.folder / "config.toml").write_bytes(config.dumps())
    assert [config.precision for config in decided(configs, cache)] == ["f32", "f32"]
    saved = tomllib.loads(begun[0].dumps().decode())
    assert configs[0].differences(saved) == []
    assert dataclasses.replace(begun[0], precision="bf16").differences(saved) == ["precision 'f32' -> 'bf16'"]
    (configs[1].folder / "config.toml").write_bytes(dataclasses.replace(begun[1], precision="bf16").dumps())
    with pytest.raises(ValueError, match="precision is 'auto', and the runs began with bf16 and f32; accepted: one"):
        decided(configs, cache)
