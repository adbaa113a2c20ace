"""Examples -> the rows of each entity: who they are, which rows an effect learns from, and in which order."""

from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.arrays import ArrowArray, Csr, Floats, Ints
from nearline.batch.settings import RandomSettings
from nearline.model.effects import RandomEffect
from nearline.model.examples import EntityColumn
from nearline.posterior.blocks import group_rows


@final
class GroupedRows:
    """Rows brought into the order of their entities once, so that every later pass reads memory in order."""

    def __init__(self, matrix: Csr, entity: Ints, entities: int) -> None:
        self._count = len(entity)
        self._order = np.argsort(entity, kind="stable")[np.count_nonzero(entity < 0) :]
        self.rows = group_rows(matrix[self._order], entity[self._order], entities)

    def take(self, values: Floats) -> Floats:
        """Values of all examples -> of the grouped rows."""
        return values[self._order]

    def put(self, values: Floats) -> Floats:
        """Values of the grouped rows -> of all examples; 0 for those left out."""
        out = np.zeros(self._count)
        out[self._order] = values
        return out


def number_entities(column: EntityColumn, start: RandomEffect | None) -> tuple[pa.StringArray, Ints]:
    """Names of all entities, those of `start` first, and the number of each row's entity (-1: none)."""
    codes = column.codes
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(column.names)))
    seen = _at(column.names, used)
    known = start.names if start is not None else pa.array([], pa.string())
    place_of: ArrowArray = pc.index_in(seen, known)
    new = np.flatnonzero(place_of.is_null().to_numpy(zero_copy_only=False))
    names: Any = pa.concat_arrays([known.cast(pa.string()), _at(seen, new).cast(pa.string())])
    place = pc.index_in(column.names, names).fill_null(-1).to_numpy(zero_copy_only=False)
    return names, np.append(place, -1)[codes].astype(np.int64)


def _at(names: ArrowArray, places: NDArray[np.integer[Any]]) -> ArrowArray:
    return names.take(pa.array(places))


def rows_to_learn(entity: Ints, known_rows: Ints, settings: RandomSettings) -> NDArray[np.bool_]:
    """Which rows an effect learns from: not those of entities below the lower bound, and a sample above the cap.

    `known_rows` int64[entities] were learned before and count towards the lower bound. The sample keeps the rows whose
    mixed index is smallest: always the same ones.
    """
    learned = entity >= 0
    count = np.bincount(entity[learned], minlength=len(known_rows))
    learned &= np.append(count + known_rows, 0)[entity] >= settings.min_rows
    if settings.max_rows is not None:
        order = np.lexsort((_mixed(np.arange(len(entity), dtype=np.uint64)), entity))
        first = np.cumsum(np.append(0, count))[:-1] + np.count_nonzero(entity < 0)
        rank = np.arange(len(entity)) - np.append(first, 0)[entity[order]]
        learned[order[rank >= settings.max_rows]] = False
    return learned


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): bits that look random."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stray_rows(matrix: Csr, entity: Ints) -> Csr:
    """The rows without an entity, all others emptied."""
    stray = matrix.copy()
    stray.data = stray.data * np.repeat(entity < 0, np.diff(stray.indptr))
    stray.eliminate_zeros()
    return stray
