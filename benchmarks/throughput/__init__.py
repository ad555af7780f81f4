"""Training speed over real data, ours and our peers', in turn on one machine: `python -m benchmarks.throughput`."""
