"""Many adapters on one encoder: every example of a batch is answered by its own."""

from adakron_jax.bank.bank import AdapterBank

__all__ = ["AdapterBank"]
