"""Impressions to examples."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import IMPRESSIONS

from nearline.errors import DataError
from nearline.events.examples import examples_from_records, to_examples
from nearline.events.impression import Feedback, Impression, feature_name_and_term
from nearline.events.wire import decode_events, encode_event, encode_events


def features_of(bag, row):
    """The features of a row as (name, term) to value, in a slow and obvious way."""
    begin, end = bag.matrix.indptr[row : row + 2]
    found = {}
    for at in range(begin, end):
        column = bag.matrix.indices[at]
        key = bag.names[column].as_py(), bag.terms[column].as_py()
        found[key] = found.get(key, 0.0) + bag.matrix.data[at]
    return found


def expected_features(features):
    keyed = features if isinstance(features, dict) else {str(i): value for i, value in enumerate(features)}
    found = {}
    for key, value in keyed.items():
        if value != 0.0:
            found[feature_name_and_term(key)] = found.get(feature_name_and_term(key), 0.0) + value
    return found


@given(st.lists(IMPRESSIONS, max_size=5))
def test_every_row_has_what_its_impression_says(impressions):
    labels = np.arange(len(impressions), dtype=np.float64)
    examples, served = to_examples(impressions, labels)
    assert examples.response.tolist() == labels.tolist()
    for row, impression in enumerate(impressions):
        for bag in examples.bags:
            expected = expected_features(impression.features.get(bag, {}))
            np.testing.assert_equal(features_of(examples.bags[bag], row), expected)
        for kind, column in examples.entities.items():
            code = column.codes[row]
            assert (None if code < 0 else column.names[code].as_py()) == impression.entities.get(kind)
        assert examples.time_ms[row] == impression.time_ms
        assert served.generation[row] == impression.generation
        for effect in served.mean:
            pair = served.mean[effect][row], served.variance[effect][row]
            np.testing.assert_equal(pair, impression.contributions.get(effect, (0.0, 0.0)))
    np.testing.assert_equal(examples.offset, np.array([i.offset for i in impressions]))
    np.testing.assert_equal(examples.weight, np.array([i.weight for i in impressions]))
    np.testing.assert_equal(served.fixed, np.array([i.fixed for i in impressions]))
    assert set(examples.bags) == {bag for i in impressions for bag in i.features}
    assert set(examples.entities) == {kind for i in impressions for kind in i.entities}
    assert set(served.mean) == {effect for i in impressions for effect in i.contributions}


def test_columns_are_numbered_in_the_order_in_which_features_come():
    impressions = [
        Impression("a", 0, {"user": "u2"}, {"c": {"genre=Drama": 1.0, "age": 0.5, "zero": 0.0}}),
        Impression("b", 0, {"user": "u1"}, {"c": {"age": 2.0, "genre=a=b": 3.0}}),
        Impression("c", 0, {"item": "i"}),
    ]
    examples, _ = to_examples(impressions, np.zeros(3))
    bag = examples.bags["c"]
    assert list(zip(bag.names.to_pylist(), bag.terms.to_pylist(), strict=True))[:2] == [
        ("genre", "Drama"),
        ("age", ""),
    ]
    assert bag.matrix.toarray()[:, [0, 1, 3]].tolist() == [[1.0, 0.5, 0.0], [0.0, 2.0, 3.0], [0.0, 0.0, 0.0]]
    assert bag.terms[3].as_py() == "a=b"
    assert examples.entities["user"].codes.tolist() == [0, 1, -1]
    assert examples.entities["user"].names.to_pylist() == ["u2", "u1"]


def test_a_dense_vector_is_a_bag_of_numbered_features():
    impressions = [
        Impression("a", 0, features={"v": [1.0, 0.0, 3.0]}),
        Impression("b", 0, features={"v": {"2": 5.0}}),
    ]
    examples, _ = to_examples(impressions, np.zeros(2))
    assert examples.bags["v"].names.to_pylist() == ["0", "1", "2"]
    assert examples.bags["v"].matrix.toarray().tolist() == [[1.0, 0.0, 3.0], [0.0, 0.0, 5.0]]


def test_two_keys_of_one_feature_add_up():
    examples, _ = to_examples([Impression("a", 0, features={"c": {"x": 1.0, "x=": 2.0}})], np.zeros(1))
    assert examples.bags["c"].matrix.toarray().tolist() == [[3.0]]


def test_what_is_wanted_is_there_although_no_impression_has_it():
    examples, served = to_examples(
        [Impression("a", 5)], np.ones(1), bags=["c"], kinds=["user"], effects=["per-user"]
    )
    assert examples.bags["c"].matrix.shape == (1, 0)
    assert examples.entities["user"].codes.tolist() == [-1]
    assert served.mean["per-user"].tolist() == [0.0]
    assert served.variance["per-user"].tolist() == [0.0]


def test_the_weight_given_counts_and_the_offset_leaves_the_fixed_effect_out():
    impression = Impression("a", 5, offset=0.25, fixed=4.0, weight=2.0)
    examples, served = to_examples([impression], np.ones(1), np.array([3.0]))
    assert (examples.weight[0], examples.offset[0], served.fixed[0]) == (3.0, 0.25, 4.0)


def test_no_impressions_are_no_examples():
    examples, served = to_examples([], np.zeros(0), bags=["c"], kinds=["user"], effects=["per-user"])
    assert len(examples) == len(served.fixed) == len(examples.bags["c"]) == 0


def test_labels_of_another_number_are_refused():
    with pytest.raises(DataError, match="expected float64"):
        to_examples([Impression("a", 5)], np.ones(2), bags=["c"])


def assert_same(one, other):
    (examples, served), (again, served_again) = one, other
    for name in ("response", "weight", "offset", "time_ms"):
        np.testing.assert_array_equal(getattr(examples, name), getattr(again, name))
    assert list(examples.bags) == list(again.bags)
    for name, bag in examples.bags.items():
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(bag.matrix, part), getattr(again.bags[name].matrix, part))
        assert bag.matrix.shape == again.bags[name].matrix.shape
        assert bag.names.equals(again.bags[name].names)
        assert bag.terms.equals(again.bags[name].terms)
    assert list(examples.entities) == list(again.entities)
    for kind, column in examples.entities.items():
        np.testing.assert_array_equal(column.codes, again.entities[kind].codes)
        assert column.names.equals(again.entities[kind].names)
    np.testing.assert_array_equal(served.fixed, served_again.fixed)
    np.testing.assert_array_equal(served.generation, served_again.generation)
    assert set(served.mean) == set(served.variance) == set(served_again.mean) == set(served_again.variance)
    for effect in served.mean:
        np.testing.assert_array_equal(served.mean[effect], served_again.mean[effect])
        np.testing.assert_array_equal(served.variance[effect], served_again.variance[effect])


NAMES = st.sampled_from(["a", "b", "a=", "a=1", "b=x=y", "é", "0", "1"])
LIKE_ONE_ANOTHER = st.builds(
    Impression,
    st.just("i"),
    st.integers(0, 9),
    st.dictionaries(NAMES, NAMES, max_size=2),
    st.dictionaries(
        NAMES,
        st.dictionaries(NAMES, st.sampled_from([0.0, -0.0, 1.0, 0.1]), max_size=4)
        | st.lists(st.sampled_from([0.0, 2.0]), max_size=3),
        max_size=2,
    ),
    st.dictionaries(NAMES, st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=2),
)


@given(st.lists(IMPRESSIONS, max_size=5) | st.lists(LIKE_ONE_ANOTHER, max_size=20))
def test_records_become_the_same_examples_as_their_impressions(impressions):
    labels, weights = np.arange(len(impressions), dtype=np.float64), np.full(len(impressions), 0.5)
    wanted = {"bags": ["b", "c"], "kinds": ["user"], "effects": ["per-user"]}
    records = encode_events(impressions)
    assert_same(
        to_examples(impressions, labels, weights, **wanted),
        examples_from_records(records, labels, weights, **wanted),
    )
    assert_same(to_examples(impressions, labels), examples_from_records(records, labels))


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_records_of_every_length_of_string_list_and_map_are_read(size):
    impression = Impression(
        "i" * size,
        0,
        {"user": "u" * size},
        {"m": {f"{i}=t": 1.0 for i in range(size)}, "v": [1.0] * size},
        policy="p" * size,
        versions={str(i): 2**40 for i in range(min(size, 300))},
        propensity=0.5,
        weight=3,
        resolves_ms=7,
    )
    assert_same(
        to_examples([impression] * 2, np.ones(2)),
        examples_from_records([encode_event(impression)] * 2, np.ones(2)),
    )


@given(IMPRESSIONS, st.data())
def test_a_broken_record_is_a_data_error_and_never_anything_else(impression, data):
    record = encode_event(impression)
    at = data.draw(st.integers(0, len(record) - 1))
    byte = data.draw(st.integers(0, 255))
    with pytest.raises(DataError, match="impressions: record 1: "):
        examples_from_records([record, record[:at]], np.ones(2))
    broken = record[:at] + bytes([byte]) + record[at + 1 :]
    if isinstance(decode_events([broken])[0], Impression):
        examples_from_records([broken], np.ones(1))
    else:
        with contextlib.suppress(DataError):  # it does not look at what it does not need
            examples_from_records([broken], np.ones(1))


@pytest.mark.parametrize(
    "record", [b"", b"\x00", b"\x02\x90", b"\x01\x90", encode_event(Feedback("i", 1, 1.0))]
)
def test_what_is_no_impression_is_refused_and_said(record):
    with pytest.raises(DataError, match="impressions: record 0: "):
        examples_from_records([record], np.ones(1))
