"""How a service does -> samples of metrics, as Prometheus reads them."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from nearline.observe import metrics
from nearline.observe.exporter import Exporter
from nearline.observe.metrics import Sample
from nearline.serve.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


def exposition(service: Service) -> bytes:
    """The present numbers in Prometheus' own format."""
    registry = CollectorRegistry()
    registry.register(Exporter(lambda: list(samples(service))))
    return generate_latest(registry)


def samples(service: Service) -> Iterator[Sample]:
    """What is measured now, of all models together."""
    for result, count in service.results.items():
        yield Sample(metrics.REQUESTS, count, result)
    total = sum(service.buckets)
    yield Sample(metrics.REQUEST_SECONDS, service.seconds, None, total, tuple(accumulate(service.buckets)))
    scorers = service.models.values()
    commits = [scorer.commit for scorer in scorers]
    yield Sample(metrics.LOG_WAITING, sum(one.waiting for one in commits))
    yield Sample(
        metrics.LOG_APPEND,
        sum(one.append_seconds for one in commits),
        None,
        sum(one.appends for one in commits),
    )
    yield Sample(metrics.LOG_EVENTS, sum(one.appended for one in commits))
    effects = [effect for scorer in scorers for effect in scorer.serving.beliefs.effects]
    yield Sample(metrics.BELIEFS, sum(effect.hits for effect in effects), "kept")
    yield Sample(metrics.BELIEFS, sum(effect.misses for effect in effects), "read")
    yield Sample(metrics.KEPT_CANDIDATES, sum(scorer.candidates for scorer in scorers))
