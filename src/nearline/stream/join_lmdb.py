"""The join's state in an LMDB environment, inside a transaction of the caller.

Impressions are filed by close and id: what is new goes to one end, what is forgotten leaves at the other, and what
falls due lies side by side. Only a small index is spread by id. Times are 8 bytes, big endian, so that keys sort by
them; an index entry is the close of an impression (8 bytes), or (due, position) of each feedback without impression
(16 bytes each). An impression, little endian::

    0   time_ms     int64
    8   weight      float64
    16  partitions  uint16, how many
    18  answer      uint32, its bytes; 0 before there is one
    22  the partitions, uint16 each; the answer; the record
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Any, TypeAlias, final

import msgspec

from nearline.environment import Environment
from nearline.stream.join_state import (
    Answer,
    Changes,
    Due,
    Held,
    Late,
    Orphan,
    Progress,
    Shown,
    Turn,
    due_late,
    due_orphan,
)

JOIN_TABLES = ("join-shown", "join-index", "join-waiting", "join-meta")
"""The named databases of the join's state, in the order of `JoinTables`."""

_TIME = struct.Struct(">Q")
_TWO_TIMES = struct.Struct(">QQ")
_SHOWN_FIELDS, _ANSWER_FIELDS = "<qdHI", "qddH"
_SHOWN, _ANSWER = struct.Struct(_SHOWN_FIELDS), struct.Struct("<" + _ANSWER_FIELDS)
_SIZE_OF_ANSWER = slice(18, 22)
_NO_ANSWER = bytes(4)
_PROGRESS = b"progress"
_progress = msgspec.msgpack.Decoder(Progress)
_LMDB: TypeAlias = Any  # the package has no types


@final
@dataclass(frozen=True, slots=True, eq=False)
class JoinTables:
    """The databases of the join's state."""

    shown: _LMDB
    index: _LMDB
    waiting: _LMDB
    meta: _LMDB

    @classmethod
    def of(cls, environment: Environment) -> "JoinTables":
        """Those of an environment that was opened with `JOIN_TABLES`."""
        return cls(*(environment[name] for name in JOIN_TABLES))


@final
class LmdbJoinState:
    """A `JoinState` within one write transaction: kept if the caller commits, as it was before if not."""

    def __init__(self, tables: JoinTables, transaction: _LMDB) -> None:
        self._tables, self._transaction = tables, transaction
        self._shown: dict[bytes, Shown] = {}
        self._orphans: dict[int, Orphan] = {}

    def progress(self) -> Progress:
        """How far the join is."""
        stored = self._transaction.get(_PROGRESS, db=self._tables.meta)
        return Progress() if stored is None else _progress.decode(stored)

    def due(self, begin_ms: int, end_ms: int, kept_ms: int, *, answered: bool) -> list[Due]:
        """Return what falls due, in order."""
        tables, forget, close = self._tables, Turn.FORGET, Turn.CLOSE
        due: list[Due] = []
        for key, value in self._range(tables.shown, begin_ms, end_ms):
            if answered or value[_SIZE_OF_ANSWER] == _NO_ANSWER:
                shown = self._shown[key] = _shown(key, value)
                due.append((shown.close_ms, close, shown.id, None, shown))
        due += [
            (
                int.from_bytes(key[:8]) + kept_ms,
                forget,
                key[8:].decode(),
                None,
                value[_SIZE_OF_ANSWER] != _NO_ANSWER,
            )
            for key, value in self._range(tables.shown, begin_ms - kept_ms, end_ms - kept_ms)
        ]
        for key, value in self._range(tables.waiting, begin_ms, end_ms):
            if key[8] == Turn.LATE:
                due.append(due_late(_late(key, value)))
            else:
                due.append(due_orphan(self._orphan(key, value)))
        due.sort()
        return due

    def get_many(self, ids: Iterable[str]) -> dict[str, Held]:
        """Return what is held under these ids."""
        tables = self._tables
        found: dict[str, Held] = {}
        shown_keys: list[bytes] = []
        for name, value in self._get(tables.index, sorted([name.encode() for name in ids])):
            if len(value) == _TIME.size:
                shown_keys.append(value + name)
            else:
                found[name.decode()] = self._orphans_of(name, value)
        shown_keys.sort()
        unknown = [key for key in shown_keys if key not in self._shown]
        for key, value in self._get(tables.shown, unknown):
            self._shown[key] = _shown(key, value)
        for key in shown_keys:
            shown = self._shown[key]
            found[shown.id] = shown
        return found

    def _orphans_of(self, name: bytes, value: bytes) -> list[Orphan]:
        found = []
        for due_ms, position in _TWO_TIMES.iter_unpack(value):
            key = _waiting_key(due_ms, Turn.GIVE_UP, name, position)
            found.append(self._orphan(key, self._transaction.get(key, db=self._tables.waiting)))
        return found

    def save(self, changes: Changes) -> None:
        """Keep what the run of events changed."""
        tables, transaction = self._tables, self._transaction
        self._forget(changes.forgotten)
        self._save_waiting(changes)
        index, shown = [], []
        for new in changes.shown:
            name = new.id.encode()
            close = _TIME.pack(new.close_ms)
            index.append((name, close))
            shown.append((close + name, _shown_value(new)))
        index += [
            (name.encode(), b"".join([_TWO_TIMES.pack(orphan.due_ms, orphan.position) for orphan in orphans]))
            for name, orphans in changes.waiting_for.items()
            if orphans
        ]
        shown += [(_TIME.pack(one.close_ms) + one.id.encode(), _shown_value(one)) for one in changes.answered]
        self._put(tables.index, index)
        self._put(tables.shown, shown)
        transaction.put(_PROGRESS, msgspec.msgpack.encode(changes.progress), db=tables.meta)
        self._shown.clear()
        self._orphans.clear()

    def _forget(self, forgotten: Mapping[str, int]) -> None:
        """Remove impressions; most often they lie side by side."""
        if not forgotten:
            return
        delete = self._transaction.delete
        for name in sorted([name.encode() for name in forgotten]):
            delete(name, b"", self._tables.index)
        keys = [_TIME.pack(close_ms) + name.encode() for name, close_ms in forgotten.items()]
        with self._transaction.cursor(self._tables.shown) as cursor:
            for key in sorted(keys):
                if cursor.key() == key or cursor.set_key(key):
                    cursor.delete()

    def _save_waiting(self, changes: Changes) -> None:
        waiting, delete = self._tables.waiting, self._transaction.delete
        for late in changes.applied:
            delete(_late_key(late), db=waiting)
        for orphan in changes.settled:
            delete(_orphan_key(orphan), db=waiting)
        for name, orphans in changes.waiting_for.items():
            if not orphans:
                delete(name.encode(), db=self._tables.index)
        new = [(_late_key(late), _packed(late.answer)) for late in changes.late]
        new += [(_orphan_key(orphan), _packed(orphan.answer) + orphan.record) for orphan in changes.orphans]
        self._put(waiting, new)

    def _put(self, table: _LMDB, items: list[tuple[bytes, bytes]]) -> None:
        if items:
            items.sort()
            with self._transaction.cursor(table) as cursor:
                cursor.putmulti(items)

    def _get(self, table: _LMDB, keys: list[bytes]) -> list[tuple[bytes, bytes]]:
        if not keys:
            return []
        with self._transaction.cursor(table) as cursor:
            found: list[tuple[bytes, bytes]] = cursor.getmulti(keys)
        return found

    def _range(self, table: _LMDB, begin_ms: int, end_ms: int) -> list[tuple[bytes, bytes]]:
        """What is filed under begin_ms <= time < end_ms, in order."""
        if end_ms <= max(begin_ms, 0):
            return []
        end = (
            _TIME.pack(end_ms),
        )  # as a tuple it is above every item with a smaller key, and below the others
        with self._transaction.cursor(table) as cursor:
            if not cursor.set_range(_TIME.pack(max(begin_ms, 0))):
                return []
            return list(takewhile(end.__gt__, cursor.iternext()))

    def _orphan(self, key: bytes, value: bytes) -> Orphan:
        position: int = _TIME.unpack_from(key, len(key) - 8)[0]
        if position not in self._orphans:
            answer, record = _unpacked(value)
            due_ms: int = _TIME.unpack_from(key)[0]
            self._orphans[position] = Orphan(due_ms, key[9:-8].decode(), position, answer, record)
        return self._orphans[position]


def _shown_value(shown: Shown) -> bytes:
    answer, partitions = shown.answer, shown.partitions
    count = len(partitions)
    if answer is None:
        return _unanswered(count).pack(shown.time_ms, shown.weight, count, 0, *partitions) + shown.record
    time_ms, said, label, weight = answer
    name = said.encode()
    size = _ANSWER.size + len(name)
    head = _answered(count).pack(
        shown.time_ms, shown.weight, count, size, *partitions, time_ms, label, weight, len(name)
    )
    return head + name + shown.record


def _shown(key: bytes, value: bytes) -> Shown:
    time_ms, weight, count, size = _SHOWN.unpack_from(value)
    begin = _SHOWN.size + 2 * count
    return Shown(
        int.from_bytes(key[:8]),
        key[8:].decode(),
        time_ms,
        weight,
        _partitions(value[_SHOWN.size : begin]),
        value[begin + size :],
        _unpacked(value[begin : begin + size])[0] if size else None,
    )


@cache
def _unanswered(partitions: int) -> struct.Struct:
    """An impression up to its record, without an answer."""
    return struct.Struct(f"{_SHOWN_FIELDS}{partitions}H")


@cache
def _answered(partitions: int) -> struct.Struct:
    """An impression up to the id of its answer."""
    return struct.Struct(f"{_SHOWN_FIELDS}{partitions}H{_ANSWER_FIELDS}")


@cache
def _partitions(value: bytes) -> tuple[int, ...]:
    return tuple(number for (number,) in struct.iter_unpack("<H", value))


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
