"""What XLA is told: precision, executables by shape, caches and memory."""
