"""`openai-compat serve --otel` sends traces and metrics to a collector, and flushes them at the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.adapters.served import serve
from tests.requirements import requirement


class Collector:
    """Receives OTLP over HTTP."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        taken = self.taken

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> set[str]:
        messages = [ExportTraceServiceRequest.FromString(body) for path, body in self.taken if path == "/v1/traces"]
        return {
            span.name
            for message in messages
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    @property
    def metrics(self) -> set[str]:
        messages = [ExportMetricsServiceRequest.FromString(body) for path, body in self.taken if path == "/v1/metrics"]
        return {
            metric.name
            for message in messages
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def resource(self) -> dict[str, str]:
        path, body = self.taken[0]
        kind = ExportTraceServiceRequest if path == "/v1/traces" else ExportMetricsServiceRequest
        message = kind.FromString(body)
        first = message.resource_spans[0] if path == "/v1/traces" else message.resource_metrics[0]
        return {pair.key: pair.value.string_value for pair in first.resource.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@requirement("telemetry.export")
def test_traces_and_metrics_reach_a_collector_before_the_server_has_ended(collector: Collector) -> None:
    with serve("operated_agents:agents", "--otel", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as served:
        served.ask("pid")
        served.signal(signal.SIGTERM)
        assert served.ended(10) == 0
    assert {"POST /v1/chat/completions", "invoke_agent pid"} <= collector.spans
    assert {"gen_ai.invoke_agent.duration", "http.server.request.duration"} <= collector.metrics
    assert collector.resource["service.name"] == "openai-compat"
    assert collector.resource["service.instance.id"]


@requirement("telemetry.export")
def test_a_collector_that_is_away_changes_no_answer() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with serve("operated_agents:agents", "--otel", env=env) as served:
        assert {served.ask("pid").status for _ in range(3)} == {200}
        served.signal(signal.SIGTERM)
        assert served.ended(15) == 0
