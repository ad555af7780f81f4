"""`predictions/`: what a run's best evaluation predicted for each example, so that runs can be compared."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from adakron_jax.entities.ragged import Ragged
from adakron_jax.io.files import write_whole

FOLDER = "predictions"
BEST, TEST = "best", "test"  # rows that chose the epoch, and those scored once: files in the folder, blocks of a report
_OFFSETS = "offsets"


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Targets and predictions of the same examples, in the form that `Problem.predict` returns."""

    targets: Any
    predictions: Any

    def __len__(self) -> int:
        return len(self.targets)

    def write(self, run: Path, part: str) -> None:
        """Writes both into a run's folder."""
        offsets = {_OFFSETS: self.targets.offsets} if isinstance(self.targets, Ragged) else {}
        arrays = {name: values.values if offsets else values for name, values in vars(self).items()} | offsets
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        (run / FOLDER).mkdir(exist_ok=True)
        write_whole(run / FOLDER / f"{part}.npz", buffer.getvalue())


def read(run: Path, part: str) -> Predicted | None:
    """Reads what `Predicted.write` wrote; None if there is no such file; ValueError if it is damaged."""
    path = run / FOLDER / f"{part}.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pair = arrays["targets"], arrays["predictions"]
            if len(pair[0]) != len(pair[1]):
                raise ValueError(f"{len(pair[0])} targets, and {len(pair[1])} predictions")
            if _OFFSETS in arrays:
                return Predicted(*(Ragged(values, arrays[_OFFSETS]) for values in pair))
            return Predicted(*pair)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None
