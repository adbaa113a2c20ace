"""What the join remembers between events: impressions, feedback that waits, and how far it is."""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol, TypeAlias, final

from msgspec import Struct

from nearline.stream.joined import JoinCounts

Answer: TypeAlias = tuple[int, str, float, float]
"""A feedback: time in ms, its own id or "", label, weight. Compares by time first."""


@final
class Shown(Struct, gc=False):
    """An impression that is open, or closed and not forgotten.

    Attributes
    ----------
    close_ms, id : what it is filed under.
    time_ms : when it was shown.
    weight : its own, without that of the feedback.
    partitions : the partitions it goes to.
    record : its bytes as they came.
    answer : the feedback that counts so far.
    """

    close_ms: int
    id: str
    time_ms: int
    weight: float
    partitions: tuple[int, ...]
    record: bytes
    answer: Answer | None = None


@final
class Orphan(Struct, gc=False):
    """Feedback whose impression has not come, from position `position` of the log; given up after `due_ms`."""

    due_ms: int
    impression: str
    position: int
    answer: Answer
    record: bytes
    is_settled: bool = False


@final
class Late(Struct, gc=False):
    """Feedback from after the close of its impression, from position `position` of the log, not yet due."""

    impression: str
    position: int
    answer: Answer


class Turn(IntEnum):
    """What falls due, in the order in which it is done at the same time."""

    CLOSE = 0
    LATE = 1
    GIVE_UP = 2
    FORGET = 3


Held: TypeAlias = Shown | list[Orphan]
Payload: TypeAlias = Shown | Late | Orphan | bool
Due: TypeAlias = tuple[int, Turn, str, tuple[Answer, int] | None, Payload]
"""Time, what, id of the impression, order among the same of these, and the thing itself.

What is forgotten comes as a bool: whether it has an answer. Its close is the time minus what is kept.
"""


@final
class Progress(Struct, frozen=True):
    """How far the join is: the last position, the latest event time, and where every event went."""

    position: int = 0
    high_ms: int = -1
    tick: int = -1
    counts: JoinCounts = JoinCounts()
    settings: str = ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What some events changed.

    shown: new impressions. answered: impressions known before that have another answer.
    forgotten: impressions to remove, id to close.
    late, applied: feedback that waits for its time, and feedback that no longer does.
    orphans, settled: feedback that waits for its impression, and feedback that no longer does.
    waiting_for: the orphans of every id for which the two changed; an id may have none.
    """

    progress: Progress
    shown: Collection[Shown] = ()
    answered: Collection[Shown] = ()
    forgotten: Mapping[str, int] = field(default_factory=dict)
    late: Collection[Late] = ()
    applied: Collection[Late] = ()
    orphans: Collection[Orphan] = ()
    settled: Collection[Orphan] = ()
    waiting_for: Mapping[str, list[Orphan]] = field(default_factory=dict)


class JoinState(Protocol):
    """Keeps what the join remembers.

    1. The join calls `progress`, `due`, `get_many` and `save`, in this order, once for each run of events.
    2. `get_many` and `due` give the same object for the same impression between two calls of `save`.
    3. What was saved is what the next run finds. A run without `save` leaves nothing behind.
    """

    def progress(self) -> Progress:
        """How far the join is."""

    def due(self, begin_ms: int, end_ms: int, kept_ms: int, *, answered: bool) -> list[Due]:
        """Return what falls due at begin_ms <= time < end_ms, in order.

        An impression is forgotten `kept_ms` after its close. `answered`: whether impressions that have an answer
        are asked for as they close; if not, they may be left out.
        """

    def get_many(self, ids: Iterable[str]) -> dict[str, Held]:
        """Return what is held under these ids; ids without anything are not there."""

    def save(self, changes: Changes) -> None:
        """Keep what the run of events changed."""


def due_late(late: Late) -> Due:
    """When a late feedback is due: once event time has passed its own."""
    return late.answer[0], Turn.LATE, late.impression, (late.answer, late.position), late


def due_orphan(orphan: Orphan) -> Due:
    """When a feedback without impression is given up."""
    return orphan.due_ms, Turn.GIVE_UP, orphan.impression, (orphan.answer, orphan.position), orphan


_SLOT_BITS = 10
"""Due times are filed in slots of 1,024 ms."""
_Filed: TypeAlias = tuple[int, str, Shown]


@final
class MemoryJoinState:
    """The join's state in dictionaries: what a `JoinState` has to do, and the fastest one.

    Impressions keep their answers in place, so after an exception in a run of events this state is of no more use.
    """

    def __init__(self) -> None:
        self._progress = Progress()
        self._held: dict[str, Held] = {}
        self._closing: dict[int, list[_Filed]] = {}
        self._in_order: set[int] = set()
        self._waiting: dict[int, dict[int, Due]] = {}

    def progress(self) -> Progress:
        """How far the join is."""
        return self._progress

    def due(self, begin_ms: int, end_ms: int, kept_ms: int, *, answered: bool) -> list[Due]:
        """Return what falls due, in order."""
        close, forget = Turn.CLOSE, Turn.FORGET
        due: list[Due] = [
            (at, close, name, None, shown)
            for at, name, shown in self._filed(begin_ms, end_ms)
            if answered or shown.answer is None
        ]
        in_order = len(due)
        due += [
            (at + kept_ms, forget, name, None, shown.answer is not None)
            for at, name, shown in self._filed(begin_ms - kept_ms, end_ms - kept_ms)
        ]
        for slot in _slots(self._waiting, begin_ms, end_ms):
            due += [item for item in self._waiting[slot].values() if begin_ms <= item[0] < end_ms]
        if len(due) > in_order:
            due.sort()
        return due

    def _filed(self, begin_ms: int, end_ms: int) -> list[_Filed]:
        found: list[_Filed] = []
        for slot in _slots(self._closing, begin_ms, end_ms):
            filed = self._closing[slot]
            if slot not in self._in_order:
                filed.sort()
                self._in_order.add(slot)
            found += filed[bisect_left(filed, (begin_ms,)) : bisect_left(filed, (end_ms,))]
        return found

    def get_many(self, ids: Iterable[str]) -> dict[str, Held]:
        """Return what is held under these ids."""
        held = self._held
        return {
            name: found if type(found) is Shown else list(found)
            for name in ids
            if (found := held.get(name)) is not None
        }

    def save(self, changes: Changes) -> None:
        """Keep what the run of events changed; answers are in the impressions already."""
        held = self._held
        self._progress = changes.progress
        for name, close_ms in changes.forgotten.items():
            found = held.get(name)
            if type(found) is Shown and found.close_ms == close_ms:
                del held[name]
        if changes.forgotten:
            self._unfile(max((close_ms, name) for name, close_ms in changes.forgotten.items()))
        self._save_waiting(changes)
        for shown in changes.shown:
            held[shown.id] = shown
            self._file(shown)

    def _save_waiting(self, changes: Changes) -> None:
        for item in (*map(due_late, changes.applied), *map(due_orphan, changes.settled)):
            slot = item[0] >> _SLOT_BITS
            del self._waiting[slot][_position(item)]
            if not self._waiting[slot]:
                del self._waiting[slot]
        for item in (*map(due_late, changes.late), *map(due_orphan, changes.orphans)):
            self._waiting.setdefault(item[0] >> _SLOT_BITS, {})[_position(item)] = item
        for name, orphans in changes.waiting_for.items():
            if orphans:
                self._held[name] = orphans
            elif type(self._held.get(name)) is list:
                del self._held[name]

    def _file(self, shown: Shown) -> None:
        slot, item = shown.close_ms >> _SLOT_BITS, (shown.close_ms, shown.id, shown)
        if slot not in self._closing:
            self._closing[slot] = [item]
        elif slot in self._in_order:
            insort(self._closing[slot], item)
        else:
            self._closing[slot].append(item)

    def _unfile(self, last: tuple[int, str]) -> None:
        """Remove everything up to `last`: what is forgotten is forgotten in the order of closing."""
        for slot in _slots(self._closing, 0, last[0] + 1):
            filed = self._closing[slot]
            if slot == last[0] >> _SLOT_BITS:
                self._closing[slot] = filed = [item for item in filed if item[:2] > last]
            else:
                filed = []
            if not filed:
                del self._closing[slot]
                self._in_order.discard(slot)


def _slots(filed: Mapping[int, object], begin_ms: int, end_ms: int) -> list[int]:
    """The slots in use, in order, that a time in begin_ms <= time < end_ms may be in."""
    if end_ms <= begin_ms:
        return []
    first, last = begin_ms >> _SLOT_BITS, (end_ms - 1) >> _SLOT_BITS
    if last - first < len(filed):
        return [slot for slot in range(first, last + 1) if slot in filed]
    return sorted(slot for slot in filed if first <= slot <= last)


def _position(item: Due) -> int:
    assert item[3] is not None  # noqa: S101 - feedback has a place in the order
    return item[3][1]
