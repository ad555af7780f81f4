"""`python -m adakron_jax COMMAND`."""

import sys

from adakron_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
