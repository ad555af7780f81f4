"""`python -m adakron_jax COMMAND`."""

from adakron_jax.cli.main import entry

if __name__ == "__main__":
    entry()
