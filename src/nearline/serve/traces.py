"""Requests as spans of OpenTelemetry, sent by OTLP over HTTP.

Where they go, how they are sampled and what the service is called is said by OpenTelemetry's own environment variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME``); a trace that a request brings with it
(W3C ``traceparent``) is continued.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from nearline.errors import MissingExtraError
from nearline.serve.asgi import App

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ModuleNotFoundError as error:
    raise MissingExtraError("traces of requests", "traces") from error

_NOT_TRACED = "/health/,/metrics$"


@contextmanager
def traced(app: App) -> Iterator[App]:
    """The application with a span for each request, but for health and metrics; at the end what waits is sent."""
    resource = Resource({SERVICE_NAME: "nearline"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield OpenTelemetryMiddleware(
            app, excluded_urls=_NOT_TRACED, tracer_provider=provider, exclude_spans=["receive", "send"]
        )
    finally:
        provider.shutdown()
