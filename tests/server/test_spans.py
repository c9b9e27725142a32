"""Requests as spans: a tracer provider of OpenTelemetry's interface that keeps what it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.util._once import Once

from tests.server.conftest import running, wait_for

_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Kept(trace.NonRecordingSpan):
    def __init__(self, name: str, parent: trace.SpanContext) -> None:
        super().__init__(parent)
        self.name, self.parent = name, parent
        self.attributes: dict[str, Any] = {}
        self.ended = False

    def set_attributes(self, attributes: Any) -> None:
        self.attributes |= attributes

    def end(self, end_time: int | None = None) -> None:
        self.ended = True


class Keeping(trace.TracerProvider, trace.NoOpTracer):
    """A provider and its only tracer."""

    def __init__(self) -> None:
        self.spans: list[Kept] = []

    def get_tracer(self, *arguments: Any, **options: Any) -> trace.Tracer:
        return self

    def start_as_current_span(  # type: ignore[override]
        self, name: str, context: Any = None, **options: Any
    ) -> Any:
        span = Kept(name, trace.get_current_span(context).get_span_context())
        self.spans.append(span)
        return trace.use_span(span, end_on_exit=True)


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    """The provider of the process, for one test."""
    provider = Keeping()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    trace.set_tracer_provider(provider)
    return provider


def test_every_request_is_a_span_below_the_clients(
    keeping: Keeping, embedding_folder: Path
) -> None:
    with running(embedding_folder, opentelemetry=True) as server:
        headers = {"traceparent": f"00-{_TRACE}-00f067aa0ba902b7-01"}
        server.post("/embed", {"inputs": ["confidential", "words"]}, headers=headers)
        wait_for(lambda: any(one.ended and one.name == "POST /embed" for one in keeping.spans))
    (span,) = (one for one in keeping.spans if one.name == "POST /embed")
    assert f"{span.parent.trace_id:032x}" == _TRACE
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["core.inputs"] == 2
    assert "confidential" not in str(span.attributes)
