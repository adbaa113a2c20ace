"""Labels that come late: what the naive choice does to a base rate, and that the default leaves it right."""

import math
import random
import warnings

import pytest
from tests.stream.events_drawn import quiet_settings
from tests.stream.test_join import examples_of

from nearline.events.impression import Event, Feedback, Impression
from nearline.events.wire import decode_event, encode_event
from nearline.stream.join import Join
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import EarlyLabelsWarning, JoinSettings
from nearline.stream.join_state import MemoryJoinState

HOUR, DAY = 3_600_000, 86_400_000


def rate(choices: JoinSettings, events: list[Event], until_ms: int, forget_ms: float = math.inf) -> float:
    """The base rate that somebody has learned at `until_ms` whose rows lose weight with their age."""
    seen = sorted((event for event in events if event.time_ms <= until_ms), key=lambda event: event.time_ms)
    join = Join(choices, route_by_entity({"per-user": "user"}, 1))
    rows = join.push(1, [encode_event(event) for event in seen], MemoryJoinState()).rows[0]
    total = positive = 0.0
    for example in examples_of(rows):
        shown = decode_event(example.impression)
        weight = math.exp(-(until_ms - shown.time_ms) / forget_ms) * example.weight
        total += weight
        positive += weight * example.label
    return positive / total


def clicks(count: int) -> list[Event]:
    """One impression a second; three in ten are answered, within minutes."""
    rng = random.Random(0)  # noqa: S311
    events: list[Event] = []
    for number in range(count):
        events.append(Impression(f"i{number}", number * 1_000, {"user": "u"}))
        if rng.random() < 0.3:
            events.append(Feedback(f"i{number}", number * 1_000 + int(rng.expovariate(1 / 60_000)), 1.0))
    return events


def bookings(count: int) -> list[Event]:
    """A booking an hour, up to 200 days ahead; 37 % are cancelled on some day before, the others known on the day."""
    rng = random.Random(1)  # noqa: S311
    events: list[Event] = []
    for number in range(count):
        booked = number * HOUR
        arrives = booked + rng.randrange(1, 200) * DAY
        events.append(Impression(f"b{number}", booked, {"user": "hotel"}, resolves_ms=arrives))
        if rng.random() < 0.37:
            events.append(Feedback(f"b{number}", rng.randrange(booked, arrives), 1.0))
        else:
            events.append(Feedback(f"b{number}", arrives, 0.0))
    return events


def test_answers_learned_at_once_tilt_a_rate_that_forgets_and_the_default_does_not() -> None:
    events, window = clicks(20_000), HOUR
    naive = quiet_settings(window_ms=window, learn_at="feedback")
    now = 20_000 * 1_000
    assert rate(naive, events, now, forget_ms=window) > 0.3 + 0.1
    assert rate(JoinSettings(window_ms=window), events, now, forget_ms=window) == pytest.approx(
        0.3, abs=0.015
    )


def test_bookings_learned_when_they_resolve_tell_the_right_share_of_cancellations() -> None:
    events, now = bookings(6_000), 100 * DAY
    naive = quiet_settings(window_ms=DAY, learn_at="feedback", without_feedback="skip")
    assert rate(naive, events, now) > 0.37 + 0.1
    assert rate(JoinSettings(window_ms=DAY), events, now) == pytest.approx(0.37, abs=0.04)
    assert rate(JoinSettings(window_ms=DAY), events, 400 * DAY) == pytest.approx(0.37, abs=0.02)


def test_the_naive_choice_warns() -> None:
    with pytest.warns(EarlyLabelsWarning, match='"close" learns both at the same age'):
        JoinSettings(window_ms=HOUR, learn_at="feedback")


def test_the_default_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JoinSettings(window_ms=HOUR)
