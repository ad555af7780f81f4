"""Encoders of published shapes with random weights, and token arrays of real examples, for all programs alike.

    python -m benchmarks.gpu.inputs --out FOLDER --data /path/to/glue --shape bert-base --task sst2 mrpc

What is there already stays.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.data.tokenizer import Tokenizer
from benchmarks import shapes
from benchmarks.gpu.settings import BATCH, split_of
from benchmarks.throughput.examples import write_examples
from train.data.glue import TASKS

BATCHES = 64  # written down of each task


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shape", nargs="+", choices=sorted(NAMED), required=True)
    parser.add_argument("--task", nargs="+", choices=tuple(TASKS), required=True)
    parser.add_argument("--layers", type=int, default=0, help="of the encoders; 0 for as many as they have")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    for shape in given.shape:
        folder = given.out / shape
        if not (folder / "config.json").is_file():
            layers = given.layers or NAMED[shape].num_layers
            shapes.write_with_tokenizer(dataclasses.replace(NAMED[shape], num_layers=layers), folder)
        encoder = EncoderConfig.from_folder(folder)
        for task in given.task:
            path = given.out / f"{task}.npz"
            if not path.is_file():
                tokenizer = Tokenizer(folder, encoder.vocab_size)
                split = split_of(given.data, task)
                write_examples(path, str(given.data), TASKS[task], split, encoder, tokenizer, BATCH, BATCHES)
    print(json.dumps({"folder": str(given.out), "shapes": given.shape, "tasks": given.task}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
