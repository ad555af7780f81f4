"""Our training program under measurement, with its own data, batches and step, set up as in `train.engine.loop`."""

import functools
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from benchmarks.peers.protocol import Measured, dense_inputs, over_stdio, serve_trainer, settings


class Ours:
    """A run about to begin, from flags of `python -m train`."""

    def __init__(self, flags: Mapping[str, Any]):
        import jax

        from train.engine.cache import Cache
        from train.engine.dataset import make_plan
        from train.engine.initial import initial_params, initial_state, make_model, place_frozen
        from train.engine.steps.sharding import make_shardings
        from train.engine.steps.step import configure_jax
        from train.options.command import parse
        from train.options.model import Pretrained

        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        self.jax, self.config = jax, parse(words)
        cache = Cache(base := Pretrained(self.config.model))
        configure_jax(self.config.dtype)
        self.shardings = make_shardings(self.config.mesh_shape, base.encoder)
        self.data = cache.loader.dataset(self.config)
        self.plan = make_plan(self.config, self.data)
        problem = self.data.task.problem
        self.model = make_model(self.config, problem, base)
        params = initial_params(self.config, self.model, problem, base, self.data.train.labels)
        (self.frozen,) = place_frozen([params], self.model, self.shardings)
        self.state = initial_state(self.config, params, self.data, self.shardings)
        self.steps = cache.steps(self.config, self.model, problem.losses, self.shardings, self.state, self.frozen)
        self.metrics: Any = None

    @property
    def compilations(self) -> int:
        return self.steps.train.compilations

    def batches(self) -> Iterator[Measured]:
        for epoch in count():
            for batch in self.plan.batches(self.data.train, epoch):
                segments = batch.inputs.segments  # numbered from 1 in each row
                examples, tokens = int(segments.max(axis=-1).sum()), int((segments > 0).sum())
                yield Measured(batch, examples, tokens, segments.size)

    def dense(self, rows: int, seq: int) -> Any:
        return dense_batch(rows, seq, self.data.train.labels.dtype)

    def step(self, inputs: Any) -> None:
        batch = self.jax.device_put(inputs, self.shardings.batch)
        # As in `train.engine.loop`, the step before is waited for once this one is enqueued.
        before = self.metrics
        self.state, self.metrics = self.steps.train(self.state, self.frozen, batch)
        self.jax.device_get(before)

    def wait(self) -> None:
        self.jax.block_until_ready((self.state, self.metrics))

    def device_bytes(self) -> int:
        return (self.jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def dense_batch(rows: int, seq: int, labels: Any = "int32") -> Any:
    """Returns a batch of rows full of tokens, one example per row."""
    import jax
    import numpy as np

    from adakron_jax.data.packing import Batch
    from adakron_jax.encoders.inputs import padded

    named = {name: array.astype(np.int32) for name, array in dense_inputs(rows, seq).items()}
    inputs = jax.tree.map(lambda x: np.asarray(x)[None], padded(**named))
    return Batch(inputs, np.zeros((1, rows, 1), labels), np.ones((1, rows, 1), np.float32))


if __name__ == "__main__":
    over_stdio(functools.partial(serve_trainer, lambda: Ours(vars(settings()))))
