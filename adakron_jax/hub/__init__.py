"""Locating models and adapters; fetching and pushing adapters, and their model cards."""

from adakron_jax.hub.models import locate as locate
