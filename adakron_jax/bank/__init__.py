"""Many adapters on one encoder: each example of a batch is computed with the adapter that its request names."""

from adakron_jax.bank.bank import AdapterBank

__all__ = ["AdapterBank"]
