"""Proofs of reliability: long versions of what `make test` shows in seconds; docs/reliability.md has the figures."""

import sys
from collections import Counter
from collections.abc import Collection, Iterable


def tally(ends: Iterable[tuple[str, str]], good: Collection[str]) -> Counter[str]:
    """Counts how cases ended; prints the first case of each kind that ended badly."""
    counted: Counter[str] = Counter()
    for case, end in ends:
        counted[end] += 1
        if end not in good and counted[end] == 1:
            print(f"{case}: {end}", file=sys.stderr, flush=True)
    return counted
