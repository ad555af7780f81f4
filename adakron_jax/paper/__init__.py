"""The tables of the AdaKron paper (Braga et al. 2024): sizes by method in `sizes`, scores by task in SCORES."""

from pathlib import Path

SCORES = Path(__file__).with_name("scores.toml")  # on the development sets, except those `published` in `configs/`
