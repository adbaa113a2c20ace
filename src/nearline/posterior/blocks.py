"""Many entities at once: their rows of features, and their beliefs in blocks of uneven size, without padding."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Columns, Floats, Ints
from nearline.errors import DataError
from nearline.kernels import _posterior
from nearline.posterior.gaussian import Gaussian

if TYPE_CHECKING:  # takes long to load
    from scipy.sparse import csr_array

Features: TypeAlias = "NDArray[np.float64] | NDArray[np.float32] | csr_array"


@final
@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """Feature rows grouped by entity; rows are pointed at, never copied.

    Attributes
    ----------
    count, columns : shape of the feature matrix.
    row_start : int64[entities + 1]; entity e owns row[row_start[e] : row_start[e + 1]].
    row : int64[grouped rows] into the feature matrix, or None where the matrix is in that order already.
    dense, dense32 : float64 or float32 [count, columns], or
    indptr, indices, values : int64, int32, float64, the CSR form.
    """

    count: int
    columns: int
    row_start: Ints
    row: Ints | None = None
    dense: Floats | None = None
    dense32: NDArray[np.float32] | None = None
    indptr: Ints | None = None
    indices: Columns | None = None
    values: Floats | None = None

    @property
    def entities(self) -> int:
        """How many entities the rows are grouped by."""
        return len(self.row_start) - 1

    @property
    def is_sparse(self) -> bool:
        """Whether the features are in CSR form."""
        return self.indptr is not None

    @property
    def rows_per_entity(self) -> Ints:
        """int64[entities]."""
        return np.diff(self.row_start)


def group_rows(
    features: Features, entity: NDArray[np.integer] | None = None, entities: int = 1
) -> FeatureRows:
    """Group rows by entity, keeping their order within each.

    `entity` : integers [rows] below `entities`, or None if all rows are of one entity; rows with a negative
    one are left out.
    """
    if features.ndim != 2:
        raise DataError(f"features: expected rows by columns, got shape {features.shape}")
    if not isinstance(features, np.ndarray) and features.format != "csr":
        raise DataError(f"features: expected an array or a CSR matrix, got {features.format}; call .tocsr()")
    count = features.shape[0]
    row: Ints | None = None
    if entity is None:
        start = np.array([0, count], dtype=np.int64)
    else:
        if entity.shape != (count,):
            raise DataError(f"entity: expected one value for each of {count} rows, got shape {entity.shape}")
        known = entity if count == 0 or entity.min() >= 0 else entity[entity >= 0]
        if known.size and int(known.max()) >= entities:
            raise DataError(f"entity: expected values below {entities}, got {int(known.max())}")
        start = np.concatenate([[0], np.cumsum(np.bincount(known, minlength=entities))]).astype(np.int64)
        if len(known) < count or np.any(np.diff(known) < 0):
            row = np.argsort(entity, kind="stable").astype(np.int64, copy=False)[count - len(known) :]
    if isinstance(features, np.ndarray):
        if features.dtype == np.float32:
            single = np.ascontiguousarray(features, dtype=np.float32)
            return FeatureRows(count, features.shape[1], start, row, dense32=single)
        double = np.ascontiguousarray(features, dtype=np.float64)
        return FeatureRows(count, features.shape[1], start, row, dense=double)
    return FeatureRows(
        count,
        features.shape[1],
        start,
        row,
        indptr=np.ascontiguousarray(features.indptr, dtype=np.int64),
        indices=np.ascontiguousarray(features.indices, dtype=np.int32),
        values=np.ascontiguousarray(features.data, dtype=np.float64),
    )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Gaussian blocks, one an entity, back to back.

    Attributes
    ----------
    start : int64[entities + 1]; entity e has the columns column[start[e] : start[e + 1]], ascending.
    column : int32[start[-1]], or None where each block is columns 0, 1, ...
    mean : float64[start[-1]]; of evidence blocks the shift (precision @ mean).
    precision : float64; if `full` the packed upper triangles, row by row, of each block in turn, beginning
        at packed_start[e]; else the diagonals, laid out like the mean.
    shared : one block over all columns that stands for every entity (the population prior).
    """

    start: Ints
    mean: Floats
    precision: Floats
    column: Columns | None = None
    packed_start: Ints | None = None
    full: bool = True
    shared: bool = False

    @property
    def entities(self) -> int:
        """How many blocks there are."""
        return len(self.start) - 1

    def belief(self, e: int) -> Gaussian:
        """The block of entity `e` by itself."""
        e = 0 if self.shared else e
        here = slice(int(self.start[e]), int(self.start[e + 1]))
        if not self.full:
            return Gaussian(self.mean[here], self.precision[here])
        assert self.packed_start is not None  # noqa: S101 - a full block always has it
        packed = self.precision[int(self.packed_start[e]) : int(self.packed_start[e + 1])]
        return Gaussian(self.mean[here], unpack(packed, here.stop - here.start))

    def columns_of(self, e: int) -> Columns:
        """The columns of entity `e`, int32, ascending."""
        begin, end = int(self.start[e]), int(self.start[e + 1])
        if self.column is None:
            return np.arange(end - begin, dtype=np.int32)
        return self.column[begin:end]


def unpack(packed: Floats, d: int) -> Floats:
    """Packed upper triangle, row by row -> symmetric [d, d]."""
    square = np.zeros((d, d))
    square[np.triu_indices(d)] = packed
    return square + np.triu(square, 1).T


def pack(square: Floats) -> Floats:
    """Symmetric [d, d] -> packed upper triangle, row by row."""
    return np.ascontiguousarray(square[np.triu_indices(square.shape[0])])


def packed_starts(start: Ints) -> Ints:
    """Where each block's packed triangle begins, for blocks of sizes diff(start): int64[entities + 1]."""
    d = start[1:] - start[:-1]
    packed_start = np.zeros(len(start), dtype=np.int64)
    np.cumsum(d * (d + 1) // 2, out=packed_start[1:])
    return packed_start


def empty_blocks(start: Ints, column: Columns | None, *, full: bool) -> Blocks:
    """Blocks of the given layout with their values not yet set."""
    size = int(start[-1])
    if not full:
        return Blocks(start, np.empty(size), np.empty(size), column, full=False)
    packed_start = packed_starts(start)
    return Blocks(start, np.empty(size), np.empty(int(packed_start[-1])), column, packed_start)


def whole_layout(entities: int, columns: int) -> Ints:
    """The `start` of blocks that all hold every column."""
    return np.arange(entities + 1, dtype=np.int64) * columns


def stack(beliefs: list[Gaussian], columns: list[Columns] | None = None) -> Blocks:
    """Blocks from single beliefs, all of them full or all diagonal."""
    start = np.concatenate([[0], np.cumsum([len(b.mean) for b in beliefs])]).astype(np.int64)
    column = None if columns is None else np.concatenate([np.zeros(0, np.int32), *columns])
    mean = np.concatenate([np.zeros(0), *(b.mean for b in beliefs)])
    if beliefs and beliefs[0].is_diagonal:
        precision = np.concatenate([b.precision for b in beliefs])
        return Blocks(start, mean, precision, column, full=False)
    precision = np.concatenate([np.zeros(0), *(pack(b.precision) for b in beliefs)])
    return Blocks(start, mean, precision, column, packed_starts(start))


def share(prior: Gaussian | Blocks) -> Blocks:
    """One belief over all columns that stands for every entity; what `share` made already comes back as it is."""
    if isinstance(prior, Blocks):
        return prior
    start = np.array([0, len(prior.mean)], dtype=np.int64)
    mean = np.ascontiguousarray(prior.mean, dtype=np.float64)
    if prior.is_diagonal:
        return Blocks(start, mean, np.ascontiguousarray(prior.precision), full=False, shared=True)
    return Blocks(start, mean, pack(prior.precision), packed_start=packed_starts(start), shared=True)


def active_layout(rows: FeatureRows, known: Blocks | None = None) -> tuple[Ints, Columns | None]:
    """`start` and `column` of blocks that hold the columns each entity's rows touch, and those it has already.

    Dense rows touch every column: their blocks are whole and need no column list.
    """
    if not rows.is_sparse:
        return whole_layout(rows.entities, rows.columns), None
    column, start = _posterior.active_columns(rows, known)
    return start, column
