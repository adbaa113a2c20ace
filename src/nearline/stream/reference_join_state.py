"""What the join remembers as values, to and from the bytes of its tables: the slow way, which defines the answer."""

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias, final

from msgspec import Struct

from nearline.stream.join_rules import is_name
from nearline.stream.join_state import Changes, Entry, JoinState, Progress

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


def due_late(late: Late) -> Due:
    """When a late feedback is due: once event time has passed its own."""
    return late.answer[0], Turn.LATE, late.impression, (late.answer, late.position), late


def due_orphan(orphan: Orphan) -> Due:
    """When a feedback without impression is given up."""
    return orphan.due_ms, Turn.GIVE_UP, orphan.impression, (orphan.answer, orphan.position), orphan


@final
@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """What some events changed.

    shown: new impressions. answered: impressions known before that have another answer.
    forgotten: impressions to remove, id to close.
    late, applied: feedback that waits for its time, and feedback that no longer does.
    orphans, settled: feedback that waits for its impression, and feedback that no longer does.
    waiting_for: the orphans of every id for which the two changed; an id may have none.
    """

    shown: Collection[Shown] = ()
    answered: Collection[Shown] = ()
    forgotten: Mapping[str, int] = field(default_factory=dict)
    late: Collection[Late] = ()
    applied: Collection[Late] = ()
    orphans: Collection[Orphan] = ()
    settled: Collection[Orphan] = ()
    waiting_for: Mapping[str, list[Orphan]] = field(default_factory=dict)


_TIME = struct.Struct(">Q")
_TWO_TIMES = struct.Struct(">QQ")
_SHOWN, _ANSWER = struct.Struct("<qdHI"), struct.Struct("<qddH")
_SIZE_OF_ANSWER = slice(18, 22)
_NO_ANSWER = bytes(4)


@final
class Remembered:
    """What one run needs of a `JoinState`, as values; an impression is the same object wherever it turns up."""

    def __init__(self, state: JoinState) -> None:
        self._state = state
        self._shown: dict[bytes, Shown] = {}
        self._orphans: dict[int, Orphan] = {}

    def due(self, begin_ms: int, end_ms: int, kept_ms: int, *, answered: bool) -> list[Due]:
        """Return what falls due at begin_ms <= time < end_ms, in order.

        An impression is forgotten `kept_ms` after its close. `answered`: whether impressions that have an answer
        are asked for as they close.
        """
        between, due = self._state.between, list[Due]()
        for key, value in between("shown", begin_ms, end_ms):
            if answered or value[_SIZE_OF_ANSWER] == _NO_ANSWER:
                shown = self._shown[key] = _shown(key, value)
                due.append((shown.close_ms, Turn.CLOSE, shown.id, None, shown))
        for key, value in between("shown", begin_ms - kept_ms, end_ms - kept_ms):
            has_answer = value[_SIZE_OF_ANSWER] != _NO_ANSWER
            due.append((int.from_bytes(key[:8]) + kept_ms, Turn.FORGET, key[8:].decode(), None, has_answer))
        for key, value in between("waiting", begin_ms, end_ms):
            if key[8] == Turn.LATE:
                due.append(due_late(_late(key, value)))
            else:
                due.append(due_orphan(self._orphan(key, value)))
        due.sort()
        return due

    def get_many(self, ids: Iterable[str]) -> dict[str, Held]:
        """Return what is held under these ids; ids without anything are not there."""
        found: dict[str, Held] = {}
        keys: list[bytes] = []
        for name, value in self._state.get_many(
            "index", sorted([name.encode() for name in ids if is_name(name)])
        ):
            if len(value) == _TIME.size:
                keys.append(value + name)
            else:
                found[name.decode()] = self._orphans_of(name, value)
        unknown = sorted(key for key in keys if key not in self._shown)
        for key, value in self._state.get_many("shown", unknown):
            self._shown[key] = _shown(key, value)
        found.update((self._shown[key].id, self._shown[key]) for key in keys)
        return found

    def _orphans_of(self, name: bytes, value: bytes) -> list[Orphan]:
        found = []
        for due_ms, position in _TWO_TIMES.iter_unpack(value):
            [(key, orphan)] = self._state.get_many(
                "waiting", [_waiting_key(due_ms, Turn.GIVE_UP, name, position)]
            )
            found.append(self._orphan(key, orphan))
        return found

    def _orphan(self, key: bytes, value: bytes) -> Orphan:
        position: int = _TIME.unpack_from(key, len(key) - 8)[0]
        if position not in self._orphans:
            answer, record = _unpacked(value)
            due_ms: int = _TIME.unpack_from(key)[0]
            self._orphans[position] = Orphan(due_ms, key[9:-8].decode(), position, answer, record)
        return self._orphans[position]

    def save(self, progress: Progress, changed: Changed) -> None:
        """Keep what the run of events changed."""
        index: list[Entry] = [(new.id.encode(), _TIME.pack(new.close_ms)) for new in changed.shown]
        index += [
            (name.encode(), b"".join([_TWO_TIMES.pack(orphan.due_ms, orphan.position) for orphan in orphans]))
            for name, orphans in changed.waiting_for.items()
            if orphans
        ]
        waiting: list[Entry] = [(_late_key(late), _packed(late.answer)) for late in changed.late]
        waiting += [
            (_orphan_key(orphan), _packed(orphan.answer) + orphan.record) for orphan in changed.orphans
        ]
        index_gone = [name for name, orphans in changed.waiting_for.items() if not orphans]
        self._state.save(
            progress,
            {
                "shown": Changes(
                    sorted(
                        _TIME.pack(close_ms) + name.encode() for name, close_ms in changed.forgotten.items()
                    ),
                    sorted(
                        (_TIME.pack(one.close_ms) + one.id.encode(), _shown_value(one))
                        for one in (*changed.shown, *changed.answered)
                    ),
                ),
                "index": Changes(
                    sorted(name.encode() for name in [*changed.forgotten, *index_gone]), sorted(index)
                ),
                "waiting": Changes(
                    sorted([*map(_late_key, changed.applied), *map(_orphan_key, changed.settled)]),
                    sorted(waiting),
                ),
            },
        )


def _shown_value(shown: Shown) -> bytes:
    answer = b"" if shown.answer is None else _packed(shown.answer)
    count = len(shown.partitions)
    head = _SHOWN.pack(shown.time_ms, shown.weight, count, len(answer))
    return head + struct.pack(f"<{count}H", *shown.partitions) + answer + shown.record


def _shown(key: bytes, value: bytes) -> Shown:
    time_ms, weight, count, size = _SHOWN.unpack_from(value)
    begin = _SHOWN.size + 2 * count
    return Shown(
        int.from_bytes(key[:8]),
        key[8:].decode(),
        time_ms,
        weight,
        struct.unpack(f"<{count}H", value[_SHOWN.size : begin]),
        value[begin + size :],
        _unpacked(value[begin : begin + size])[0] if size else None,
    )


def _packed(answer: Answer) -> bytes:
    name = answer[1].encode()
    return _ANSWER.pack(answer[0], answer[2], answer[3], len(name)) + name


def _unpacked(value: bytes) -> tuple[Answer, bytes]:
    """The answer, and the bytes after it."""
    time_ms, label, weight, size = _ANSWER.unpack_from(value)
    end = _ANSWER.size + size
    return (time_ms, value[_ANSWER.size : end].decode(), label, weight), value[end:]


def _late(key: bytes, value: bytes) -> Late:
    return Late(key[9:-8].decode(), _TIME.unpack_from(key, len(key) - 8)[0], _unpacked(value)[0])


def _waiting_key(due_ms: int, turn: Turn, name: bytes, position: int) -> bytes:
    return _TIME.pack(due_ms) + bytes((turn,)) + name + _TIME.pack(position)


def _late_key(late: Late) -> bytes:
    return _waiting_key(late.answer[0], Turn.LATE, late.impression.encode(), late.position)


def _orphan_key(orphan: Orphan) -> bytes:
    return _waiting_key(orphan.due_ms, Turn.GIVE_UP, orphan.impression.encode(), orphan.position)
