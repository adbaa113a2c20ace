"""X as scikit-learn passes it (an array, a sparse matrix, a data frame) -> examples."""

from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import assert_all_finite

from nearline.arrays import ArrowArray, Csr, Floats
from nearline.batch.reading import read_table
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.estimators.layout import Layout
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag

_LARGEST_WHOLE = 2.0**53
"""Up to here float64 tells whole numbers apart."""
_LARGEST_INT32 = np.iinfo(np.int32).max


def is_frame(x: Any) -> bool:
    """Return whether X is a data frame whose columns have names."""
    if not nw.dependencies.is_into_dataframe(x):
        return False
    return all(isinstance(name, str) for name in nw.from_native(x, eager_only=True).columns)


def frame_table(x: Any) -> pa.Table:
    """Return the columns of a data frame as a table, without the index it may have."""
    return read_table(x).select(list(nw.from_native(x, eager_only=True).columns))


def array_examples(layout: Layout, x: Any) -> Examples:
    """Return the rows of a matrix of finite numbers, float64[n, columns] or CSR, without responses."""
    rows = x.shape[0]
    return Examples(
        response=np.full(rows, np.nan),
        bags={
            bag: Bag(
                _features(x, columns),
                pa.array(layout.column_names(columns), pa.string()),
                pa.array([""] * len(columns), pa.string()),
            )
            for bag, columns in layout.bags.items()
        },
        entities={layout.names[at]: _entities(x, at) for at in layout.entities},
    )


def _features(x: Any, columns: tuple[int, ...]) -> Csr:
    """Return the chosen columns as CSR with int32 indices, without entries of value 0."""
    chosen = x if columns == tuple(range(x.shape[1])) else x[:, list(columns)]
    if not issparse(chosen) and np.count_nonzero(chosen) == chosen.size:
        rows, width = chosen.shape
        indices = np.tile(np.arange(width, dtype=np.int32), rows)
        start = _narrow(np.arange(rows + 1, dtype=np.int64) * width)
        matrix: Csr = csr_array((np.ascontiguousarray(chosen).ravel(), indices, start), shape=chosen.shape)
    else:
        matrix = csr_array(chosen, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
    if matrix.indices.dtype != np.int32:
        matrix = csr_array(
            (matrix.data, matrix.indices.astype(np.int32), _narrow(matrix.indptr)), shape=matrix.shape
        )
    return matrix


def _narrow(start: NDArray[Any]) -> NDArray[Any]:
    """Return where each row starts, as int32 if that is wide enough."""
    return start.astype(np.int32) if start[-1] <= _LARGEST_INT32 else start


def _entities(x: Any, column: int) -> EntityColumn:
    values: Any = x[:, [column]]
    dense = values.toarray() if issparse(x) else values
    named = _named_numbers(np.asarray(dense, dtype=np.float64).ravel())
    return EntityColumn(named.indices.to_numpy(), named.dictionary)


def _named_numbers(values: Floats) -> ArrowArray:
    """Return what to call entities that are numbers: a whole number by its digits, any other as it is printed."""
    encoded: ArrowArray = pa.array(values + 0.0).dictionary_encode()  # + 0.0 makes one entity of 0.0 and -0.0
    distinct = encoded.dictionary.to_numpy()
    whole = (np.trunc(distinct) == distinct) & (np.abs(distinct) < _LARGEST_WHOLE)
    digits: ArrowArray = pa.array(np.where(whole, distinct, 0.0).astype(np.int64))
    names = pc.if_else(pa.array(whole), digits.cast(pa.string()), encoded.dictionary.cast(pa.string()))
    return pa.DictionaryArray.from_arrays(encoded.indices, names)


def table_examples(layout: Layout, table: pa.Table, *, estimator: str) -> Examples:
    """Return the rows of a table with the columns of the layout, without responses.

    Numbers become features of the name of their column, strings features of that name whose term is the string
    (`nearline.batch.feature_columns` lists all kinds). Null in an entity column is no entity.

    Raises
    ------
    ValueError
        A feature is missing or not finite, as scikit-learn words it for `estimator`.
    DataError
        A column is of a kind that cannot be a feature or an entity.
    """
    for columns in layout.bags.values():
        for name in layout.column_names(columns):
            _require_finite(table.column(name), estimator)
    for at in layout.entities:
        table = _with_named_entities(table, layout.names[at], estimator)
    mapping = TableMapping(
        response="",
        entities={name: name for name in layout.column_names(layout.entities)},
        bags={bag: layout.column_names(columns) for bag, columns in layout.bags.items()},
    )
    return examples_from_table(table, mapping, source="X", labelled=False)


def _require_finite(column: ArrowArray, estimator: str) -> None:
    values: NDArray[Any] | None = None
    if column.null_count:
        values = np.array([np.nan])
    elif pt.is_floating(column.type):
        values = column.to_numpy()
    if values is not None:
        assert_all_finite(values, estimator_name=estimator, input_name="X")


def _with_named_entities(table: pa.Table, name: str, estimator: str) -> pa.Table:
    """Return the table with an entity column of floating-point numbers or booleans made names."""
    column: ArrowArray = table.column(name)
    if pt.is_floating(column.type):
        _require_finite(column, estimator)
        named: ArrowArray = _named_numbers(column.to_numpy().astype(np.float64))
    elif pt.is_boolean(column.type):
        named = column.cast(pa.string())
    else:
        return table
    return table.set_column(table.column_names.index(name), name, named)


def array_names(columns: int, named: Any) -> tuple[str, ...]:
    """Return the names of the columns of X: those scikit-learn found, else x0, x1, ..."""
    if named is not None:
        return tuple(str(name) for name in named)
    return tuple(f"x{at}" for at in range(columns))


def entity_name(entity: Any) -> str:
    """Return what an entity of any type is called among the examples."""
    if isinstance(entity, float | np.floating):
        return str(_named_numbers(np.array([entity], dtype=np.float64)).dictionary[0])
    return str(entity).lower() if isinstance(entity, bool) else str(entity)


def checked_offset(offset: Any, rows: int) -> Floats:
    """Return the offset of each row on the scale of the linear predictor, float64[rows]; 0 if None.

    Raises `ValueError` if it has another length or is not finite.
    """
    if offset is None:
        return np.zeros(rows)
    values = np.array(offset, dtype=np.float64)
    if values.shape != (rows,):
        raise ValueError(f"offset: expected {rows} numbers, one for each row of X, got shape {values.shape}")
    assert_all_finite(values, input_name="offset")
    return values
