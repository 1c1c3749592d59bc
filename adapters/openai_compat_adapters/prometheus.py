"""Metrics for Prometheus: a hook that collects them, and the API that serves them. Needs the extra `prometheus`.

    metrics = Prometheus()
    server = Server(agents, hooks=[metrics], apis=[metrics.api])    # GET /metrics, with a key

`openai-compat serve --metrics` does this, for several workers too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from openai_compat.api.exchange import Exchange
from openai_compat.api.routing import Api, Operation, Route
from openai_compat.api.services import Services
from openai_compat.package import needs

from ._instruments import INSTRUMENTS, SHARED_FOLDER, Instrument, TurnMetrics
from ._serving.supervisor import WORKER

with needs("openai_compat_adapters.prometheus"):
    import prometheus_client
    import prometheus_client.multiprocess
    import prometheus_client.values
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ("Prometheus",)


class Prometheus(TurnMetrics):
    """Measures turns and requests.

    If `PROMETHEUS_MULTIPROC_DIR` names a folder, each process that uses it reports the sum of all. Files are named by a
    worker number, not by a process id, so that a worker that replaces a dead one continues its files: with process ids,
    each restart would add files for ever.

    Args:
        worker: the number of this process, from 0; by default the one that `openai-compat serve --workers` assigns.

    Attributes:
        api: serves `GET /metrics`; for `Server(apis=[…])`.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        folder = os.environ.get(SHARED_FOLDER)
        if folder is not None:
            _use_shared_files(Path(folder), int(os.environ.get(WORKER, "0")) if worker is None else worker)
        self._shared = folder is not None
        self._registry = CollectorRegistry()
        self._metrics: dict[Instrument, Any] = {one: _make_metric(one, self._registry) for one in INSTRUMENTS}
        operation = Operation(
            self._serve_metrics, "getMetrics", "Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}
        )
        self.api = Api(name="metrics", routes=[Route("/metrics", {"GET": operation}, group="metrics")])

    def record(self, instrument: Instrument, value: float, attributes: tuple[str, ...]) -> None:
        """Add a value to the metrics of `GET /metrics`."""
        series = self._metrics[instrument].labels(*attributes)
        if instrument.kind == "histogram":
            series.observe(value)
        else:
            series.inc(value)

    async def _serve_metrics(self, services: Services, exchange: Exchange) -> None:
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            prometheus_client.multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # of the package
        body = prometheus_client.generate_latest(registry)
        await exchange.answer(200, body, ("Content-Type", CONTENT_TYPE_LATEST))


def _use_shared_files(folder: Path, worker: int) -> None:
    """Store the metrics of this process in files with its number, beside those of the other processes."""
    for gauge in folder.glob(f"gauge_*_{worker}.db"):
        gauge.unlink()  # runs of a killed worker are over
    values: Any = prometheus_client.values
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: worker)


def _make_metric(instrument: Instrument, registry: CollectorRegistry) -> Any:
    """Make the metric, with the name and labels that OpenTelemetry's exporter for Prometheus would use."""
    name = instrument.name.replace(".", "_") + ("_seconds" if instrument.unit == "s" else "")
    labels = [attribute.replace(".", "_") for attribute in instrument.attributes]
    if instrument.kind == "histogram":
        buckets = instrument.boundaries
        return Histogram(name, instrument.description, labels, registry=registry, buckets=buckets)
    if instrument.kind == "counter":
        return Counter(name, instrument.description, labels, registry=registry)
    return Gauge(name, instrument.description, labels, registry=registry, multiprocess_mode="sum")
