"""The shapes of the bank's batches: one example per row, since each example has its own adapter."""

from adakron_jax.data.batches import Shapes

SHORTEST = 16  # tokens of the shortest row
PER_OCTAVE = 4  # row lengths between one and its double; a sentence's row then has a tenth of padding
POSITIONS = 1024  # tokens and padding of the largest batch, unless one row has more
COPIES = (4, 8, 16, 32, 64)  # numbers of adapters that read one text at once


def shapes(max_length: int) -> Shapes:
    """Returns all shapes for examples of at most `max_length` tokens: few, since a server compiles all at its start.

    For each row length there are the largest batch, a quarter of it, and a single row.
    """
    lengths = [SHORTEST]
    while lengths[-1] < max_length:
        octave = 1 << (lengths[-1].bit_length() - 1)
        lengths.append(lengths[-1] + octave // PER_OCTAVE)
    most = {length: max(1, POSITIONS // length) for length in lengths}
    return Shapes({length: sorted({1, max(1, rows // 4), rows}) for length, rows in most.items()}, packed=False)
