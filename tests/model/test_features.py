"""Named features to columns, against the obvious loop over dicts."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from nearline.errors import DataError
from nearline.model.features import INTERCEPT, Bag, ColumnRegistry, effect_matrix

keys = st.tuples(st.sampled_from(["", "genre", "age", "年"]), st.sampled_from(["", "x", "y", "\0"]))
values = st.floats(-100, 100, allow_nan=False).filter(bool)
rows_of_features = st.lists(st.lists(st.tuples(keys, values), max_size=5), min_size=1, max_size=8)


def bag_of(rows):
    """The bag of rows of ((name, term), value), each feature kept once for each time it occurs."""
    known = {}
    for row in rows:
        for key, _ in row:
            known.setdefault(key, len(known))
    indptr = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32)
    indices = np.array([known[key] for row in rows for key, _ in row], dtype=np.int32)
    data = np.array([value for row in rows for _, value in row], dtype=np.float64)
    matrix = csr_array((data, indices, indptr), shape=(len(rows), len(known)))
    names, terms = ([key[part] for key in known] for part in (0, 1))
    return Bag(matrix=matrix, names=pa.array(names, pa.string()), terms=pa.array(terms, pa.string()))


def reference(registry, bags, *, intercept):
    dense = np.zeros((len(bags[0][1]), registry.version))
    if intercept:
        dense[:, 0] = 1.0
    unknown = 0
    for name, rows in bags:
        for i, row in enumerate(rows):
            for key, value in row:
                column = registry.column(name, *key)
                if column is None:
                    unknown += 1
                else:
                    dense[i, column] += value
    return dense, unknown


@given(rows_of_features, rows_of_features, st.booleans(), st.booleans())
def test_an_effects_matrix_is_that_of_the_obvious_loop(first, second, intercept, grow):
    second = (second * len(first))[: len(first)]
    registry = ColumnRegistry(intercept=intercept)
    registry.columns("b", pa.array(["genre"]), pa.array(["x"]), grow=True)
    bags = [("a", bag_of(first)), ("b", bag_of(second))]
    matrix, unknown = effect_matrix(registry, bags, intercept=intercept, grow=grow)
    expected, expected_unknown = reference(registry, [("a", first), ("b", second)], intercept=intercept)
    np.testing.assert_allclose(matrix.toarray(), expected, atol=1e-12)
    assert unknown == expected_unknown
    assert matrix.shape == (len(first), registry.version)
    assert matrix.dtype == np.float64
    assert matrix.indices.dtype == np.int32
    assert matrix.has_canonical_format


@given(rows_of_features, rows_of_features)
def test_growing_never_renumbers_a_column(first, second):
    registry = ColumnRegistry()
    effect_matrix(registry, [("a", bag_of(first))], intercept=True, grow=True)
    before = registry.to_table()
    effect_matrix(registry, [("a", bag_of(second))], intercept=True, grow=True)
    assert registry.to_table().slice(0, len(before)).equals(before)
    assert registry.to_table(len(before)).num_rows == registry.version - len(before)


@given(rows_of_features, st.booleans())
def test_a_registry_comes_back_from_its_table_and_from_a_pickle(rows, intercept):
    registry = ColumnRegistry(intercept=intercept)
    effect_matrix(registry, [("a", bag_of(rows))], intercept=False, grow=True)
    assert ColumnRegistry.from_table(registry.to_table()) == registry
    assert pickle.loads(pickle.dumps(registry)) == registry  # noqa: S301
    assert registry.has_intercept == intercept


@given(rows_of_features)
def test_known_rows_leave_nothing_out(rows):
    registry = ColumnRegistry()
    grown, _ = effect_matrix(registry, [("a", bag_of(rows))], intercept=True, grow=True)
    again, unknown = effect_matrix(registry, [("a", bag_of(rows))], intercept=True, grow=False)
    assert unknown == 0
    assert (grown != again).nnz == 0


def test_features_that_occur_in_no_row_get_no_column():
    bag = bag_of([[(("genre", "x"), 1.0)], [(("genre", "y"), 1.0)]]).take(np.array([1]))
    registry = ColumnRegistry()
    effect_matrix(registry, [("a", bag)], intercept=True, grow=True)
    assert registry.to_table().to_pylist() == [
        {"column": 0, "bag": "", "name": "(intercept)", "term": ""},
        {"column": 1, "bag": "a", "name": "genre", "term": "y"},
    ]


def test_the_same_feature_of_two_bags_has_two_columns():
    registry = ColumnRegistry(intercept=False)
    one = pa.array(["genre"])
    assert registry.columns("a", one, one, grow=True).tolist() == [0]
    assert registry.columns("b", one, one, grow=True).tolist() == [1]
    assert registry.column("a", "genre", "genre") == 0
    assert registry.column("c", "genre", "genre") is None


def test_registries_with_other_columns_are_not_equal():
    assert ColumnRegistry() != ColumnRegistry(intercept=False)
    assert ColumnRegistry() != INTERCEPT


def test_an_effect_of_an_intercept_alone_takes_an_empty_bag():
    matrix, _ = effect_matrix(ColumnRegistry(), [("none", Bag.empty(3))], intercept=True, grow=True)
    assert matrix.toarray().tolist() == [[1.0], [1.0], [1.0]]


def test_bags_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="same number of rows"):
        effect_matrix(ColumnRegistry(), [("a", Bag.empty(1)), ("b", Bag.empty(2))], intercept=True, grow=True)
    with pytest.raises(DataError, match="at least one bag"):
        effect_matrix(ColumnRegistry(), [], intercept=True, grow=True)


def test_an_intercept_needs_its_column():
    with pytest.raises(ValueError, match="intercept=True"):
        effect_matrix(ColumnRegistry(intercept=False), [("a", Bag.empty(1))], intercept=True, grow=True)


def test_a_bag_needs_a_key_for_every_column():
    matrix = csr_array(np.ones((1, 2)))
    with pytest.raises(DataError, match="a name and a term for each of 2 columns"):
        Bag(matrix=matrix, names=pa.array(["a"]), terms=pa.array(["a"]))
    with pytest.raises(DataError, match="without nulls"):
        Bag(matrix=matrix, names=pa.array(["a", None]), terms=pa.array(["a", "b"]))
    with pytest.raises(DataError, match="float64"):
        Bag(matrix=matrix.astype(np.float32), names=pa.array(["a", "b"]), terms=pa.array(["a", "b"]))


def test_a_registry_table_with_gaps_or_repetitions_is_refused():
    table = ColumnRegistry().to_table()
    with pytest.raises(DataError, match="numbered 0, 1, 2"):
        ColumnRegistry.from_table(pa.concat_tables([table, table]))
    twice = pa.concat_tables([table, table]).set_column(0, "column", pa.array([0, 1], pa.int32()))
    with pytest.raises(DataError, match="column 1 is also that of column 0"):
        ColumnRegistry.from_table(twice)
    with pytest.raises(DataError, match="missing \\['term'\\]"):
        ColumnRegistry.from_table(table.drop_columns(["term"]))
