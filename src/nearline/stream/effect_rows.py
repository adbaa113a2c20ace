"""All rows of one effect of a stream -> the few of them a step needs, grouped by entity.

The design matrix is made once for the whole stream. A step of a row or two then costs slices of its arrays, not
the making of matrices.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Columns, Csr, Floats, Ints
from nearline.posterior.blocks import FeatureRows


@final
@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """Some rows of an effect.

    rows : in the order they were asked for, grouped by the entities that have any; rows of no entity are in none.
    entity : int64[rows.entities], their numbers, ascending.
    time_ms : int64[rows.entities] of their rows, where rows were grouped by time too; else empty.
    """

    rows: FeatureRows
    entity: Ints
    time_ms: Ints


@final
class EffectRows:
    """Design matrix [n, columns] and entity int64[n] (-1: none) of every row of a stream."""

    def __init__(self, matrix: Csr, entity: Ints) -> None:
        self.columns = int(matrix.shape[1])
        self.entity = entity
        self._indptr: Ints = np.ascontiguousarray(matrix.indptr, dtype=np.int64)
        self._indices: Columns = np.ascontiguousarray(matrix.indices, dtype=np.int32)
        self._values: Floats = np.ascontiguousarray(matrix.data, dtype=np.float64)

    def at(self, index: Ints, time_ms: Ints | None = None) -> Grouped:
        """The rows numbered, in that order; with times, an entity is grouped apart for each time it has rows at."""
        indptr, indices, values = gather(self._indptr, self._indices, self._values, index)
        order, start, entity, times = _grouped(self.entity[index], time_ms)
        rows = FeatureRows(
            len(index), self.columns, start, order, indptr=indptr, indices=indices, values=values
        )
        return Grouped(rows, entity, times)

    def of_nobody(self) -> tuple[Ints, FeatureRows]:
        """The rows that have no entity: their numbers, and themselves, in one group."""
        index = np.flatnonzero(self.entity < 0)
        indptr, indices, values = gather(self._indptr, self._indices, self._values, index)
        start = np.array([0, len(index)], dtype=np.int64)
        rows = FeatureRows(len(index), self.columns, start, indptr=indptr, indices=indices, values=values)
        return index, rows


def gather(indptr: Ints, indices: Columns, values: Floats, index: Ints) -> tuple[Ints, Columns, Floats]:
    """The rows numbered of a matrix in compressed rows, in that order."""
    begin = indptr[index]
    size = indptr[index + 1] - begin
    start = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(size, out=start[1:])
    entry = np.repeat(begin - start[:-1], size) + np.arange(start[-1])
    return start, indices[entry], values[entry]


def _grouped(entity: Ints, time_ms: Ints | None) -> tuple[Ints, Ints, Ints, Ints]:
    """Order of the rows that have an entity, where each group starts in it, its entity, and its time."""
    order = entity.argsort(kind="stable") if time_ms is None else np.lexsort((time_ms, entity))
    ordered = entity[order]
    if len(ordered) and ordered[0] < 0:
        without = int(np.searchsorted(ordered, 0))
        order, ordered = order[without:], ordered[without:]
    change = ordered[1:] != ordered[:-1]
    times = np.zeros(0, dtype=np.int64)
    if time_ms is not None:
        times = time_ms[order]
        change |= times[1:] != times[:-1]
    inside = np.flatnonzero(change) + 1
    start = np.zeros(len(inside) + (2 if len(ordered) else 1), dtype=np.int64)
    if len(ordered):
        start[1:-1], start[-1] = inside, len(ordered)
    return order, start, ordered[start[:-1]], times[start[:-1]] if time_ms is not None else times
