"""The hours of three users, each a script that runs from its first import to its last answer."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest

from train.data.sources import MINI

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
SPLITS = {"data_scientist": ("train", "validation"), "doctoral_student": ("train",), "jax_engineer": ("train",)}


@pytest.mark.nightly
@pytest.mark.parametrize("user", SPLITS)
def test_an_hour_goes_through(user: str, tmp_path: Path):
    for split in SPLITS[user]:
        rows = pandas.read_csv(MINI / "sst2" / f"{split}.tsv", sep="\t", quoting=3)
        rows = rows.rename(columns={"sentence": "review", "label": "sentiment"})
        rows.replace({"sentiment": {0: "negative", 1: "positive"}}).to_csv(tmp_path / f"{split}.csv", index=False)
    tables = [f"{split}.csv" for split in SPLITS[user]]
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, HERE / f"{user}.py", *tables],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    print(f"{user}: {time.monotonic() - begun:.0f} s")
