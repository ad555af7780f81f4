"""Proofs of reliability, each a case that is repeated many times: the exit code is 1 if one went wrong.

python -m benchmarks.reliability kills --times 50
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PROOFS = ("kills", "races", "damage", "refused", "loaders")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=PROOFS, help="followed by its own flags: PROOF --help")
    name = parser.parse_args(argv[:1]).proof
    module = importlib.import_module(f"benchmarks.reliability.{name}")  # only this one: some fork, and others start JAX
    parser = argparse.ArgumentParser(
        f"benchmarks.reliability {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_flags(parser)
    given, begun = parser.parse_args(argv[1:]), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="adakron-jax-reliability-") as scratch:
        try:
            good = module.main(given, Path(scratch))
        except ValueError as error:
            print(f"reliability: {error}", file=sys.stderr)
            return 2
    print(f"{time.monotonic() - begun:.0f} s")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
