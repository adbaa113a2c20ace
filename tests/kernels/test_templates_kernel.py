"""Columns to rows: what msgspec reads back is what was in the columns."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels._templates import json_rows, message_pack_rows

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 127, 128, 2**32 - 1, 2**32])
ROWS = st.lists(st.tuples(st.text(max_size=400), FLOATS, INTEGERS), min_size=1, max_size=8)


@given(ROWS)
def test_rows_of_json_say_what_the_columns_do(rows):
    text, number, integer = (list(column) for column in zip(*rows, strict=True))
    columns = [text, np.array(number), np.array(integer), integer]
    written = b"[" + json_rows([b"[", b",", b",", b",", b"]"], columns) + b"]"
    expected = [[*row, row[2]] for row in rows]
    assert json.loads(written) == expected
    assert msgspec.json.decode(written, type=list[tuple[str, float, int, int]]) == [
        tuple(r) for r in expected
    ]


@given(ROWS)
def test_rows_of_message_pack_say_what_the_columns_do(rows):
    text, number, integer = (list(column) for column in zip(*rows, strict=True))
    raw = [msgspec.msgpack.encode(one) for one in text]
    columns = [text, np.array(number), np.array(integer), integer, raw]
    written = message_pack_rows([b"\x95", b"", b"", b"", b"", b""], columns)
    assert [msgspec.msgpack.decode(one) for one in written] == [[*row, row[2], row[0]] for row in rows]


def test_an_array_of_two_dimensions_is_as_many_columns():
    values = np.array([[1.5, 2.5], [3.5, 4.5]])
    assert json_rows([b"[", b",", b",", b"]"], [["a", "b"], values]) == b'["a",1.5,2.5],["b",3.5,4.5]'


def test_a_whole_number_stays_a_real_one_and_what_is_not_finite_is_null():
    values = np.array([1.0, -0.0, 1e300, np.nan, np.inf])
    assert json_rows([b"", b""], [values]) == b"1.0,-0.0,1e+300,null,null"


@pytest.mark.parametrize(
    ("fixed", "columns", "error"),
    [
        ([b"", b""], [], ValueError),
        ([b""], [[1]], ValueError),
        ([b"", b"", b""], [[1], [1, 2]], ValueError),
        ([b"", b""], [np.zeros(2, np.float32)], ValueError),
        ([b"", b""], [["\ud800"]], UnicodeEncodeError),
        ([b"", b""], [[None]], TypeError),
        (["", b""], [[1]], TypeError),
        ([b"", b""], [7], ValueError),
        ([b"", b""], [np.zeros((2, 2))], ValueError),
        ([b"", b""], [np.zeros((2, 1, 1))], ValueError),
    ],
)
def test_columns_that_do_not_fit_are_refused(fixed, columns, error):
    with pytest.raises(error):
        json_rows(fixed, columns)
    with pytest.raises(error):
        message_pack_rows(fixed, columns)
