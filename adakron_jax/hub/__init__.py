"""Where a model or an adapter is; fetching and pushing adapters, and their model cards."""

from adakron_jax.hub.models import locate as locate
