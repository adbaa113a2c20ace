"""A stream of events of which it is known beforehand what the join makes of each, in whatever order two writers write.

Event times are in order but for the few that come late on purpose. As long as the writers are less than the allowed
lateness apart, the fate of an event does not depend on which of them is ahead.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from nearline.events.impression import Feedback, Impression
from nearline.events.wire import encode_event
from nearline.stream.join_settings import JoinSettings

Fate: TypeAlias = Literal["learned", "duplicate", "late", "dead"]
GAP_MS, BEGIN_MS = 10, 1_700_000_000_000
USERS, ITEMS = 400, 150
JOIN = JoinSettings(window_ms=2_000, allowed_lateness_ms=10_000, correct_within_ms=3_000, remember_ms=6_000)
_OLD_MS = 60_000
"""How long after its time an impression is written that is to be late."""


@dataclass(frozen=True, order=True)
class Fated:
    """A record, when it is written in event time, and how it ends."""

    at_ms: int
    record: bytes
    fate: Fate


@cache
def fated_events(count: int, seed: int = 0) -> tuple[Fated, ...]:
    """So many records in the order in which they are written."""
    rng = random.Random(seed)  # noqa: S311
    found = [fated for number in range(count) for fated in _life(rng, number)]
    found.sort(key=lambda fated: fated.at_ms)
    return tuple(found[:count])


def fates(events: Sequence[Fated]) -> Counter[Fate]:
    """How many end in which way."""
    return Counter(event.fate for event in events)


def after_ms(count: int) -> int:
    """A time after everything of so many events."""
    return BEGIN_MS + 10 * count * GAP_MS


def _life(rng: random.Random, number: int) -> Iterator[Fated]:
    """An impression and what comes of it."""
    time_ms = BEGIN_MS + number * GAP_MS
    name, kind = f"i{number}", rng.random()
    if kind < 0.01:
        yield Fated(time_ms, b"no event" + bytes([number % 256]), "dead")
    elif kind < 0.02:
        yield Fated(time_ms, encode_event(Feedback("of nothing " + name, time_ms, 1.0)), "dead")
    elif kind < 0.04 and time_ms > BEGIN_MS + JOIN.allowed_lateness_ms:
        yield Fated(time_ms, encode_event(_impression(rng, "old " + name, time_ms - _OLD_MS)), "late")
    shown = encode_event(_impression(rng, name, time_ms))
    yield Fated(time_ms, shown, "learned")
    if rng.random() < 0.02:
        yield Fated(time_ms + rng.randrange(500), shown, "duplicate")
    close_ms = time_ms + JOIN.window_ms
    answered = rng.random()
    if answered < 0.6:
        answered_ms = min(time_ms + int(rng.expovariate(1 / 500)), close_ms)
        answer = encode_event(Feedback(name, answered_ms, float(rng.random() < 0.7)))
        yield Fated(answered_ms, answer, "learned")
        if rng.random() < 0.02:
            yield Fated(answered_ms + rng.randrange(100), answer, "duplicate")
    elif answered < 0.65:  # learned as 0 at the close, and corrected
        answered_ms = close_ms + rng.randint(1, JOIN.correct_within_ms)
        yield Fated(answered_ms, encode_event(Feedback(name, answered_ms, 1.0)), "learned")
    elif answered < 0.66:
        answered_ms = close_ms + rng.randint(JOIN.correct_within_ms + 1, JOIN.kept_ms)
        yield Fated(answered_ms, encode_event(Feedback(name, answered_ms, 1.0)), "late")


def _impression(rng: random.Random, name: str, time_ms: int) -> Impression:
    entities = {"user": f"u{int(rng.paretovariate(0.6)) % USERS}", "item": f"m{rng.randrange(ITEMS)}"}
    bags = {bag: {f"x{i}": rng.gauss(0, 1) for i in range(3)} for bag in ("f", "g")}
    served = {"per-user": (rng.gauss(0, 0.3), 0.2), "per-item": (rng.gauss(0, 0.3), 0.1)}
    return Impression(name, time_ms, entities, bags, served, generation=1)
