"""Estimates how long runs train on a GPU that has not run them yet, from matmuls and a stated throughput."""

from collections.abc import Sequence

from adakron_jax.methods import Full, Head
from train import terminal
from train.engine.cache import Cache
from train.grid.cells import Cell, seconds_left

# What `python -m benchmarks.compiled --target h200 --model bert-base` estimated for AdaKron's step, bf16, 64 rows of
# 128 tokens, on 30 November 2026 (docs/compiled.md): 2.63 TFLOP of matmuls in 6.6 ms, which include 513 kernels at
# 2.5 us each, a cost that smaller batches pay too. No H200 has measured it.
KERNEL_SECONDS = 513 * 2.5e-6 / 12  # per layer
FLOPS_PER_SECOND = 2.63e12 / (6.6e-3 - 12 * KERNEL_SECONDS)
LETTERS = 4  # of English text per token
SPECIAL = 2  # tokens of an example besides those of its text
LEAST_HOURS = 0.1  # below which none is printed
ABOUT = (
    f"by an estimate for an H200 in bf16: training alone at {FLOPS_PER_SECOND / 1e12:.0f} TFLOP/s and "
    f"{1e6 * KERNEL_SECONDS:.0f} us per layer and step, at {LETTERS} letters per token (docs/selection.md)"
)


def show_hours(cells: Sequence[Cell], cache: Cache) -> None:
    """Prints how long cells take on a GPU, unless one of them has ended and gives a better estimate."""
    if seconds_left(cells) is None and (known := hours(cells, cache)) >= LEAST_HOURS:
        terminal.say(f"{known:,.1f} GPU hours {ABOUT}")


def hours(cells: Sequence[Cell], cache: Cache) -> float:
    """Returns the hours that the remaining steps take on one H200."""
    encoder, seconds = cache.model.encoder, 0.0
    width, inner, layers = encoder.hidden_size, encoder.intermediate_size, encoder.num_layers
    for cell in (cell for cell in cells if cell.left):
        config = cell.config
        tokens = min(config.max_length, cache.loader.letters(config) / LETTERS + SPECIAL)
        forward = layers * (2 * (4 * width**2 + 2 * width * inner) + 4 * width * tokens)  # matmul FLOPs per token
        # The backward pass goes through activations as well, and with full fine-tuning to kernels too.
        flops = forward * (3 if isinstance(config.method, Full) else 1 if isinstance(config.method, Head) else 2)
        seconds += cell.left * (config.batch_size * tokens * flops / FLOPS_PER_SECOND + layers * KERNEL_SECONDS)
    return seconds / 3600
