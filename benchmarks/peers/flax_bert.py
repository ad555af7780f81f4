"""Hugging Face's Flax BERT or RoBERTa, last seen in transformers 4.57.

Everything is trained, and every batch is padded to one length.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from transformers import FlaxAutoModelForSequenceClassification

from benchmarks.throughput.protocol import Measured, dense_inputs, over_stdio, padded_batches


class Flax:
    """A model, its AdamW, and the batches of a file."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        # The folder's weights are in PyTorch's layout, which `from_pt` converts.
        model = FlaxAutoModelForSequenceClassification.from_pretrained(args.model, num_labels=args.labels, from_pt=True)
        decays = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(args.learning_rate, weight_decay=0.1, mask=decays)
        )

        def step(state: Any, inputs: dict[str, Any], labels: Any) -> Any:
            params, opt_state, key = state
            key, dropout = jax.random.split(key)

            def loss_fn(params: Any) -> Any:
                logits = model(**inputs, params=params, dropout_rng=dropout, train=True).logits
                if jnp.issubdtype(labels.dtype, jnp.floating):
                    return jnp.mean(jnp.square(logits[:, 0] - labels))
                return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

            loss, gradients = jax.value_and_grad(loss_fn)(params)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, key), loss

        params = jax.tree.map(jnp.asarray, model.params)
        model._params = None  # so that there is no second copy
        self.state = (params, optimizer.init(params), jax.random.PRNGKey(0))
        self.jitted, self.loss = jax.jit(step, donate_argnums=0), None

    @property
    def compilations(self) -> int:
        return self.jitted._cache_size()

    def batches(self) -> Iterator[Measured]:
        for inputs, labels, sizes in padded_batches(self.args.tokens, self.args.length):
            yield sizes._replace(inputs=(inputs, labels))

    def dense(self, rows: int, seq: int) -> Any:
        return dense_inputs(rows, seq), np.zeros(rows, np.float32 if self.args.labels == 1 else np.int32)

    def step(self, inputs: Any) -> None:
        self.state, self.loss = self.jitted(self.state, *inputs)

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.loss))

    def matmul(self, m: int, k: int, n: int) -> Callable[[], None]:
        x, y = jnp.ones((m, k)), jnp.ones((k, n))
        multiply = jax.jit(jnp.matmul)
        return lambda: jax.block_until_ready(multiply(x, y))

    def flops(self, inputs: Any) -> int:
        del inputs
        return 0

    def device_bytes(self) -> int:
        statistics = jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--length", type=int, required=True, help="that everything is padded to")
    parser.add_argument("--labels", type=int, required=True, help="1 for a regression")
    parser.add_argument("--learning-rate", type=float, required=True)
    args, _ = parser.parse_known_args()
    over_stdio(lambda: Flax(args))


if __name__ == "__main__":
    main()
