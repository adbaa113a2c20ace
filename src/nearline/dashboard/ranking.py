"""The last events -> the request in which an entity was last shown, and why its candidates came out as they did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.dashboard.event_tail import Events
from nearline.errors import DataError
from nearline.events.impression import Impression
from nearline.events.wire import decode_event
from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """One impression of a request, as it was served.

    Attributes
    ----------
    rank : from 1, in the order in which the request's impressions were logged.
    expected : the expected response. linear, std : of the linear predictor.
    """

    rank: int
    impression: Impression
    linear: float
    std: float
    expected: float


def request_of(impression: str) -> str:
    """The request that an impression is of: the service names impressions REQUEST/PLACE, any other is by itself."""
    request, slash, _ = impression.rpartition("/")
    return request if slash else impression


def last_ranking(events: Events, kinds: set[str], name: str, outcome: Outcome) -> tuple[Shown, ...]:
    """The impressions of the last request in which an entity of one of these kinds was shown; none if it was not."""
    for head in reversed(events.impressions):
        if any(head.entities.get(kind) == name for kind in kinds):
            request = request_of(head.id)
            break
    else:
        return ()
    records = {
        head.id: record
        for head, record in zip(events.impressions, events.records, strict=True)
        if request_of(head.id) == request
    }
    shown = [event for record in records.values() if (event := _impression(record)) is not None]
    return tuple(_shown(rank, one, outcome) for rank, one in enumerate(shown, 1))


def _impression(record: bytes) -> Impression | None:
    try:
        event = decode_event(record)
    except DataError:
        return None
    return event if isinstance(event, Impression) else None


def _shown(rank: int, impression: Impression, outcome: Outcome) -> Shown:
    linear, variance = linear_predictor(impression.offset + impression.fixed, impression.contributions)
    expected = expected_response(outcome, np.array([linear]), np.array([variance]))
    return Shown(rank, impression, linear, float(np.sqrt(variance)), float(expected[0]))


def linear_predictor(shared: float, contributions: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Mean and variance of all parts together."""
    mean = shared + sum(mean for mean, _ in contributions.values())
    return mean, sum(variance for _, variance in contributions.values())
