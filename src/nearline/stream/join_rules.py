"""What the join refuses and why, and which of two answers counts."""

from collections.abc import Callable, Mapping

from nearline.events.impression import MAX_NAME_BYTES
from nearline.stream.join_state import Answer, Orphan

NO_IMPRESSION = "its impression did not come in time, or is forgotten"
NO_TIME = "time_ms: expected milliseconds since 1970, before the year 10000"
NO_ID = f"id of the impression: expected 1 to {MAX_NAME_BYTES} bytes of UTF-8"
NO_NUMBER = "label, weight: expected finite numbers, the weight 0 or more"
TOO_EARLY = "it is older than its impression by more than the attribution window"


def is_name(name: str) -> bool:
    """Whether an impression may have this id."""
    return 0 < len(name) <= MAX_NAME_BYTES and (name.isascii() or len(name.encode()) <= MAX_NAME_BYTES)


def answer_of(orphan: Orphan) -> tuple[Answer, int]:
    """What feedback that waits for its impression is ordered by."""
    return orphan.answer, orphan.position


def _is_first(new: Answer, old: Answer) -> bool:
    return new < old


def _is_last(new: Answer, old: Answer) -> bool:
    return new > old


def _is_higher(new: Answer, old: Answer) -> bool:
    return new[2] > old[2] if new[2] != old[2] else new < old


WINS: Mapping[str, Callable[[Answer, Answer], bool]] = {
    "first": _is_first,
    "last": _is_last,
    "max": _is_higher,
}
"""By policy: whether a new answer counts in place of an old one."""
