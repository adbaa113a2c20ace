"""Records kept as blocks in a table of an LMDB environment, inside a transaction of the caller's.

The event log keeps its own environment (`nearline.events.embedded`); whoever wants rows appended in the same
transaction as its state calls these functions with a table of its own.

A key is the partition, uint16, and the position of the block's first record, uint64, both big endian. The key of
position 0 holds the partition's head. A value, little endian::

    head    int64 end, int64 begin, int64 bytes of all records
    block   uint32 CRC-32 of all that follows, uint32 count, int64 time of appending in milliseconds since 1970,
            uint32[count] length of each record, the records
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Any, TypeAlias, final

import lmdb
import numpy as np

from nearline.arrays import Ints
from nearline.errors import LogError
from nearline.events.log import Batch, require_readable
from nearline.events.wire import DAMAGED
from nearline.kernels._records import split_block

Table: TypeAlias = Any
"""What ``Environment.open_db`` returns; None is the environment's unnamed table."""

BLOCK_BYTES = 256 * 1024
"""A block holds at most so many bytes of records, or a single one."""
MAX_RECORD_BYTES = 64 * 1024 * 1024
TRIM_BLOCKS = 512
"""The most blocks that one transaction removes."""

_KEY = Struct(">HQ")
_HEAD = Struct("<qqq")
_CHECKSUM = Struct("<I")
_COUNT_AND_TIME = Struct("<Iq")
_LENGTHS = _CHECKSUM.size + _COUNT_AND_TIME.size


@final
@dataclass(frozen=True, slots=True)
class Head:
    """Where a partition ends and begins, and the bytes of all its records."""

    end: int = 0
    begin: int = 1
    size_bytes: int = 0


def head_in(txn: lmdb.Transaction, table: Table, partition: int) -> Head:
    """The head of a partition."""
    found = txn.get(_KEY.pack(partition, 0), db=table)
    return Head() if found is None else Head(*_HEAD.unpack(found))


def append_in(
    txn: lmdb.Transaction, table: Table, partition: int, records: Sequence[bytes], now_ms: int
) -> int:
    """Append records in a write transaction, and return the position of the partition's last record.

    Raises `LogError` for a record above `MAX_RECORD_BYTES`.
    """
    head = head_in(txn, table, partition)
    if not records:
        return head.end
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    if lengths.max() > MAX_RECORD_BYTES:
        raise LogError(f"record: expected at most {MAX_RECORD_BYTES} bytes, got {lengths.max()}")
    for start, stop in pairwise(_block_bounds(lengths)):
        block = _to_block(records[start:stop], lengths[start:stop], now_ms)
        # Without append=True: LMDB then splits pages for the last key of the table, not of the partition.
        txn.put(_KEY.pack(partition, head.end + 1 + start), block, db=table)
    end = head.end + len(records)
    _put_head(txn, table, partition, Head(end, head.begin, head.size_bytes + int(lengths.sum())))
    return end


def read_in(txn: lmdb.Transaction, table: Table, partition: int, after: int, limit: int) -> Batch:
    """Return up to `limit` records that follow position `after`, as `EventLog.read` does."""
    head = head_in(txn, table, partition)
    require_readable(after, limit, head.begin, head.end)
    records: list[bytes] = []
    with txn.cursor(db=table) as cursor:
        wanted = min(limit, head.end - after)
        if wanted:
            _seek_block_of(cursor, partition, after + 1)
        while len(records) < wanted:
            skip = after + 1 + len(records) - _first(cursor)
            records += _from_block(cursor, head.end, skip, skip + wanted - len(records))
            cursor.next()
    return Batch(after + 1, records)


def appended_in(txn: lmdb.Transaction, table: Table, partition: int, after: int, limit: int) -> Ints:
    """When each of the records that `read_in` returns was appended, int64, in milliseconds since 1970 (UTC)."""
    head = head_in(txn, table, partition)
    require_readable(after, limit, head.begin, head.end)
    times = np.empty(min(limit, head.end - after), np.int64)
    with txn.cursor(db=table) as cursor:
        if len(times):
            _seek_block_of(cursor, partition, after + 1)
        done = 0
        while done < len(times):
            left = _first(cursor) + _count(cursor, head.end) - (after + 1 + done)
            times[done : done + left] = _appended_ms(bytes(cursor.value()))
            done += left
            cursor.next()
    return times


def trim_in(
    txn: lmdb.Transaction,
    table: Table,
    partition: int,
    up_to: int,
    *,
    appended_before_ms: int | None = None,
    keep_bytes: int | None = None,
) -> int:
    """Remove the oldest records as `EventLog.trim` does, at most `TRIM_BLOCKS` blocks; return how many records."""
    head = head_in(txn, table, partition)
    begin, size = head.begin, head.size_bytes
    with txn.cursor(db=table) as cursor:
        for _ in range(TRIM_BLOCKS):
            if begin > head.end or not cursor.set_key(_KEY.pack(partition, begin)):
                break
            value = bytes(cursor.value())
            count = _count(cursor, head.end)
            left = size - max(len(value) - _LENGTHS - 4 * count, 0)
            if (
                begin + count - 1 > up_to
                or (appended_before_ms is not None and _appended_ms(value) >= appended_before_ms)
                or (keep_bytes is not None and left < keep_bytes)
            ):
                break
            cursor.set_key(_KEY.pack(partition, begin))
            cursor.delete()
            begin, size = begin + count, left
    if begin > head.begin:
        _put_head(txn, table, partition, Head(head.end, begin, size))
    return begin - head.begin


def _put_head(txn: lmdb.Transaction, table: Table, partition: int, head: Head) -> None:
    txn.put(_KEY.pack(partition, 0), _HEAD.pack(head.end, head.begin, head.size_bytes), db=table)


def _block_bounds(lengths: Ints) -> Iterator[int]:
    """Where each block begins, and where the last one ends."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        yield start
        before = ends[start] - lengths[start]
        start = max(start + 1, int(np.searchsorted(ends, before + BLOCK_BYTES, side="right")))
    yield len(lengths)


def _to_block(records: Sequence[bytes], lengths: Ints, now_ms: int) -> bytes:
    head = _COUNT_AND_TIME.pack(len(records), now_ms)
    content = b"".join((head, lengths.astype("<u4").tobytes(), *records))
    return _CHECKSUM.pack(zlib.crc32(content)) + content


def _from_block(cursor: lmdb.Cursor, end: int, start: int, stop: int) -> list[bytes]:
    """Records `start` to `stop` of the block at the cursor, or as many as it has; `end` is of the partition."""
    value = bytes(cursor.value())
    if (
        len(value) < _LENGTHS
        or zlib.crc32(memoryview(value)[_CHECKSUM.size :]) != _CHECKSUM.unpack_from(value)[0]
    ):
        count = _count(cursor, end)
        return [DAMAGED] * (min(stop, count) - start)
    count, _ = _COUNT_AND_TIME.unpack_from(value, _CHECKSUM.size)
    return split_block(value, _LENGTHS, count, start, stop)


def _appended_ms(block: bytes) -> int:
    return int(_COUNT_AND_TIME.unpack_from(block, _CHECKSUM.size)[1]) if len(block) >= _LENGTHS else 0


def _seek_block_of(cursor: lmdb.Cursor, partition: int, position: int) -> None:
    """Put the cursor on the block that holds a position which is there."""
    key = _KEY.pack(partition, position)
    if not cursor.set_range(key):
        cursor.last()
    elif bytes(cursor.key()) != key:
        cursor.prev()


def _first(cursor: lmdb.Cursor) -> int:
    return int(_KEY.unpack(cursor.key())[1])


def _count(cursor: lmdb.Cursor, end: int) -> int:
    """How many records the block at the cursor has, by where the next one begins; leaves the cursor where it was."""
    key = bytes(cursor.key())
    partition, first = _KEY.unpack(key)
    has_next = cursor.next() and len(cursor.key()) == _KEY.size
    next_partition, next_first = _KEY.unpack(cursor.key()) if has_next else (None, 0)
    cursor.set_key(key)
    return int(next_first if next_partition == partition else end + 1) - int(first)
