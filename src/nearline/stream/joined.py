"""What the join says: labelled examples in order, dead letters, and where every event went.

A row is one example as its partitions keep it: a header of 25 bytes, little endian, and the impression's record as it
came::

    0   kind        1 byte: 0 learn, 1 take back, 2 tick; plus 128 if a lower partition has the row too
    1   label       float64
    9   weight      float64
    17  time_ms     int64
    25  the record of the impression, none for a tick
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nearline.arrays import Floats, Ints
from nearline.events.dead_letters import DeadLetter
from nearline.kernels._records import split_rows

_HEADER = struct.Struct("<Bddq")
_COPY = 128
_FIELDS = np.dtype([("kind", "u1"), ("label", "<f8"), ("weight", "<f8"), ("time_ms", "<i8")])


@final
class Kind(IntEnum):
    """What to do with an example."""

    LEARN = 0
    TAKE_BACK = 1
    """Undo what was learned with this label and weight. The next example of each of its partitions is the same
    impression, to be learned with the label it should have had."""
    TICK = 2
    """No example: event time has come to `time_ms`."""
    UNREADABLE = 3
    """Never written: what is read in place of a row that storage has damaged, its bytes as the record, its time 0."""


@final
class JoinedExample(Struct, frozen=True, gc=False):
    """A labelled example, or the taking back of one.

    Attributes
    ----------
    impression : the record of the impression, as it came.
    label : the response; of what is taken back, as it was learned.
    weight : of the impression times that of the feedback.
    time_ms : event time from which on the label is known: the close of the impression, or the time of a feedback
        that was learned or corrected at once. When it was shown is in the impression.
    kind : learn, take back or tick.
    partitions : the partitions that own one of its entities, ascending; it goes to each of them once.
    """

    impression: bytes
    label: float
    weight: float
    time_ms: int
    kind: Kind
    partitions: tuple[int, ...]


@final
class JoinCounts(Struct, frozen=True):
    """Where every event went since the beginning; ticks are no events here.

    ``received = learned + duplicate + late + dead + unanswered + waiting``, always.

    Attributes
    ----------
    received : impressions, feedback and records that could not be read.
    learned : impressions learned, and the feedback that they were learned with.
    duplicate : impressions and feedback that came again, and feedback that other feedback overruled.
    late : impressions that came after their close, and feedback after the close that changed nothing.
    dead : what could not be read, and feedback whose impression did not come.
    unanswered : impressions that nobody answered, where those are not learned.
    waiting : impressions that are open, feedback that waits with them or for them.
    corrected : examples taken back and learned with another label. They count here beside the above.
    """

    received: int = 0
    learned: int = 0
    duplicate: int = 0
    late: int = 0
    dead: int = 0
    unanswered: int = 0
    waiting: int = 0
    corrected: int = 0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """What came of some events.

    rows: of each partition that has any, in the order to learn them. counts: all so far.
    """

    rows: dict[int, list[bytes]]
    dead: list[DeadLetter]
    counts: JoinCounts


@final
@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one partition, as columns.

    kind: uint8[n], of `Kind`. label, weight: float64[n]. time_ms: int64[n].
    records: the record of each impression; empty for a tick.
    """

    kind: NDArray[np.uint8]
    label: Floats
    weight: Floats
    time_ms: Ints
    records: list[bytes]


def encode_row(example: JoinedExample, *, is_copy: bool = False) -> bytes:
    """Return the bytes of a row, as drawn at the top of this module."""
    kind = example.kind | _COPY if is_copy else example.kind
    return _HEADER.pack(kind, example.label, example.weight, example.time_ms) + example.impression


def is_copy(row: bytes) -> bool:
    """Whether a lower partition has the row too, so that what is to be said once is said there."""
    return row[:1] >= bytes([_COPY])


def row_time_ms(row: bytes) -> int:
    """The event time of one row; 0 if it cannot be read."""
    return int(_HEADER.unpack_from(row)[3]) if len(row) >= _HEADER.size else 0


def rows_by_partition(examples: Sequence[JoinedExample]) -> dict[int, list[bytes]]:
    """Return the rows of each partition that has any, each example once in every partition it goes to."""
    rows: defaultdict[int, list[bytes]] = defaultdict(list)
    for example in examples:
        partitions = example.partitions
        if partitions:
            rows[partitions[0]].append(encode_row(example))
        if len(partitions) > 1:
            row = encode_row(example, is_copy=True)
            for partition in partitions[1:]:
                rows[partition].append(row)
    return rows


def decode_rows(rows: Sequence[bytes]) -> Rows:
    """Return rows as columns; one that is shorter than its header, or of an unknown kind, is `Kind.UNREADABLE`."""
    headers, records = split_rows(list(rows), _HEADER.size)
    fields = np.frombuffer(headers, dtype=_FIELDS)
    kind: NDArray[np.uint8] = np.bitwise_and(fields["kind"], np.uint8(_COPY - 1))
    if len(records) < len(rows) or (kind > Kind.TICK).any():
        return _decode_with_damage(rows)
    return Rows(
        kind=kind,
        label=np.ascontiguousarray(fields["label"], dtype=np.float64),
        weight=np.ascontiguousarray(fields["weight"], dtype=np.float64),
        time_ms=np.ascontiguousarray(fields["time_ms"], dtype=np.int64),
        records=records,
    )


def _decode_with_damage(rows: Sequence[bytes]) -> Rows:
    """What `decode_rows` does, of rows of which some cannot be read."""
    is_sound = [len(row) >= _HEADER.size and row[0] & (_COPY - 1) <= Kind.TICK for row in rows]
    in_place = _HEADER.pack(Kind.TICK, 0.0, 0.0, 0)
    read = decode_rows([row if sound else in_place for row, sound in zip(rows, is_sound, strict=True)])
    damaged = np.flatnonzero(~np.array(is_sound))
    read.kind[damaged] = Kind.UNREADABLE
    for i in damaged.tolist():
        read.records[i] = rows[i]
    return read


def take_rows(parts: Sequence[Rows], index: Sequence[Ints]) -> Rows:
    """The rows listed for each part, int64, one part after the other."""
    pairs = list(zip(parts, index, strict=True))
    return Rows(
        kind=np.concatenate([np.zeros(0, np.uint8), *(rows.kind[i] for rows, i in pairs)]),
        label=np.concatenate([np.zeros(0), *(rows.label[i] for rows, i in pairs)]),
        weight=np.concatenate([np.zeros(0), *(rows.weight[i] for rows, i in pairs)]),
        time_ms=np.concatenate([np.zeros(0, np.int64), *(rows.time_ms[i] for rows, i in pairs)]),
        records=[rows.records[j] for rows, i in pairs for j in i.tolist()],
    )
