"""Table columns of any kind to the features of one bag.

================================  ===============================================
column                            features of a row
================================  ===============================================
number, boolean                   (column, "", value)
string                            (column, the string, 1)
list of strings                   (column, the string, 1) for each
list of numbers, any or one size  (column, "0", value), (column, "1", value), ...
list of {name, term, value}       (name, term, value) for each
map of strings to numbers         (column, key, value) for each
================================  ===============================================

Null is no feature, and so is the value 0. The same feature twice in a row adds up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from numpy.typing import NDArray
from scipy.sparse import coo_array

from nearline.arrays import ArrowArray, Columns, Floats, Ints
from nearline.batch.columns import SourceColumn, as_floats, encode, is_number, is_text
from nearline.kernels._vocabulary import Vocabulary
from nearline.model.features import Bag
from nearline.model.strings import key_strings, string_column

_KINDS = "a number, a boolean, a string, or a list or map of them"


@final
@dataclass(frozen=True, slots=True, eq=False)
class ColumnFeatures:
    """The features of one column.

    rows, keys: int32[entries], the row and the position of the key in `names` and `terms`.
    values: float64[entries], none of them 0.
    names, terms: [keys].
    """

    rows: Columns
    keys: Columns
    values: Floats
    names: pa.StringArray
    terms: pa.StringArray


def bag_of(parts: Sequence[ColumnFeatures], rows: int) -> Bag:
    """Return the bag of `rows` rows with the features of all `parts`."""
    if not parts:
        return Bag.empty(rows)
    vocabulary = Vocabulary()
    of_part = [_add_keys(vocabulary, part.names, part.terms) for part in parts]
    keys = np.concatenate([columns[part.keys] for columns, part in zip(of_part, parts, strict=True)])
    row = np.concatenate([part.rows for part in parts])
    value = np.concatenate([part.values for part in parts])
    matrix = coo_array((value, (row, keys)), shape=(rows, len(vocabulary))).tocsr()
    return Bag(matrix, *_keys(vocabulary))


def column_features(column: SourceColumn) -> ColumnFeatures:
    """Return the features of a column.

    Raises
    ------
    DataError
        The column is of a kind that is not in the table above; names it and its first such row.
    """
    kind = column.values.type
    if is_text(kind) or pt.is_null(kind):
        return _from_strings(column.name, np.arange(len(column.values)), column.values)
    if is_number(kind):
        return _from_numbers(column)
    if pt.is_map(kind):
        return _from_map(column)
    if not _is_list(kind):
        raise column.fault(_KINDS)
    rows, positions, items = _elements(column.values)
    if pt.is_dictionary(items.type):
        items = items.cast(items.type.value_type)
    if is_text(items.type) or pt.is_null(items.type):
        return _from_strings(column.name, rows, items)
    if is_number(items.type):
        return _from_vectors(column.name, rows, positions, items)
    if pt.is_struct(items.type):
        return _from_name_term_value(column, rows, items)
    raise column.fault(_KINDS)


def _from_numbers(column: SourceColumn) -> ColumnFeatures:
    array = column.values
    keys = np.zeros(len(array), dtype=np.int32)
    values = np.where(_valid(array), as_floats(array), 0.0)
    return _present(np.arange(len(array)), keys, values, pa.array([column.name]), pa.array([""]))


def _from_strings(name: str, rows: Ints, items: ArrowArray) -> ColumnFeatures:
    codes, terms = encode(items)
    return _present(rows, codes, (codes >= 0).astype(np.float64), _repeat(name, len(terms)), terms)


def _from_vectors(name: str, rows: Ints, positions: Ints, items: ArrowArray) -> ColumnFeatures:
    terms = pa.array([str(i) for i in range(int(positions.max(initial=-1)) + 1)], type=pa.string())
    values = np.where(_valid(items), as_floats(items), 0.0)
    return _present(rows, positions, values, _repeat(name, len(terms)), terms)


def _from_map(column: SourceColumn) -> ColumnFeatures:
    array = column.values
    if not (is_text(array.type.key_type) and is_number(array.type.item_type)):
        raise column.fault("a map of strings to numbers")
    rows, _, at = _spread(array, array.offsets.to_numpy())
    items = array.items.take(pa.array(at))
    codes, terms = encode(array.keys.take(pa.array(at)))
    values = np.where(_valid(items), as_floats(items), 0.0)
    return _present(rows, codes, values, _repeat(column.name, len(terms)), terms)


def _from_name_term_value(column: SourceColumn, rows: Ints, items: ArrowArray) -> ColumnFeatures:
    kinds = {items.type.field(i).name: items.type.field(i).type for i in range(items.type.num_fields)}
    fine = is_text(kinds.get("name", pa.null())) and is_number(kinds.get("value", pa.null()))
    if not (fine and is_text(kinds.get("term", pa.string()))):
        raise column.fault("a list of {name: string, term: string, value: number}")
    there = _valid(items)
    rows, items = rows[there], items.filter(pa.array(there))
    names: ArrowArray = pc.struct_field(items, "name").cast(pa.large_string())
    if names.null_count:
        raise column.fault("a name for every feature", int(rows[~_valid(names)][0]))
    terms: ArrowArray = _repeat("", len(items))
    if "term" in kinds:
        terms = pc.struct_field(items, "term").cast(pa.large_string()).fill_null("")
    vocabulary = Vocabulary()
    keys = _add_keys(vocabulary, names, terms)
    value: ArrowArray = pc.struct_field(items, "value")
    return _present(rows, keys, np.where(_valid(value), as_floats(value), 0.0), *_keys(vocabulary))


def _present(
    rows: Ints, keys: NDArray[Any], values: Floats, names: pa.StringArray, terms: pa.StringArray
) -> ColumnFeatures:
    """Return the features whose value is not 0."""
    there = values != 0.0
    if not there.all():
        rows, keys, values = rows[there], keys[there], values[there]
    return ColumnFeatures(rows.astype(np.int32), keys.astype(np.int32), values, names, terms)


def _add_keys(vocabulary: Vocabulary, names: ArrowArray, terms: ArrowArray) -> Columns:
    return vocabulary.lookup([string_column(names), string_column(terms)], add=True)


def _keys(vocabulary: Vocabulary) -> tuple[pa.StringArray, pa.StringArray]:
    names, terms = (key_strings(vocabulary, part, 0, len(vocabulary)) for part in (0, 1))
    return names, terms


def _is_list(kind: pa.DataType) -> bool:
    kinds = (pt.is_list, pt.is_large_list, pt.is_fixed_size_list, pt.is_list_view, pt.is_large_list_view)
    return any(is_kind(kind) for is_kind in kinds)


def _elements(array: ArrowArray) -> tuple[Ints, Ints, ArrowArray]:
    """Return the row, the position in its list and the value of every element, null lists aside."""
    if pt.is_fixed_size_list(array.type):
        starts = (array.offset + np.arange(len(array) + 1)) * array.type.list_size
    else:
        starts = array.offsets.to_numpy()
    if pt.is_list_view(array.type) or pt.is_large_list_view(array.type):
        rows, positions, at = _spread(array, starts, array.sizes.to_numpy())
    else:
        rows, positions, at = _spread(array, starts)
    return rows, positions, array.values.take(pa.array(at))


def _spread(
    array: ArrowArray, starts: NDArray[Any], lengths: NDArray[Any] | None = None
) -> tuple[Ints, Ints, Ints]:
    """Return of every element its row, its position in its list, and where it lies in the child array.

    starts: where each list starts in the child array; lengths: by default up to the start of the next.
    """
    lengths = np.diff(starts) if lengths is None else lengths
    lengths = np.where(_valid(array), lengths, 0).astype(np.int64)
    starts = starts[: len(array)].astype(np.int64)
    rows = np.repeat(np.arange(len(array)), lengths)
    first = np.cumsum(lengths) - lengths
    positions = np.arange(len(rows)) - first[rows]
    return rows, positions, starts[rows] + positions


def _valid(array: ArrowArray) -> NDArray[np.bool_]:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _repeat(text: str, count: int) -> pa.StringArray:
    return pa.repeat(pa.scalar(text, pa.string()), count)
