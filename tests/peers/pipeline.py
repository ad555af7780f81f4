"""Finds entities as transformers' pipeline does. Runs in the peers' environment.

python pipeline.py FOLDER TEXTS.json ENTITIES.json
"""

import json
import sys
from pathlib import Path

from transformers import pipeline


def main(folder: str, texts: str, out: str) -> None:
    found = {}
    for strategy in ("simple", "first"):
        finder = pipeline("token-classification", folder, aggregation_strategy=strategy, device="cpu")
        found[strategy] = [finder(text) for text in json.loads(Path(texts).read_text())]
    Path(out).write_text(json.dumps(found, default=float))


if __name__ == "__main__":
    main(*sys.argv[1:])
