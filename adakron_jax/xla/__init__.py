"""Settings that XLA is given: precision, one executable per shape, caches and memory."""
