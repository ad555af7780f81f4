"""The methods. Importing this package makes all of them known by name in `adakron_jax.splice.METHODS`."""

from adakron_jax.methods.adakron import AdaKron
from adakron_jax.methods.subset import Full, Head

__all__ = ["AdaKron", "Full", "Head"]
