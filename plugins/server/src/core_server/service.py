"""What all requests of a server share: its models, its limits, and how many are in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from core_server.failures import RequestFailedError
from core_server.metrics import Metrics
from core_server.models import Models
from core_server.settings import Settings

# Long texts are tokenized beside the event loop, by few threads: tokenizers have their own.
_TOKENIZING_THREADS = 2


class Service:
    """One server's state.

    Attributes:
        draining: Whether it ends: what was accepted is answered, and connections are closed.
    """

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self.settings = settings
        self.models = models
        self.metrics = metrics
        self.draining = False
        self.in_flight = 0
        self.tokenizing = ThreadPoolExecutor(_TOKENIZING_THREADS, "core-serve-tokenize")
        metrics.in_flight.set_function(lambda: float(self.in_flight))

    def start(self) -> None:
        """Let the models compute, with results delivered on the running event loop."""
        loop = asyncio.get_running_loop()
        for served in self.models:
            served.dispatcher.start(loop)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A request in flight.

        Raises:
            RequestFailedError: There are too many already (429), before its body is read.
        """
        first = self.models.served[0].dispatcher
        full = all(served.dispatcher.full for served in self.models)
        if self.in_flight >= self.settings.max_concurrent or full:
            raise RequestFailedError(
                429,
                f"{self.in_flight} requests are being served, and no more than "
                f"{self.settings.max_concurrent} are accepted. Try again later."
                if not full
                else "The queues of all models are full. Try again later.",
                code="rate_limit_exceeded",
                retry_after=first.retry_after,
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @property
    def ready(self) -> bool:
        """Whether a request would be accepted and computed now."""
        return not self.draining and all(served.dispatcher.up for served in self.models)

    def close(self) -> None:
        """Finish what waits, and free everything."""
        self.models.close()
        self.tokenizing.shutdown()
