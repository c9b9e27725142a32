"""Requests as OpenTelemetry spans, where that is installed and asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from core.errors import UnsupportedOperation


class Spans:
    """Opens a span for each request, below the one that the client's headers name.

    Raises:
        UnsupportedOperation: opentelemetry-api is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError as error:
            raise UnsupportedOperation(
                "--opentelemetry needs the packages of OpenTelemetry: `pip install "
                "'core-server[opentelemetry]' opentelemetry-distro`, then start the server with "
                "`opentelemetry-instrument core serve ...`."
            ) from error
        self._extract = propagate.extract
        self._trace = trace
        self._tracer = trace.get_tracer("core_server")

    @contextmanager
    def request(self, name: str, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """The span of one request; what the caller puts into the mapping becomes its attributes."""
        attributes: dict[str, Any] = {}
        with self._tracer.start_as_current_span(
            name, context=self._extract(dict(headers)), kind=self._trace.SpanKind.SERVER
        ) as span:
            try:
                yield attributes
            finally:
                span.set_attributes(attributes)
                if attributes.get("http.response.status_code", 200) >= 500:
                    span.set_status(self._trace.StatusCode.ERROR)
