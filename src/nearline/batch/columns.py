"""One table column to numbers, times, entities, or an error that says where the fault is."""

import difflib
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from nearline.arrays import ArrowArray, Columns, Floats, Ints
from nearline.errors import DataError
from nearline.model.examples import MISSING, EntityColumn

TimeUnit = Literal["s", "ms"]
_MS_PER_UNIT = {"s": 1000, "ms": 1}


@final
@dataclass(frozen=True, slots=True, eq=False)
class SourceColumn:
    """A column of a table, with what an error message needs to name it.

    source: what the table was read from; role: the key of the mapping that names the column.
    """

    source: str
    role: str
    name: str
    values: ArrowArray

    def fault(self, expected: str, row: int | None = None) -> DataError:
        """Return the error for a row (by default the first that is not null) of the wrong type or value."""
        at = _first(pc.is_valid(self.values)) if row is None else row
        where = f"{self.source}: column {self.name!r} ({self.role})"
        if at is None:
            return DataError(f"{where}: expected {expected}, found {self.values.type}")
        found = f"{self.values[at].as_py()!r} ({self.values.type})"
        return DataError(f"{where}, row {at}: expected {expected}, found {found}")


def find_column(table: pa.Table, name: str, role: str, source: str) -> SourceColumn:
    """Return the column of that name.

    Raises
    ------
    DataError
        There is none, or there are several; names that are spelt alike are suggested.
    """
    count = table.column_names.count(name)
    if count > 1:
        raise DataError(
            f"{source}: column {name!r} ({role}): expected one column of that name, found {count}"
        )
    if count == 0:
        near = difflib.get_close_matches(name, table.column_names, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        there = ", ".join(table.column_names) or "none"
        raise DataError(
            f"{source}: column {name!r} ({role}) is not in the table{hint} (its columns: {there})"
        )
    column: ArrowArray = table.column(name)
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pt.is_string(column.type) or pt.is_string_view(column.type):
        column = column.cast(pa.large_string())  # so that no table is too long to be in one piece
    return SourceColumn(source=source, role=role, name=name, values=column.combine_chunks())


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's string types."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type reads as a number: integers, floating point, decimals, booleans."""
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind))


def as_floats(values: ArrowArray) -> Floats:
    """Return a numeric, boolean or all-null array as float64[n]; null becomes NaN."""
    floats = values.cast(pa.float64(), safe=False)
    return np.asarray(floats.to_numpy(zero_copy_only=False), dtype=np.float64)


def numbers(column: SourceColumn) -> Floats:
    """Return a column of numbers or booleans, float64[n], NaN for null."""
    if not (is_number(column.values.type) or pt.is_null(column.values.type)):
        raise column.fault("a number or a boolean")
    return as_floats(column.values).copy()


def times_ms(column: SourceColumn, unit: TimeUnit) -> Ints:
    """Return a column of times, or of integers in `unit` since 1970 (UTC), in milliseconds, int64[n]."""
    kind = column.values.type
    row = _first(pc.is_null(column.values))
    if row is not None:
        raise column.fault("a time in every row", row)
    if pt.is_timestamp(kind) or pt.is_date(kind):
        stamps = column.values.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False)
        return np.asarray(stamps.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
    if not (pt.is_integer(kind) or pt.is_null(kind)):
        raise column.fault(f'a timestamp, or an integer in the time unit "{unit}"')
    integers = column.values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(integers, dtype=np.int64) * _MS_PER_UNIT[unit]


def entity_column(column: SourceColumn) -> EntityColumn:
    """Return a column of strings or integers as entities, in first-seen order; null is no entity."""
    kind = column.values.type
    if not (is_text(kind) or pt.is_integer(kind) or pt.is_null(kind)):
        raise column.fault("an entity as a string or an integer")
    codes, names = encode(column.values)
    return EntityColumn(codes=codes, names=names)


def encode(values: ArrowArray) -> tuple[Columns, pa.StringArray]:
    """Return int32 codes [n] (-1 for null) and the distinct values as strings, in first-seen order."""
    if pt.is_null(values.type):
        return np.full(len(values), MISSING, dtype=np.int32), pa.array([], type=pa.string())
    encoded = values.dictionary_encode()
    codes = encoded.indices.fill_null(MISSING).to_numpy(zero_copy_only=False)
    return np.asarray(codes, dtype=np.int32), encoded.dictionary.cast(pa.string())


def _first(mask: ArrowArray) -> int | None:
    """Return the position of the first true value, or None."""
    position = pc.index(mask, True).as_py()
    return None if position < 0 else int(position)
