"""FourierFT (Gao et al. 2024): updates of frozen matrices by a few coefficients of their spectrum.

ΔW = s Re(ifft2(S)), where S is zero except at n places, which are the same in all layers:

    ΔW[p, q] = s / (in out) Σ_j c_j cos(2π (p k_j / in + q l_j / out))

The cosine of a sum splits into two matmuls of cosines and sines, which all layers share; no transform is computed.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders.ops.matmul import matmul
from adakron_jax.methods.registry import register
from adakron_jax.methods.updates.lora import Sizes, Target, Update, sizes
from adakron_jax.splice import Leaves, Splice, require

SEEDS = 1 << 32


@register
@dataclasses.dataclass(frozen=True)
class FourierFT(Update):
    """Updates by coefficients of their Fourier transform.

    Attributes:
      n_frequency: number of coefficients per target.
      scaling: s.
      seed: the seed for the places of the coefficients, which are peft's with the same `random_loc_seed`.
    """

    name: ClassVar[str] = "fourierft"
    least = {"n_frequency": 1}
    n_frequency: int = 1000
    scaling: float = 150.0
    seed: int = 777

    def __post_init__(self):
        super().__post_init__()
        require(self.scaling > 0, "scaling", self.scaling, "above 0")
        require(0 <= self.seed < SEEDS, "seed", self.seed, f"0 to {SEEDS - 1}")

    @property
    def default_scale(self) -> float:
        return self.scaling

    def shared(self, config: EncoderConfig, dtype: Any = None) -> Splice:
        distinct = tuple(sorted({sizes(target, config) for target in self.targets}))
        return Splice(functools.partial(Bases, distinct, self.n_frequency, self.seed), label="bases")

    def check(self, target: str, sizes: Sizes) -> None:
        most = math.prod(sizes)
        require(self.n_frequency <= most, "n_frequency", self.n_frequency, f"at most inputs times outputs, {most}")

    def added(self, target: Target) -> Float[Array, "*batch out"]:
        """Computes x ΔW; forms ΔW unless there are so few tokens that going through its factors is less work."""
        c = target.param("spectrum", nn.initializers.normal(1.0), (self.n_frequency,))
        left, right = target.shared[target.sizes]
        size = math.prod(target.sizes)
        x, left, right = target.promoted(left * jnp.tile(c, 2)[None] / size, right)
        tokens, inner = math.prod(x.shape[:-1]), 2 * self.n_frequency
        if tokens * inner * sum(target.sizes) < size * (inner + tokens):
            return matmul(matmul(x, left), right)
        return matmul(x, matmul(left, right))

    def update(self, leaves: Leaves, shared: Leaves, sizes: Sizes) -> np.ndarray:
        spectrum = np.zeros(sizes)
        spectrum[tuple(places(sizes, self.n_frequency, self.seed))] = leaves["spectrum"]
        return np.fft.ifft2(spectrum).real.astype(np.float32)


@functools.cache
def places(sizes: Sizes, count: int, seed: int) -> Int[np.ndarray, "2 count"]:
    """Returns the places of the coefficients: row 0 along the inputs, row 1 along the outputs.

    They are the start of a random permutation of all places, as torch draws it: for i = 0, 1, ... entry i is swapped
    with entry i + (the next 32 bits of MT19937 modulo the number of entries left).
    """
    inputs, outputs = sizes
    bits = np.random.RandomState(seed).randint(0, SEEDS, count, dtype=np.uint32)  # noqa: NPY002  # torch's generator
    moved: dict[int, int] = {}
    chosen = []
    for i, number in enumerate(bits.tolist()):
        other = i + number % (inputs * outputs - i)
        chosen.append(moved.get(other, other))
        moved[other] = moved.get(i, i)
    return np.stack(np.divmod(chosen, inputs)[::-1])


class Bases(nn.Module):
    """For each pair of sizes, two matrices L and R with ΔW = L diag(c, c) R / (in out)."""

    of_sizes: tuple[Sizes, ...]
    n_frequency: int
    seed: int

    @nn.compact
    def __call__(self) -> dict[Sizes, tuple[Float[Array, "in two_n"], Float[Array, "two_n out"]]]:
        bases = {}
        for inputs, outputs in self.of_sizes:
            along_inputs, along_outputs = places((inputs, outputs), self.n_frequency, self.seed)
            a, b = _angles(inputs, along_inputs), _angles(outputs, along_outputs)
            left = jnp.concatenate([jnp.cos(a), -jnp.sin(a)], axis=1)
            bases[inputs, outputs] = left, jnp.concatenate([jnp.cos(b), jnp.sin(b)], axis=1).T
        return bases


def _angles(size: int, frequencies: Int[np.ndarray, " n"]) -> Float[Array, "size n"]:
    """Computes 2π p k / size less whole turns, so that float32 is exact enough."""
    turns = jnp.arange(size)[:, None] * jnp.asarray(frequencies)[None] % size
    return turns * (2 * math.pi / size)
