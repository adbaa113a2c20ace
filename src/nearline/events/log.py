"""The event log: records appended to partitions, each in one order, and read from a position on.

`EventLog` states the promises; `MemoryLog` is their specification, and every other log passes the same tests
(`tests/events/test_log_contract.py`).
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from nearline.clock import Clock, SystemClock
from nearline.errors import LogError


@final
@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records that follow one another in a partition.

    first: the position of the first; where there is none, of the one that will come.
    records: the bytes of each.
    """

    first: int
    records: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return enumerate(self.records, self.first)

    @property
    def last(self) -> int:
        """The position of the last record: what to read after next."""
        return self.first + len(self.records) - 1


class EventLog(Protocol):
    """Keeps records, bytes that it does not look into, in partitions 0, 1, ...

    1. The records of a partition have the positions 1, 2, 3, ... without gaps, in the order in which they were
       appended, whoever appended them. A position is never given to another record.
    2. `append` is atomic and durable: when it returns, all its records are there also after a crash; when it raises,
       or its process dies, either all are there or none. The records of one call lie side by side.
    3. A reader sees whole appends or nothing of them, and every reader sees the same.
    4. Any number of processes may append and read at the same time.
    5. Only `trim` removes records: the oldest, up to a position of the partition.
    6. A record that is damaged in storage is handed out as `wire.DAMAGED`, in its place.

    What cannot be done raises `LogError` and leaves what is in the log as it was.
    """

    @property
    def partitions(self) -> int:
        """How many partitions there are; fixed when the log is made."""

    def append(self, records: Sequence[bytes], partition: int = 0) -> int:
        """Append records, and return the position of the partition's last record."""

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        """Return up to `limit` records that follow position `after`; none if it is the last.

        Raises
        ------
        LogError
            Some of them were trimmed, or `after` is beyond the end.
        """

    def begin(self, partition: int = 0) -> int:
        """The position of the oldest record there is; one beyond the end where there is none."""

    def end(self, partition: int = 0) -> int:
        """The position of the last record; 0 where there never was one."""

    def size_bytes(self, partition: int = 0) -> int:
        """The bytes of all records there are, without what storing them costs."""

    def trim(
        self,
        up_to: int,
        partition: int = 0,
        *,
        appended_before_ms: int | None = None,
        keep_bytes: int | None = None,
    ) -> int:
        """Remove the oldest records, and return how many.

        up_to: nothing after this position goes: the least that a reader still has to read, minus 1.
        appended_before_ms: only what was appended before, in milliseconds since 1970 (UTC).
        keep_bytes: only as long as the records that are left have this many bytes or more.

        A log removes records by the block in which it keeps them, so some that could go may stay; none goes that
        should stay.
        """


@final
@dataclass(slots=True)
class _Block:
    appended_ms: int
    first: int
    records: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.records))


@final
@dataclass(slots=True)
class _Partition:
    end: int = 0
    blocks: list[_Block] = field(default_factory=list)


@final
class MemoryLog:
    """An `EventLog` that is gone with its process; threads may share it."""

    def __init__(self, partitions: int = 1, *, clock: Clock | None = None) -> None:
        require_partitions(partitions)
        self._kept = [_Partition() for _ in range(partitions)]
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._kept)

    def append(self, records: Sequence[bytes], partition: int = 0) -> int:
        """Append records, and return the position of the partition's last record."""
        kept = self._partition(partition)
        with self._lock:
            if records:
                kept.blocks.append(_Block(self._clock.now_ms(), kept.end + 1, tuple(records)))
                kept.end += len(records)
            return kept.end

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        """Return up to `limit` records that follow position `after`."""
        kept = self._partition(partition)
        with self._lock:
            begin = kept.blocks[0].first if kept.blocks else kept.end + 1
            require_readable(after, limit, begin, kept.end)
            records = [record for block in kept.blocks for record in block.records]
        return Batch(after + 1, records[after + 1 - begin : after + 1 - begin + limit])

    def begin(self, partition: int = 0) -> int:
        """The position of the oldest record there is."""
        kept = self._partition(partition)
        return kept.blocks[0].first if kept.blocks else kept.end + 1

    def end(self, partition: int = 0) -> int:
        """The position of the last record."""
        return self._partition(partition).end

    def size_bytes(self, partition: int = 0) -> int:
        """The bytes of all records there are."""
        return sum(block.size_bytes for block in self._partition(partition).blocks)

    def trim(
        self,
        up_to: int,
        partition: int = 0,
        *,
        appended_before_ms: int | None = None,
        keep_bytes: int | None = None,
    ) -> int:
        """Remove the oldest records, and return how many."""
        kept = self._partition(partition)
        with self._lock:
            size, removed = self.size_bytes(partition), 0
            while kept.blocks:
                block = kept.blocks[0]
                after, size = block.first + len(block.records), size - block.size_bytes
                if (
                    after - 1 > up_to
                    or (appended_before_ms is not None and block.appended_ms >= appended_before_ms)
                    or (keep_bytes is not None and size < keep_bytes)
                ):
                    break
                removed += len(kept.blocks.pop(0).records)
            return removed

    def _partition(self, partition: int) -> _Partition:
        require_partition(partition, self.partitions)
        return self._kept[partition]


def require_partitions(partitions: int) -> None:
    """Raise a `LogError` unless a log can have so many partitions."""
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise LogError(f"partitions: expected 1 to {MAX_PARTITIONS}, got {partitions}")


MAX_PARTITIONS = 65_536


def require_partition(partition: int, partitions: int) -> None:
    """Raise a `LogError` unless there is such a partition."""
    if not 0 <= partition < partitions:
        raise LogError(f"partition: expected 0 to {partitions - 1}, got {partition}")


def require_readable(after: int, limit: int, begin: int, end: int) -> None:
    """Raise a `LogError` unless the records after a position can be read, given where the log begins and ends."""
    if limit < 1:
        raise LogError(f"limit: expected 1 or more records, got {limit}")
    if after > end:
        raise LogError(f"after: expected at most {end}, the last position in the log, got {after}")
    if after < begin - 1:
        raise LogError(
            f"after: the records from {after + 1} to {begin - 1} were trimmed; read after {begin - 1}, "
            "or start again from what was learned later"
        )
