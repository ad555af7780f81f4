"""Ahead-of-time compilation of a jitted function, with a record of what was compiled and how long it took."""

import time
from typing import Any

import jax


class PerShape:
    """A jitted function, compiled ahead of time once for each shape of its last argument.

    Attributes:
      seconds: time spent compiling.
      compilations: number of compilations.
      executables: the executables by their arguments' shapes and types.
    """

    def __init__(self, jitted: jax.stages.Wrapped):
        self.jitted = jitted
        self.seconds = 0.0
        self.compilations = 0
        self.executables: dict[tuple, jax.stages.Compiled] = {}

    def anew(self) -> "PerShape":
        """Returns the same function with the same executables; seconds and compilations start at 0."""
        other = PerShape(self.jitted)
        other.executables = self.executables
        return other

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)(*args)

    def compiled(self, *args: Any) -> jax.stages.Compiled:
        """Returns the executable for arguments of these shapes; the arguments may be `jax.ShapeDtypeStruct`s."""
        shape = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(args[-1]))
        if shape not in self.executables:
            start = time.perf_counter()
            self.executables[shape] = self.jitted.lower(*args).compile()
            self.seconds += time.perf_counter() - start
            self.compilations += 1
        return self.executables[shape]
