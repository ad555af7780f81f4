"""How long a training step takes to compile as the encoder grows deeper: RoBERTa-large's against BERT-base's.

`python -m benchmarks.depth` compiles AdaKron's step from shapes alone, its layers in a loop as accelerators have them,
each from the beginning, in turn. It prints JSON: seconds of every round, and the median ratio.
"""

import argparse
import json
import time
from typing import Any

import jax
import numpy as np

from adakron_jax.architectures.config import NAMED, EncoderConfig
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron
from adakron_jax.params import split_params
from adakron_jax.problems import Classification
from adakron_jax.splice import is_trainable
from benchmarks.dense import dense_batch
from train.engine import optim
from train.engine.sharding import make_shardings
from train.engine.step import compile_steps, init_state
from train.options.mesh import MeshShape


def compile_seconds(encoder: EncoderConfig, rows: int, seq: int) -> float:
    """Seconds to trace and compile a step of rows x seq tokens; nothing is taken from any cache."""
    jax.clear_caches()
    method = AdaKron()
    model = SequenceClassifier(encoder, method)
    trainable, frozen = split_params(model.shapes(), is_trainable(method))
    schedule = optim.linear_schedule(1e-4, 1000, 0.06)
    optimizer = optim.adamw(0.1)
    state = jax.eval_shape(lambda trainable: init_state(trainable, optimizer, schedule, 0), trainable)
    step = compile_steps(
        model, Classification.losses, optimizer, make_shardings(MeshShape(), encoder), state, frozen
    ).train
    begun = time.perf_counter()
    step.jitted.lower(state, frozen, dense_batch(encoder, rows, seq)).compile()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    rounds = [
        {name: compile_seconds(encoder, args.rows, args.seq) for name, encoder in NAMED.items()}
        for _ in range(args.rounds)
    ]
    seconds: dict[str, Any] = {name: [one[name] for one in rounds] for name in NAMED}
    ratio = float(np.median(np.asarray(seconds["roberta-large"]) / np.asarray(seconds["bert-base"])))
    print(json.dumps({"seconds": seconds, "ratio": ratio}))


if __name__ == "__main__":
    main()
