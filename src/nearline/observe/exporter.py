"""Samples -> Prometheus, over HTTP: measured when somebody asks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TypeAlias, final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from nearline.errors import ConfigError
from nearline.observe.metrics import Metric, Sample

Measure: TypeAlias = Callable[[], Sequence[Sample]]
"""What is measured now; those of one metric side by side. It is called from another thread."""

_Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | SummaryMetricFamily | HistogramMetricFamily


@final
class Exporter(Collector):
    """Gives Prometheus what `measure` returns."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def collect(self) -> Iterable[_Family]:
        """The present numbers of every metric that has any."""
        for metric, samples in groupby(self._measure(), key=lambda sample: sample.metric):
            yield _family(metric, list(samples))


@contextmanager
def exporting(measure: Measure, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Answer Prometheus at http://HOST:PORT/metrics while the block runs; yields the port, 0 is any free one.

    Raises a `ConfigError` if the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(Exporter(measure))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"--metrics-port: {host}:{port} cannot be had: {error.strerror}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _family(metric: Metric, samples: list[Sample]) -> _Family:
    labels = [] if metric.label is None else [metric.label]
    match metric.kind:
        case "summary":
            summary = SummaryMetricFamily(metric.name, metric.meaning)
            summary.add_metric([], samples[0].count, samples[0].value)
            return summary
        case "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.meaning)
            bounds = [*map(str, metric.buckets), "+Inf"]
            histogram.add_metric([], list(zip(bounds, samples[0].up_to, strict=True)), samples[0].value)
            return histogram
        case "counter":
            family: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
                metric.name, metric.meaning, labels=labels
            )
        case _:
            family = GaugeMetricFamily(metric.name, metric.meaning, labels=labels)
    for sample in samples:
        family.add_metric([] if sample.label_value is None else [sample.label_value], sample.value)
    return family
