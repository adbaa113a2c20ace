"""How a worker stands -> samples of the metrics."""

from nearline.observe import metrics
from nearline.observe.metrics import Sample
from nearline.stream.worker import Standing


def measured(standing: Standing, now_ms: int) -> list[Sample]:
    """What there is to measure of a worker at a time; events only of the one that joins."""
    return [*_of_events(standing), *_of_rows(standing), *_of_process(standing, now_ms)]


def freshness_seconds(standing: Standing, now_ms: int) -> float | None:
    """Time since the last row that was taken, None before the first."""
    return None if standing.learned_ms < 0 else (now_ms - standing.learned_ms) / 1000


def _of_events(standing: Standing) -> list[Sample]:
    joined = standing.joined
    if joined is None:
        return []
    return [
        *(Sample(metrics.EVENTS, getattr(joined, fate), fate) for fate in metrics.EVENTS.values),
        Sample(metrics.EVENTS_WAITING, joined.waiting),
        Sample(metrics.LAG_EVENTS, standing.events_left),
    ]


def _of_rows(standing: Standing) -> list[Sample]:
    learned = standing.learned
    return [
        Sample(metrics.LAG_ROWS, standing.rows_left),
        *(Sample(metrics.ROWS, getattr(learned, fate), fate) for fate in metrics.ROWS.values),
        Sample(metrics.ROWS_WAITING, learned.waiting),
        Sample(metrics.MINI_BATCHES, learned.batches),
    ]


def _of_process(standing: Standing, now_ms: int) -> list[Sample]:
    fresh = freshness_seconds(standing, now_ms)
    return [
        *([] if fresh is None else [Sample(metrics.FRESHNESS, fresh)]),
        Sample(metrics.TURN, standing.turn_seconds, count=standing.turns),
        Sample(metrics.GENERATION, standing.generation),
    ]
