"""Our training program under measurement: its own data, batches and step, set up as `train.engine.loop` does."""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from benchmarks.throughput.protocol import Measured, dense_inputs, over_stdio


class Ours:
    """A run about to begin.

    Args:
      argv: the command line of `python -m train`.
      shared: what an earlier one has loaded, if there was one.
    """

    def __init__(self, argv: Sequence[str], shared: Any = None):
        import jax

        from train.engine.data import make_plan, read_data
        from train.engine.sharding import make_shardings
        from train.engine.shared import Shared, configure_jax
        from train.engine.start import initial_params, initial_state, make_model, place_frozen
        from train.options.command import parse
        from train.options.model import Pretrained

        self.jax, self.config = jax, parse(argv)
        shared = shared or Shared(Pretrained(self.config.model))
        configure_jax(self.config.precision)
        self.shardings = make_shardings(self.config.mesh_shape, shared.model.encoder)
        self.data = read_data(self.config, shared)
        self.plan = make_plan(self.config, self.data)
        problem = self.data.task.problem
        model = make_model(self.config, problem, shared.model.encoder)
        params = initial_params(self.config, model, problem, shared.model, self.data.train.labels)
        (self.frozen,) = place_frozen([params], model, self.shardings)
        self.state = initial_state(self.config, params, self.data, self.shardings)
        steps = shared.steps(self.config, model, problem.losses, self.shardings, self.state, self.frozen)
        self.train_step, self.metrics = steps.train, None

    @property
    def compilations(self) -> int:
        return self.train_step.compilations

    def batches(self) -> Iterator[Measured]:
        examples = self.data.train
        for epoch in count():
            for batch, _, ids in self.plan.batches(examples, epoch):
                ids = ids[ids >= 0]
                yield Measured(batch, len(ids), int(examples.lengths[ids].sum()), batch.inputs.tokens.size)

    def dense(self, rows: int, seq: int) -> Any:
        import numpy as np

        from adakron_jax.data.packing import Batch
        from adakron_jax.encoders.inputs import padded

        named = {name: self.jax.numpy.asarray(array, np.int32) for name, array in dense_inputs(rows, seq).items()}
        inputs = self.jax.tree.map(lambda x: np.asarray(x)[None], padded(**named))
        return Batch(inputs, np.zeros((1, rows, 1), self.data.train.labels.dtype), np.ones((1, rows, 1), np.float32))

    def step(self, inputs: Any) -> None:
        batch = self.jax.device_put(inputs, self.shardings.batch)
        # As in `train.engine.loop`: the step before is waited for when this one is on its way.
        before = self.metrics
        self.state, self.metrics = self.train_step(self.state, self.frozen, batch)
        self.jax.device_get(before)

    def wait(self) -> None:
        self.jax.block_until_ready((self.state, self.metrics))

    def matmul(self, m: int, k: int, n: int) -> Callable[[], None]:
        x, y = (self.jax.numpy.ones(shape, self.config.dtype) for shape in ((m, k), (k, n)))
        multiply = self.jax.jit(self.jax.numpy.matmul)
        return lambda: self.jax.block_until_ready(multiply(x, y))

    def flops(self, inputs: Any) -> int:
        from benchmarks.tpu import matmul_flops

        return sum(matmul_flops(self.train_step.jitted.trace(self.state, self.frozen, inputs).jaxpr.jaxpr).values())

    def device_bytes(self) -> int:
        statistics = self.jax.devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use", 0)


def main() -> None:
    over_stdio(lambda: Ours(sys.argv[1:]))


if __name__ == "__main__":
    main()
