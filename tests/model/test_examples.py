"""Examples: shapes, subsets, splits and the rows that cannot be learned from."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from nearline.errors import DataError
from nearline.model.examples import EntityColumn, Examples, finite_rows, split_random
from nearline.model.features import Bag


def bag(dense):
    matrix = csr_array(np.asarray(dense, dtype=np.float64))
    keys = [f"x{i}" for i in range(matrix.shape[1])]
    return Bag(matrix=matrix, names=pa.array(keys), terms=pa.array([""] * len(keys)))


def examples(n, **others):
    user = EntityColumn(codes=np.arange(n, dtype=np.int32) % 3 - 1, names=pa.array(["ann", "bob"]))
    features = bag(np.arange(2.0 * n).reshape(n, 2))
    return Examples(response=np.arange(float(n)), bags={"b": features}, entities={"user": user}, **others)


@given(st.integers(0, 40), st.data())
def test_taking_rows_takes_them_everywhere(n, data):
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=10)) if n else [], dtype=np.int64)
    all_rows = examples(n, time_ms=np.arange(n))
    taken = all_rows.take(rows)
    np.testing.assert_array_equal(taken.response, rows)
    np.testing.assert_array_equal(taken.time_ms, rows)
    np.testing.assert_array_equal(taken.bags["b"].matrix.toarray(), all_rows.bags["b"].matrix.toarray()[rows])
    np.testing.assert_array_equal(taken.entities["user"].codes, rows % 3 - 1)


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 5))
def test_a_random_split_parts_the_rows_in_the_given_ratio_and_keeps_their_order(n, fraction, seed):
    first, second = split_random(examples(n), fraction, seed)
    assert len(first) == round(fraction * n)
    np.testing.assert_array_equal(np.sort(np.concatenate([first.response, second.response])), np.arange(n))
    assert np.all(np.diff(first.response) > 0)
    assert np.all(np.diff(second.response) > 0)
    again, _ = split_random(examples(n), fraction, seed)
    np.testing.assert_array_equal(first.response, again.response)


bad_or_good = st.sampled_from([1.0, 2.0, -1.0, np.nan, np.inf, -np.inf])


@given(st.lists(st.tuples(bad_or_good, bad_or_good, bad_or_good, bad_or_good), min_size=1, max_size=20))
def test_bad_rows_are_counted_by_reason_and_the_counts_add_up(values):
    response, weight, offset, feature = (np.array(column) for column in zip(*values, strict=True))
    rows = Examples(response=response, weight=weight, offset=offset, bags={"b": bag(feature[:, None])})
    good, counts = finite_rows(rows)
    finite = np.isfinite(np.array(values)).all(axis=1)
    np.testing.assert_array_equal(good, finite & (weight >= 0))
    assert sum(counts.values()) == np.count_nonzero(~good)
    assert all(count > 0 for count in counts.values())


def test_rows_to_be_scored_need_no_response():
    rows = Examples(response=np.full(2, np.nan))
    assert finite_rows(rows)[0].tolist() == [False, False]
    assert finite_rows(rows, response=False)[0].tolist() == [True, True]


def test_weights_are_one_and_offsets_zero_unless_given():
    rows = examples(3)
    assert rows.weight.tolist() == [1.0, 1.0, 1.0]
    assert rows.offset.tolist() == [0.0, 0.0, 0.0]
    assert rows.time_ms is None


def test_examples_come_back_from_a_pickle():
    copy = pickle.loads(pickle.dumps(examples(4)))  # noqa: S301
    np.testing.assert_array_equal(copy.response, np.arange(4.0))
    assert copy.entities["user"].names.to_pylist() == ["ann", "bob"]


def test_shapes_that_do_not_agree_are_refused():
    with pytest.raises(DataError, match=r"weight: expected float64\[3\], got float64\[2\]"):
        Examples(response=np.zeros(3), weight=np.zeros(2))
    with pytest.raises(DataError, match="response: expected float64"):
        Examples(response=np.zeros(3, dtype=np.float32))
    with pytest.raises(DataError, match=r"time_ms: expected int64\[3\]"):
        Examples(response=np.zeros(3), time_ms=np.zeros(3))
    with pytest.raises(DataError, match="bag 'b' has 2 rows, the response has 3"):
        Examples(response=np.zeros(3), bags={"b": Bag.empty(2)})


def test_entity_codes_must_point_at_names():
    with pytest.raises(DataError, match="expected -1 to 0, got 1"):
        EntityColumn(codes=np.array([0, 1], dtype=np.int32), names=pa.array(["a"]))
    with pytest.raises(DataError, match="int32"):
        EntityColumn(codes=np.array([0]), names=pa.array(["a"]))
    with pytest.raises(DataError, match="unique"):
        EntityColumn(codes=np.array([0], dtype=np.int32), names=pa.array(["a", "a"]))


def test_a_split_needs_a_fraction():
    with pytest.raises(ValueError, match="0 to 1"):
        split_random(examples(3), 1.5, 0)
