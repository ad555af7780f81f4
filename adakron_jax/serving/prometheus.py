"""The server's metrics for Prometheus."""

import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adakron_jax.serving.engine import Engine

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Metrics of one server, in a separate registry.

    Attributes:
      requests: number of requests, by endpoint and status.
      seconds: duration of a request, by endpoint.
    """

    def __init__(self, engine: Engine):
        self.registry = CollectorRegistry()
        self.requests = Counter("adakron_requests", "Requests answered", ["endpoint", "status"], registry=self.registry)
        self.seconds = Histogram(
            "adakron_request_seconds",
            "Seconds from a request to its answer",
            ["endpoint"],
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )
        bank, folders = engine.bank, engine.folders
        for name, text, read in (
            ("batches", "Batches computed", lambda: bank.totals.batches),
            ("batch_examples", "Texts in all batches", lambda: bank.totals.examples),
            ("batch_tokens", "Tokens in all batches", lambda: bank.totals.tokens),
            ("batch_positions", "Tokens and padding in all batches", lambda: bank.totals.positions),
            ("batch_fill", "Share of all positions that were tokens", lambda: bank.totals.fill),
            ("queue", "Texts that wait", lambda: engine.waiting),
            ("adapters", "Adapters served", lambda: len(folders.entries)),
            ("refused_adapters", "Adapters that cannot be served", lambda: len(folders.refused)),
            ("resident_adapters", "Adapters in memory", lambda: len(bank.members)),
            ("compilations", "Programs compiled", lambda: bank.compilations),
        ):
            Gauge(f"adakron_{name}", text, registry=self.registry).set_function(read)

    def page(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts and times requests by endpoint; `unknown` stands for all other paths."""

    def __init__(self, app: Any, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun = time.perf_counter()

        async def count(message: Any) -> None:
            if message["type"] == "http.response.start":
                endpoint = getattr(scope.get("route"), "path", "unknown")
                self.metrics.requests.labels(endpoint, message["status"]).inc()
                self.metrics.seconds.labels(endpoint).observe(time.perf_counter() - begun)
            await send(message)

        return await self.app(scope, receive, count)
