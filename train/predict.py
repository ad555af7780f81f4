"""Answers to a whole split, batch by batch, with the examples in their own order."""

from collections.abc import Callable
from typing import Any

import numpy as np

from train.data import Examples
from train.packing import Batch, Plan


def of_split(answer: Callable[[Batch], Any], examples: Examples, plan: Plan) -> np.ndarray:
    """Logits [examples, labels].

    Args:
      answer: from a batch to its logits [micro, rows, slots, labels], as `eval_step` gives them.
      plan: of these examples, without a seed, so that it keeps their order.
    """
    parts = []
    for batch, layout, ids in plan.batches(examples):
        there = ids >= 0
        parts.append(np.asarray(answer(batch))[np.nonzero(there)[0], layout.row[there], layout.slot[there]])
    return np.concatenate(parts)
