"""What Prometheus reads of the server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics", "ModelMetrics"]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "core_requests", "Answers, by route and status.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "core_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("route", "status"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "core_requests_in_flight", "Requests that were accepted.", registry=registry
        )
        self.refused = Counter(
            "core_refused", "Requests without a result, by reason.", ("reason",), registry=registry
        )
        model = ("model",)
        self.queue_inputs = Gauge(
            "core_queue_inputs", "Inputs that wait.", model, registry=registry
        )
        self.queue_tokens = Gauge(
            "core_queue_tokens", "Tokens of the inputs that wait.", model, registry=registry
        )
        self.queue_seconds = Histogram(
            "core_queue_seconds",
            "From a request's arrival to its first batch.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_inputs = Histogram(
            "core_batch_inputs",
            "Inputs computed together.",
            model,
            buckets=_COUNTS,
            registry=registry,
        )
        self.batch_fill = Histogram(
            "core_batch_fill_ratio",
            "Tokens computed together, as a share of the most.",
            model,
            buckets=_SHARES,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "core_batch_seconds",
            "Time to compute a batch.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "core_tokens", "Tokens computed, padding left out.", model, registry=registry
        )
        self.padding = Counter(
            "core_padding_tokens",
            "Tokens of padding; its share is this over this and core_tokens_total.",
            model,
            registry=registry,
        )
        self.deaths = Counter(
            "core_backend_failures", "How often the backend stopped.", model, registry=registry
        )
        self.restarts = Counter(
            "core_backend_restarts", "How often it was started again.", model, registry=registry
        )
        self.up = Gauge("core_backend_up", "1 while it works.", model, registry=registry)

    def page(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


class ModelMetrics:
    """Those of one model, the names of its labels looked up once."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._queue_inputs = metrics.queue_inputs.labels(model)
        self._queue_tokens = metrics.queue_tokens.labels(model)
        self._queue_seconds = metrics.queue_seconds.labels(model)
        self._batch_inputs = metrics.batch_inputs.labels(model)
        self._batch_fill = metrics.batch_fill.labels(model)
        self._batch_seconds = metrics.batch_seconds.labels(model)
        self._tokens = metrics.tokens.labels(model)
        self._padding = metrics.padding.labels(model)
        self._deaths = metrics.deaths.labels(model)
        self._restarts = metrics.restarts.labels(model)

    def queue(self, inputs: int, tokens: int) -> None:
        """What waits now."""
        self._queue_inputs.set(inputs)
        self._queue_tokens.set(tokens)

    def waited(self, seconds: float) -> None:
        """How long a request waited for its first batch."""
        self._queue_seconds.observe(seconds)

    def batch(self, inputs: int, tokens: int, padding: int, fill: float, seconds: float) -> None:
        """A batch was computed."""
        self._batch_inputs.observe(inputs)
        self._batch_fill.observe(fill)
        self._batch_seconds.observe(seconds)
        self._tokens.inc(tokens)
        self._padding.inc(padding)

    def died(self) -> None:
        """The backend stopped."""
        self._deaths.inc()

    def restarted(self) -> None:
        """It works again."""
        self._restarts.inc()
