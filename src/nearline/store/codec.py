"""Records <-> bytes, one value an entity, in a layout that any language can read.

Little endian, without gaps but for the padding named here; d is the number of columns::

    offset  type      what
    0       u8        format version: 1
    1       u8        form: bit 0 a full precision (else its diagonal), bit 1 precision in float32 (else float64)
    2       u16       zero
    4       u32       d
    8       u64       checksum
    16      i64       version, at least 1
    24      i64       position
    32      i64       as_of_ms
    40      i64       rows
    48      i32[d]    columns, ascending; then zeros up to a multiple of 8 bytes
    .       f64[d]    shift
    .       f64 or f32[d (d + 1) / 2 or d]
                      the packed upper triangle of the precision row by row, or its diagonal; then zeros up to a
                      multiple of 8 bytes

The checksum, with the record taken as unsigned words w[0], w[1], ... of 64 bits, is::

    sum over i != 1 of (w[i] xor (w[i] >> 32)) * m[i]  mod 2^64,    m[i] = ((i + 1) * 0x9E3779B97F4A7C15 mod 2^64) | 1

Each term is a one-to-one function of its word, so damage within one word is always found, and any other is missed
once in 2^64 times.

A record in float32 takes half the room; what was learned is rounded when it is written, so whoever learns on must
begin from the record as it was stored.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Bools
from nearline.errors import ModelError
from nearline.kernels import _codec
from nearline.posterior.blocks import empty_blocks
from nearline.store.records import Records

FORMAT_VERSION = 1
FULL, SINGLE = 1, 2
_VERSION = Struct("<q")
_VERSION_AT = 16
_FAULTS = (  # in the order of the kernel
    "",
    "expected at least 48 bytes: it is damaged",
    f"expected a format version up to {FORMAT_VERSION}: it is damaged, or needs a newer nearline",
    "expected the head of a record: it is damaged",
    "expected a {expected} precision, got a {found} one",
    "expected another number of bytes for its columns: it is damaged",
    "its checksum does not fit: it is damaged",
    "expected columns that ascend from 0 or above",
    "expected a version of 1 or above and a count of rows",
    "expected finite numbers",
)

Value: TypeAlias = bytes | memoryview
"""An encoded record."""


def encode_records(records: Records, *, single: bool = False) -> list[bytes]:
    """One value for each record; the precision in float32 if `single`.

    Raises
    ------
    ModelError
        A version is below 1, a number of the evidence is not finite, or too large for float32.
    """
    evidence = records.evidence
    _require_writable(records, single)
    starts = evidence.packed_start if evidence.full else evidence.start
    assert starts is not None and evidence.column is not None  # noqa: S101, PT018 - records always have them
    return _codec.encode(
        evidence.full,
        single,
        evidence.start,
        starts,
        records.version,
        records.position,
        records.as_of_ms,
        records.rows,
        evidence.column,
        evidence.mean,
        evidence.precision,
    )


def decode_records(values: Sequence[Value | None], *, full: bool) -> Records:
    """The records of `values`, in order; None stands for an entity nobody has seen.

    Raises
    ------
    ModelError
        A value is no record, of a newer format, damaged, or not in the form that `full` says.
    """
    listed = list(values)
    size, fault = _codec.sizes(listed, full)
    _require_sound(fault, full)
    start = np.zeros(len(listed) + 1, dtype=np.int64)
    np.cumsum(size, out=start[1:])
    evidence = empty_blocks(start, column := np.empty(int(start[-1]), dtype=np.int32), full=full)
    starts = evidence.packed_start if full else start
    assert starts is not None  # noqa: S101 - of full blocks it was made
    numbers = np.empty((4, len(listed)), dtype=np.int64)
    version, position, as_of_ms, rows = numbers
    counts = version, position, as_of_ms, rows
    fault = _codec.decode(listed, full, start, starts, *counts, column, evidence.mean, evidence.precision)
    _require_sound(fault, full)
    return Records(version, position, as_of_ms, rows, evidence)


def decode_named(effect: str, names: Sequence[str], values: Sequence[Value | None], *, full: bool) -> Records:
    """The same, but the error says which entity of which effect it is."""
    try:
        return decode_records(values, full=full)
    except ModelError:
        for name, value in zip(names, values, strict=True):
            try:
                decode_records([value], full=full)
            except ModelError as error:
                raise ModelError(f"{effect}: entity {name!r}: {error}") from error
        raise


def versions_of(values: Iterable[Value | None]) -> list[int]:
    """The version of each value that `encode_records` wrote, 0 of None; nothing else of it is looked at."""
    return [0 if value is None else _VERSION.unpack_from(value, _VERSION_AT)[0] for value in values]


def _require_sound(fault: NDArray[np.int8], full: bool) -> None:
    if fault.any():
        first = int(np.flatnonzero(fault)[0])
        expected, found = ("full", "diagonal") if full else ("diagonal", "full")
        raise ModelError(f"record {first}: {_FAULTS[fault[first]].format(expected=expected, found=found)}")


def _require_writable(records: Records, single: bool) -> None:
    evidence = records.evidence
    _require(records.version > 0, "expected a version of 1 or above")
    starts = evidence.packed_start if evidence.full else evidence.start
    for numbers, begin in ((evidence.mean, evidence.start), (evidence.precision, starts)):
        if begin is None or np.isfinite(numbers).all():
            continue
        bad = int(np.searchsorted(begin, np.flatnonzero(~np.isfinite(numbers))[0], side="right")) - 1
        raise ModelError(f"record {bad}: expected finite numbers")
    if single and len(evidence.precision):
        largest = float(np.abs(evidence.precision).max())
        if largest > float(np.finfo(np.float32).max):
            raise ModelError(f"expected precisions that float32 can hold, got {largest:g}: use float64")


def _require(sound: Bools, expected: str) -> None:
    if not sound.all():
        raise ModelError(f"record {int(np.flatnonzero(~sound)[0])}: {expected}")
