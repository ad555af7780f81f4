"""bfloat16 beside float32."""

from pathlib import Path

import numpy as np

from tests.engine.test_run import SMALL, call, records


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
