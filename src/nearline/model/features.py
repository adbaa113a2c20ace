"""Named features to the columns of one effect's design matrix.

A feature is (bag, name, term, value): `("context", "genre", "Drama", 1.0)`. The features of many rows are
kept per bag as a sparse matrix over that bag's own columns; an effect gathers the bags it uses into its own
columns, which a `ColumnRegistry` numbers in the order in which they were first met and never renumbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array, csr_array

from nearline.arrays import ArrowArray, Columns, Csr, Floats
from nearline.errors import DataError
from nearline.kernels._vocabulary import Vocabulary
from nearline.model.strings import key_strings, one_string, string_column

INTERCEPT = ("", "(intercept)", "")
"""Bag, name and term of the intercept."""

_FIELDS = ("bag", "name", "term")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Bag:
    """The features of one bag, for many rows.

    matrix: shape (rows, keys), float64 with int32 indices; an entry is a value, no entry is no feature.
    names, terms: the key of each column of `matrix`, [keys], without nulls; each pair at most once.
    """

    matrix: Csr
    names: pa.StringArray
    terms: pa.StringArray

    def __post_init__(self) -> None:
        if self.matrix.dtype != np.float64 or self.matrix.indices.dtype != np.int32:
            found = f"{self.matrix.dtype} with {self.matrix.indices.dtype} indices"
            raise DataError(f"Bag.matrix: expected float64 with int32 indices, got {found}")
        if not len(self.names) == len(self.terms) == self.matrix.shape[1]:
            raise DataError(
                f"Bag: expected a name and a term for each of {self.matrix.shape[1]} columns, "
                f"got {len(self.names)} names and {len(self.terms)} terms"
            )
        if self.names.null_count or self.terms.null_count:
            raise DataError(
                'Bag: expected names and terms without nulls; write "" for a feature without a term'
            )

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Return a bag of `rows` rows without any feature."""
        matrix = csr_array((rows, 0), dtype=np.float64)
        none = pa.array([], type=pa.string())
        return cls(matrix=matrix, names=none, terms=none)

    def take(self, rows: np.ndarray[Any, Any]) -> "Bag":
        """Return the bag of the given rows (indices or a mask); the keys stay as they are."""
        return Bag(matrix=csr_array(self.matrix[rows]), names=self.names, terms=self.terms)


@final
class ColumnRegistry:
    """The columns of one effect: (bag, name, term) to column, append-only.

    The intercept, if there is one, is column 0. Because columns are only ever appended, the number of
    them (`version`) says which ones a model of an earlier day knew: the first so many.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *, intercept: bool = True) -> None:
        self._vocabulary = Vocabulary(len(INTERCEPT))
        if intercept:
            self._vocabulary.lookup([one_string(part) for part in INTERCEPT], add=True)

    @property
    def version(self) -> int:
        """The number of columns."""
        return len(self._vocabulary)

    def __len__(self) -> int:
        return self.version

    @property
    def has_intercept(self) -> bool:
        """Whether column 0 is the intercept."""
        found = self._vocabulary.lookup([one_string(part) for part in INTERCEPT], add=False)
        return int(found[0]) == 0

    def columns(self, bag: str, names: ArrowArray, terms: ArrowArray, *, grow: bool) -> Columns:
        """Return the column of each feature of a bag, int32[n]; unknown ones are appended if `grow`, else -1.

        names, terms: Arrow `string` or `large_string` arrays [n] without nulls.
        """
        keys = [one_string(bag), string_column(names), string_column(terms)]
        return self._vocabulary.lookup(keys, add=grow)

    def column(self, bag: str, name: str, term: str = "") -> int | None:
        """Return the column of one feature, or None if it is unknown."""
        found = self._vocabulary.lookup([one_string(bag), one_string(name), one_string(term)], add=False)
        return None if found[0] < 0 else int(found[0])

    def to_table(self, start: int = 0) -> pa.Table:
        """Return the columns from `start` on: column int32, bag, name, term string."""
        keys = [key_strings(self._vocabulary, part, start, self.version) for part in range(len(_FIELDS))]
        numbers = pa.array(np.arange(start, self.version, dtype=np.int32))
        return pa.table([numbers, *keys], names=["column", *_FIELDS])

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        """Return the registry that `to_table` wrote.

        Raises
        ------
        DataError
            A column of the table is missing, the numbers are not 0, 1, 2, ..., or a feature occurs twice.
        """
        missing = {"column", *_FIELDS} - set(table.column_names)
        if missing:
            raise DataError(
                f"column registry: expected columns column, bag, name, term; missing {sorted(missing)}"
            )
        numbers = np.from_dlpack(table.column("column").combine_chunks())  # `to_numpy` would load pandas
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise DataError("column registry: expected columns numbered 0, 1, 2, ... in order")
        registry = cls(intercept=False)
        keys = [string_column(_one_chunk(table.column(field))) for field in _FIELDS]
        found = registry._vocabulary.lookup(keys, add=True)
        if registry.version != len(numbers):
            first = int(np.flatnonzero(found != numbers)[0])
            raise DataError(
                f"column registry: the feature of column {first} is also that of column {found[first]}"
            )
        return registry

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ColumnRegistry):
            return NotImplemented
        return bool(self.to_table().equals(other.to_table()))

    def __repr__(self) -> str:
        return f"ColumnRegistry(version={self.version}, has_intercept={self.has_intercept})"


def effect_matrix(
    registry: ColumnRegistry, bags: Sequence[tuple[str, Bag]], *, intercept: bool, grow: bool
) -> tuple[Csr, int]:
    """Gather the bags of one effect into its design matrix, and count the features left out.

    Features the registry does not know are appended to it if `grow` (in the order of the bags and of their
    columns; only those that occur in a row), otherwise left out and counted. Values of the same feature in
    the same row add up.

    Returns
    -------
    matrix
        Shape (rows, registry.version), float64 with int32 indices sorted within each row; column 0 is 1 in
        every row if `intercept`.
    unknown
        The number of entries left out.

    Raises
    ------
    DataError
        The bags have different numbers of rows, or there is no bag to take it from.
    ValueError
        An intercept is asked of a registry that has none.
    """
    if intercept and not registry.has_intercept:
        raise ValueError("an intercept needs a registry made with intercept=True")
    rows = _common_length(bags)
    mapped = [_mapped_entries(registry, name, bag, grow=grow) for name, bag in bags]
    unknown = sum(
        len(bag.matrix.data) - len(columns) for (_, bag), (_, columns, _) in zip(bags, mapped, strict=True)
    )
    if intercept:
        every_row = np.arange(rows, dtype=np.int32)
        mapped.insert(0, (every_row, np.zeros(rows, dtype=np.int32), np.ones(rows)))
    row, column, value = (np.concatenate([part[i] for part in mapped]) for i in range(3))
    # This sorts a row, and adds up its duplicates, only where its columns do not already rise.
    return coo_array((value, (row, column)), shape=(rows, registry.version)).tocsr(), unknown


def feature_labels(registry: ColumnRegistry) -> list[str]:
    """The feature of each column, for people: its name, or "name = term"."""
    table = registry.to_table()
    names: list[str] = [str(name) for name in table.column("name").to_pylist()]
    terms: list[str] = [str(term) for term in table.column("term").to_pylist()]
    return [name if term == "" else f"{name} = {term}" for name, term in zip(names, terms, strict=True)]


def _common_length(bags: Sequence[tuple[str, Bag]]) -> int:
    if not bags:
        raise DataError("an effect needs at least one bag; for an intercept alone give Bag.empty(rows)")
    lengths = {name: len(bag) for name, bag in bags}
    if len(set(lengths.values())) > 1:
        raise DataError(f"expected bags of the same number of rows, got {lengths}")
    return next(iter(lengths.values()))


def _mapped_entries(
    registry: ColumnRegistry, name: str, bag: Bag, *, grow: bool
) -> tuple[Columns, Columns, Floats]:
    """Return row, column in the effect and value of each entry of the bag that has a column."""
    matrix = bag.matrix
    column_of = np.full(matrix.shape[1], -1, dtype=np.int32)
    used = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    column_of[used] = registry.columns(name, bag.names.take(used), bag.terms.take(used), grow=grow)
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    columns = column_of[matrix.indices]
    if grow or column_of[used].min(initial=0) >= 0:
        return rows, columns, matrix.data
    known = columns >= 0
    return rows[known], columns[known], matrix.data[known]


def _one_chunk(column: ArrowArray) -> ArrowArray:
    return column.cast(pa.large_string()).combine_chunks()
