"""Many adapters on one encoder: every example of a batch meets the adapter of its name."""

from adakron_jax.bank.bank import AdapterBank

__all__ = ["AdapterBank"]
