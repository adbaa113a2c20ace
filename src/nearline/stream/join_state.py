"""What the join remembers between events: tables of bytes, in memory or in LMDB.

Impressions are filed by close and id: what is new goes to one end, what is forgotten leaves at the other, and what
falls due lies side by side. Only a small index is spread by id. Times and positions in keys are 8 bytes, big endian, so
that keys sort by them::

    shown    close, id of the impression -> the impression
    index    id of the impression -> its close; or (due, position), 16 bytes, of each feedback that waits for it
    waiting  due, turn (1 late, 2 without impression), id of the impression, position -> a feedback; the one without
             impression with its record after it

An impression, and a feedback, little endian::

    0   time_ms     int64                       0   time_ms  int64
    8   weight      float64                     8   label    float64
    16  partitions  uint16, how many            16  weight   float64
    18  answer      uint32, its bytes or 0      24  size     uint16, of its own id
    22  the partitions, uint16 each             26  the id
        the feedback that counts so far
        the record
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, final

from msgspec import Struct

from nearline.stream.joined import JoinCounts

Table: TypeAlias = Literal["shown", "index", "waiting"]
TABLES: tuple[Table, ...] = ("shown", "index", "waiting")
Entry: TypeAlias = tuple[bytes, bytes]
"""Key and value."""


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
    """What changes in one table: keys to remove first, then entries to put; both sorted by key."""

    gone: Sequence[bytes]
    put: Sequence[Entry]


class JoinState(Protocol):
    """Keeps what the join remembers.

    1. What was saved is what the next run finds. A run without `save` leaves nothing behind.
    2. Keys are given, and come back, in ascending order.
    """

    def progress(self) -> Progress:
        """How far the join is."""

    def between(self, table: Table, begin_ms: int, end_ms: int) -> list[Entry]:
        """Return the entries filed under begin_ms <= time < end_ms; a negative time is 0."""

    def keys_between(self, table: Table, begin_ms: int, end_ms: int) -> list[bytes]:
        """Return their keys alone."""

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[Entry]:
        """Return the entries under these keys; keys without an entry are not there."""

    def save(self, progress: Progress, changes: dict[Table, Changes]) -> None:
        """Keep what a run of events changed."""


_SLOT = 7
"""Bytes of a key that a slot is filed under."""


def time_key(time_ms: int) -> bytes:
    """The key, of those in the tables sorted by time, that is before all of a time that is not negative."""
    return max(time_ms, 0).to_bytes(8)


@final
class MemoryJoinState:
    """The join's state in dictionaries: what a `JoinState` has to do."""

    def __init__(self) -> None:
        self._progress = Progress()
        # By all of the time in a key but its last byte: what falls due lies in few of these.
        self._slots: dict[Table, dict[bytes, dict[bytes, bytes]]] = {table: {} for table in TABLES}

    def progress(self) -> Progress:
        """How far the join is."""
        return self._progress

    def between(self, table: Table, begin_ms: int, end_ms: int) -> list[Entry]:
        """Return the entries of these times."""
        slots = self._slots[table]
        return [(key, slots[key[:_SLOT]][key]) for key in self.keys_between(table, begin_ms, end_ms)]

    def keys_between(self, table: Table, begin_ms: int, end_ms: int) -> list[bytes]:
        """Return their keys alone."""
        begin, end = time_key(begin_ms), time_key(end_ms)
        slots = [keys for slot, keys in self._slots[table].items() if begin[:_SLOT] <= slot <= end[:_SLOT]]
        return sorted(key for keys in slots for key in keys if begin <= key < end)

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[Entry]:
        """Return the entries under these keys."""
        slots, nothing = self._slots[table], dict[bytes, bytes]()
        found = ((key, slots.get(key[:_SLOT], nothing).get(key)) for key in keys)
        return [(key, value) for key, value in found if value is not None]

    def save(self, progress: Progress, changes: dict[Table, Changes]) -> None:
        """Keep what a run of events changed."""
        self._progress = progress
        for table, of_table in changes.items():
            slots = self._slots[table]
            for key in of_table.gone:
                entries = slots.get(key[:_SLOT], {})
                entries.pop(key, None)
                if not entries:
                    slots.pop(key[:_SLOT], None)
            for key, value in of_table.put:
                slots.setdefault(key[:_SLOT], {})[key] = value

    def entries(self, table: Table) -> dict[bytes, bytes]:
        """All of a table, in the order of the keys."""
        return {
            key: value
            for _, slot in sorted(self._slots[table].items())
            for key, value in sorted(slot.items())
        }
