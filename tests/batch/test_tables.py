"""Tables of every kind of column to examples, against a loop over Python values."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.batch.tables import TableMapping, examples_from_table
from nearline.errors import DataError

texts = st.sampled_from(["", "a", "Crème", "年", "a\0b"])
numbers = st.sampled_from([0.0, 1.0, -2.5, 1e300]) | st.none()
ntv = st.fixed_dictionaries({"name": texts, "term": texts | st.none(), "value": numbers})


def features_of_value(column, value):
    """The obvious version: the features of one value, (name, term) to the sum of its values."""
    found = []
    if value is None:
        pass
    elif isinstance(value, str):
        found = [(column, value, 1.0)]
    elif isinstance(value, bool | int | float):
        found = [(column, "", float(value))]
    else:
        for i, item in enumerate(value):
            if isinstance(item, dict):
                found.append((item["name"], item["term"] or "", item["value"]))
            elif isinstance(item, tuple):
                found.append((column, *item))
            elif isinstance(item, str):
                found.append((column, item, 1.0))
            else:
                found.append((column, str(i), item))
    sums = {}
    for name, term, number in found:
        if number:
            sums[name, term] = sums.get((name, term), 0.0) + number
    return sums


KINDS = {
    "number": (pa.float64(), numbers),
    "integer": (pa.int16(), st.integers(-3, 3) | st.none()),
    "boolean": (pa.bool_(), st.booleans() | st.none()),
    "string": (pa.string(), texts | st.none()),
    "large_string": (pa.large_string(), texts | st.none()),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), texts | st.none()),
    "strings": (pa.list_(pa.string()), st.lists(texts | st.none(), max_size=3) | st.none()),
    "vector": (pa.list_(pa.float64(), 2), st.lists(numbers, min_size=2, max_size=2) | st.none()),
    "vectors": (
        pa.large_list(pa.float32()),
        st.lists(st.integers(-2, 2) | st.none(), max_size=3) | st.none(),
    ),
    "view": (pa.list_view(pa.float64()), st.lists(numbers, max_size=3) | st.none()),
    "ntv": (
        pa.list_(pa.struct([("name", pa.string()), ("term", pa.string()), ("value", pa.float64())])),
        st.lists(ntv | st.none(), max_size=3) | st.none(),
    ),
    "map": (
        pa.map_(pa.string(), pa.float64()),
        st.lists(st.tuples(texts, numbers), max_size=3, unique_by=lambda item: item[0]) | st.none(),
    ),
    "nothing": (pa.null(), st.none()),
}


def as_dicts(bag):
    keys = list(zip(bag.names.to_pylist(), bag.terms.to_pylist(), strict=True))
    matrix = bag.matrix
    spans = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    return [
        {keys[j]: value for j, value in zip(matrix.indices[a:b], matrix.data[a:b], strict=True)}
        for a, b in spans
    ]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_kind_of_column_gives_the_features_of_the_obvious_loop(kind, data):
    arrow_type, values = KINDS[kind]
    rows = data.draw(st.lists(values, max_size=6))
    cut = data.draw(st.integers(0, len(rows)))
    whole = pa.array(rows, type=arrow_type)
    # Two pieces of it, the second cut from a longer array, as Parquet and slicing give them.
    table = pa.table({"x": pa.chunked_array([whole[:cut], whole[cut:]], type=arrow_type)})
    mapping = TableMapping(response="y", bags={"b": ("x",)})
    found = as_dicts(examples_from_table(table, mapping, labelled=False).bags["b"])
    flat = [
        None if row is None else [i for i in row if i is not None] if kind == "ntv" else row for row in rows
    ]
    assert found == [pytest.approx(features_of_value("x", row)) for row in flat]


def test_several_columns_make_one_bag_and_the_same_feature_of_two_adds_up():
    ntv_type = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))
    table = pa.table(
        {"x": [1.0, 2.0], "more": pa.array([[{"name": "x", "value": 5.0}], []], type=ntv_type), "y": [0, 1]}
    )
    bag = examples_from_table(table, TableMapping(response="y", bags={"b": ("x", "more")})).bags["b"]
    assert as_dicts(bag) == [{("x", ""): 6.0}, {("x", ""): 2.0}]


def test_nan_in_a_feature_is_kept_for_the_count_of_bad_rows():
    table = pa.table({"x": [np.nan, 0.0], "y": [0, 1]})
    bag = examples_from_table(table, TableMapping(response="y", bags={"b": ("x",)})).bags["b"]
    assert np.isnan(bag.matrix.data).tolist() == [True]


def test_response_weight_offset_and_entities_are_read():
    table = pa.table(
        {
            "rating": pa.array([3, 4, None], pa.int8()),
            "w": [1.0, None, 2.0],
            "o": [0.5, 0.25, 0.0],
            "user": pa.array([7, None, 7], pa.uint32()),
            "film": pa.array(["é", "b", "é"]).dictionary_encode(),
        }
    )
    mapping = TableMapping(
        "rating", response_above=3.0, weight="w", offset="o", entities={"user": "user", "film": "film"}
    )
    rows = examples_from_table(table, mapping)
    np.testing.assert_array_equal(rows.response, [0.0, 1.0, np.nan])
    np.testing.assert_array_equal(rows.weight, [1.0, np.nan, 2.0])
    np.testing.assert_array_equal(rows.offset, [0.5, 0.25, 0.0])
    assert rows.entities["user"].codes.tolist() == [0, -1, 0]
    assert rows.entities["user"].names.to_pylist() == ["7"]
    assert rows.entities["film"].names.to_pylist() == ["é", "b"]


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pa.array([1_500], pa.int64()), "ms"),
        (pa.array([1_500_999], pa.timestamp("us")), "ms"),
        (pa.array([1_500], pa.timestamp("ms", "Europe/Paris")), "s"),
        (pa.array([dt.datetime(1970, 1, 1, 0, 0, 1, 500_000)]), "s"),
    ],
)
def test_times_become_milliseconds(column, unit):
    mapping = TableMapping("y", time="t", time_unit=unit)
    rows = examples_from_table(pa.table({"y": [1], "t": column}), mapping)
    assert rows.time_ms.tolist() == [1_500]


def test_integer_times_in_seconds_and_dates_become_milliseconds():
    mapping = TableMapping("y", time="t", time_unit="s")
    table = pa.table({"y": [1, 1], "t": pa.array([0, 86_400], pa.int32())})
    assert examples_from_table(table, mapping).time_ms.tolist() == [0, 86_400_000]
    days = table.set_column(1, "t", pa.array([0, 1], pa.date32()))
    assert examples_from_table(days, mapping).time_ms.tolist() == [0, 86_400_000]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_table_gives_no_examples(kind):
    schema = pa.schema([("y", pa.null()), ("x", KINDS[kind][0]), ("u", pa.string()), ("t", pa.int64())])
    mapping = TableMapping("y", time="t", entities={"user": "u"}, bags={"b": ("x",), "none": ()})
    rows = examples_from_table(schema.empty_table(), mapping)
    assert len(rows) == 0
    assert rows.bags["b"].matrix.shape[0] == 0


def fails(table, mapping, message):
    with pytest.raises(DataError, match=message):
        examples_from_table(pa.table(table), mapping, source="ratings.csv")


def test_a_misspelt_column_is_named_with_its_near_misses():
    message = r"ratings\.csv: column 'usr_id' \(entities\.user\) is not in the table; did you mean 'user_id'"
    fails({"y": [1], "user_id": ["a"]}, TableMapping("y", entities={"user": "usr_id"}), message)
    fails({"y": [1]}, TableMapping("qqq"), r"'qqq' \(response\) is not in the table \(its columns: y\)")


def test_a_column_of_the_wrong_type_is_named_with_its_first_row_that_is_not_null():
    y = {"y": [1, 1]}
    fails(
        {"y": [None, "good"]},
        TableMapping("y"),
        "column 'y' .*row 1: expected a number or a boolean, found 'good'",
    )
    fails(y | {"u": [0.5, 1.0]}, TableMapping("y", entities={"u": "u"}), "row 0: expected an entity")
    fails(y | {"t": [1, None]}, TableMapping("y", time="t"), "row 1: expected a time in every row")
    fails(y | {"t": ["now", "x"]}, TableMapping("y", time="t"), "expected a timestamp")
    fails(
        y | {"x": [b"1", b"2"]},
        TableMapping("y", bags={"b": ("x",)}),
        r"\(bags\.b\), row 0: expected a number",
    )
    fails(y | {"x": [[b"1"], []]}, TableMapping("y", bags={"b": ("x",)}), "row 0")
    fails(y | {"x": [None, {"a": 1}]}, TableMapping("y", bags={"b": ("x",)}), "row 1")
    fails(y | {"x": [[{"a": 1}], None]}, TableMapping("y", bags={"b": ("x",)}), "name: string")
    nameless = [[{"name": "a", "value": 1.0}], [{"name": None, "value": 1.0}]]
    fails(y | {"x": nameless}, TableMapping("y", bags={"b": ("x",)}), "row 1: expected a name")
    wrong_map = pa.array([[("a", "b")], []], pa.map_(pa.string(), pa.string()))
    fails(y | {"x": wrong_map}, TableMapping("y", bags={"b": ("x",)}), "map of strings to numbers")


def test_two_columns_of_one_name_are_refused():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["y", "y"])
    with pytest.raises(DataError, match="expected one column of that name, found 2"):
        examples_from_table(table, TableMapping("y"))
