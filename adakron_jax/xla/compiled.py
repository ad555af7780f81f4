"""A jitted function, compiled ahead of time, of which it is known what and how long it compiled."""

import time
from typing import Any

import jax


class PerShape:
    """A jitted function, compiled ahead of time once for each shape of its last argument.

    Attributes:
      seconds: spent compiling.
      compilations: how often it compiled.
      executables: by shapes and types.
    """

    def __init__(self, jitted: jax.stages.Wrapped):
        self.jitted = jitted
        self.seconds = 0.0
        self.compilations = 0
        self.executables: dict[tuple, jax.stages.Compiled] = {}

    def anew(self) -> "PerShape":
        """The same function with the same executables; seconds and compilations count from 0."""
        other = PerShape(self.jitted)
        other.executables = self.executables
        return other

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)(*args)

    def compiled(self, *args: Any) -> jax.stages.Compiled:
        """The executable for arguments of these shapes; these themselves may be `jax.ShapeDtypeStruct`s."""
        shape = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(args[-1]))
        if shape not in self.executables:
            start = time.perf_counter()
            self.executables[shape] = self.jitted.lower(*args).compile()
            self.seconds += time.perf_counter() - start
            self.compilations += 1
        return self.executables[shape]
