"""Records the spans of a turn in memory: those of the server and of the framework. Needs OpenTelemetry's SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from openai_compat import Server
from openai_compat_adapters.client import sync_openai
from openai_compat_adapters.telemetry import OpenTelemetry


class Traces:
    """The spans sent to a tracer provider."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def ask(self, agent: Any, text: str, *, stream: bool) -> list[tuple[str, ...]]:
        """Ask the agent behind a server; returns the names of its spans, each with the names of its ancestors, nearest first."""
        self._exporter.clear()
        server = Server(agent, hooks=[OpenTelemetry(tracer_provider=self.provider)])
        with sync_openai(server) as client:
            answer: Any = client.chat.completions.create(
                model="agent", messages=[{"role": "user", "content": text}], stream=stream
            )
            if stream:
                for _ in answer:
                    pass
        spans = {span.context.span_id: span for span in self._exporter.get_finished_spans() if span.context is not None}
        return [(span.name, *_above(span, spans)) for span in spans.values()]


def _above(span: ReadableSpan, spans: dict[int, ReadableSpan]) -> Iterator[str]:
    while span.parent is not None and span.parent.span_id in spans:
        span = spans[span.parent.span_id]
        yield span.name
