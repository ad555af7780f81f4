"""Our training program under measurement: its own preparation, the plan's batches and the run's own step."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from benchmarks.protocol import Measured, dense_inputs, over_stdio


class Ours:
    """A prepared run.

    Args:
      argv: the command line of `python -m train`.
      shared: what an earlier one has loaded, if there was one.
    """

    def __init__(self, argv: Sequence[str], shared: Any = None):
        import jax

        from train.engine import prepare
        from train.options import command

        self.jax = jax
        self.run = prepare.prepare(command.parse(argv), shared)
        self.metrics = None

    @property
    def compilations(self) -> int:
        return len(self.run.train_step.executables)

    def batches(self) -> Iterator[Measured]:
        examples = self.run.train_set
        for epoch in count():
            for batch, _, ids in self.run.plan.batches(examples, epoch):
                ids = ids[ids >= 0]
                yield Measured(batch, len(ids), int(examples.lengths[ids].sum()), batch.inputs.tokens.size)

    def dense(self, rows: int, seq: int) -> Any:
        import numpy as np

        from adakron_jax.data.packing import Batch
        from adakron_jax.encoders.inputs import padded

        named = {name: self.jax.numpy.asarray(array, np.int32) for name, array in dense_inputs(rows, seq).items()}
        inputs = self.jax.tree.map(lambda x: np.asarray(x)[None], padded(**named))
        return Batch(inputs, np.zeros((1, rows, 1), self.run.train_set.labels.dtype), np.ones((1, rows, 1), np.float32))

    def step(self, inputs: Any) -> None:
        batch = self.jax.device_put(inputs, self.run.shardings.batch)
        # As in training: the step before is waited for when this one is on its way.
        before = self.metrics
        self.run.state, self.metrics = self.run.train_step(self.run.state, self.run.frozen, batch)
        self.jax.device_get(before)

    def wait(self) -> None:
        self.jax.block_until_ready((self.run.state, self.metrics))

    def matmul(self, m: int, k: int, n: int) -> Callable[[], None]:
        x, y = (self.jax.numpy.ones(shape, self.run.config.dtype) for shape in ((m, k), (k, n)))
        multiply = self.jax.jit(self.jax.numpy.matmul)
        return lambda: self.jax.block_until_ready(multiply(x, y))

    def flops(self, inputs: Any) -> int:
        from benchmarks.tpu import matmul_flops

        return sum(
            matmul_flops(self.run.train_step.jitted.trace(self.run.state, self.run.frozen, inputs).jaxpr.jaxpr).values()
        )

    def device_bytes(self) -> int:
        statistics = self.jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0)


def main() -> None:
    over_stdio(lambda: Ours(sys.argv[1:]))


if __name__ == "__main__":
    main()
