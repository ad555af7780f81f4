"""Sets of layers as text: `all`, `6-11`, `0-3,8`; the first layer is 0."""

import itertools
import re
from collections.abc import Collection

ALL_LAYERS = "all"


def layer_numbers(text: str, layers: int) -> tuple[int, ...] | None:
    """Returns the layers that a text names, ascending; None if it names none, or one that is not below `layers`.

    >>> layer_numbers("0-2,8", 12)
    (0, 1, 2, 8)
    """
    if text == ALL_LAYERS:
        return tuple(range(layers))
    ranges = [re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip()) for part in text.split(",")]
    numbers = [range(int(part[1]), int(part[2] or part[1]) + 1) if part else range(0) for part in ranges]
    chosen = tuple(sorted(set(itertools.chain(*numbers))))
    return chosen if all(numbers) and chosen[-1] < layers else None


def layers_named(numbers: Collection[int], layers: int) -> str:
    """Inverts `layer_numbers`.

    >>> layers_named([0, 1, 2, 3, 8], 12)
    '0-3,8'
    """
    if len(set(numbers)) == layers:
        return ALL_LAYERS
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def layers_without(missing: Collection[int], layers: int) -> str:
    """Returns the text for all layers except these."""
    return layers_named([layer for layer in range(layers) if layer not in missing], layers)
