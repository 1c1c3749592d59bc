"""Telemetry of `openai-compat serve`: `--metrics` and `--otel`."""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

import click

from openai_compat import Hooks
from openai_compat.api.routing import Api
from openai_compat.package import needs

from .._instruments import SHARED_FOLDER
from .._serving.supervisor import LISTENER
from .serve_options import ServeOptions

SERVICE = "openai-compat"
"""Service name if OTEL_SERVICE_NAME is not set."""


def make_observers(options: ServeOptions) -> tuple[list[Hooks], list[Api]]:
    """Return the hooks that the options select, and the APIs that serve them. Raises ImportError for a missing package."""
    hooks, apis = list[Hooks](), list[Api]()
    if options.otel:
        from ..telemetry import OpenTelemetry  # noqa: PLC0415  (only this needs the package)

        # The parent of workers builds the server only to check its settings.
        if (options.workers == 1 and not options.reload) or LISTENER in os.environ:
            _set_up_sdk()
        hooks.append(OpenTelemetry())
    if options.metrics or options.public_metrics:
        from ..prometheus import Prometheus  # noqa: PLC0415

        metrics = Prometheus()
        hooks.append(metrics)
        apis.append(metrics.api)
    return hooks, apis


def _set_up_sdk() -> None:
    """Set up OpenTelemetry's SDK from its environment variables; the default exporter is OTLP over HTTP."""
    with needs("--otel"):
        from opentelemetry import metrics, trace  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", SERVICE)
    # Distinguishes the workers, since each has its own counters.
    resource = Resource.create({"service.instance.id": f"{socket.gethostname()}-{uuid.uuid4()}"})
    # The hook flushes in bounded time; at exit the SDK would wait for all retries of an unreachable collector.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    for exporter in _make_exporters("traces"):
        tracers.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(tracers)
    readers = [PeriodicExportingMetricReader(exporter) for exporter in _make_exporters("metrics")]
    metrics.set_meter_provider(MeterProvider(readers, resource, shutdown_on_exit=False))


def _make_exporters(signal: str) -> Iterator[Any]:
    """Make the exporters that OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER names, from their entry points."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    protocol = "otlp_proto_grpc" if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" else "otlp_proto_http"
    for name in os.environ.get(variable, "otlp").split(","):
        wanted = protocol if name.strip() == "otlp" else name.strip()
        if wanted in ("", "none"):
            continue
        found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=wanted))
        if not found:
            raise click.UsageError(
                f"{variable} names '{name}', but no package that is installed brings such an exporter."
            )
        yield found[0].load()()


@contextmanager
def shared_metrics_folder(options: ServeOptions) -> Generator[None]:
    """Provide a folder for the metrics of all workers while they run."""
    if not (options.metrics or options.public_metrics) or os.environ.get(SHARED_FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="openai-compat-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        yield
