"""The newest dead letters of a deployment: those of the join, and those of each partition of a generation."""

from dataclasses import dataclass
from typing import Any, Final, final

from nearline.dashboard.deployment import Deployment
from nearline.events.dead_letters import DeadLetter, decode_dead_letter, describe_letter
from nearline.stream.learner import DEAD_KEY, PROGRESS_KEY, progress_of

NEWEST: Final = 50
_DIGITS: Final = 4
_STRETCHES: Final = 10
"""So many stretches of 10^4 positions are looked through, from the last row learned backwards."""
EXCERPT: Final = 600


@final
@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: `place` is what its position is one of; of its record the first 600 characters."""

    place: str
    position: int
    time_ms: int
    reason: str
    is_event: bool
    excerpt: str
    is_cut: bool


def newest_letters(deployment: Deployment, generation: int) -> list[Letter]:
    """At most 50 of the join and of each partition, the newest first.

    Of a partition those of its last 100,000 rows, at most.
    """
    found = [_letter("log", one) for one in deployment.rows.newest_dead_letters(NEWEST)]
    for partition in range(deployment.store.partitions):
        mine = _of_partition(deployment, generation, partition)
        found += [_letter(f"partition {partition}", one) for one in mine]
    return sorted(found, key=lambda one: (one.time_ms, one.position), reverse=True)


def _of_partition(deployment: Deployment, generation: int, partition: int) -> list[DeadLetter]:
    store = deployment.store
    last = progress_of(store.state(generation, partition, PROGRESS_KEY)).position // 10**_DIGITS
    found: list[DeadLetter] = []
    for stretch in range(last, max(-1, last - _STRETCHES), -1):
        prefix = DEAD_KEY + b"%020d" % (stretch * 10**_DIGITS)
        values = [value for _, value in store.states(generation, partition, prefix[:-_DIGITS])]
        found += [decode_dead_letter(value) for value in reversed(values)]
        if len(found) >= NEWEST:
            break
    return found[:NEWEST]


def _letter(place: str, letter: DeadLetter) -> Letter:
    document: dict[str, Any] = describe_letter(letter)
    is_event = document["event"] is not None
    text: str = document["event"] if is_event else document["record_hex"]
    return Letter(
        place, letter.position, letter.time_ms, letter.reason, is_event, text[:EXCERPT], len(text) > EXCERPT
    )
