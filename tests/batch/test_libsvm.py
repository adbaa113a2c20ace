"""LIBSVM text to tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.batch.libsvm import parse_libsvm
from nearline.errors import DataError

values = st.floats(allow_nan=False, allow_infinity=False)
rows = st.tuples(values, st.dictionaries(st.integers(1, 500), values, max_size=4))


@given(st.lists(rows, max_size=8))
def test_what_is_written_is_read_back(written):
    text = "".join(f"{y!r} {' '.join(f'{i}:{v!r}' for i, v in x.items())}\n" for y, x in written)
    table = parse_libsvm(text.encode())
    assert table["response"].to_pylist() == [y for y, _ in written]
    found = [{int(key): value for key, value in row} for row in table["x"].to_pylist()]
    assert found == [x for _, x in written]


def test_plus_signs_comments_and_empty_lines_are_read_over():
    table = parse_libsvm(b"+1 3:+2.5 # yes\n\n# nothing\n-1\n")
    np.testing.assert_array_equal(table["response"].to_numpy(), [1.0, -1.0])
    assert table["x"].to_pylist() == [[("3", 2.5)], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 1:2\nyes 1:2\n", "a.txt, line 2: expected a number, found 'yes'"),
        (b"1 1:2\n\n1 1:x\n", "line 3: expected index:value, found '1:x'"),
        (b"1 1\n", "line 1: expected index:value, found '1'"),
        (b"1 :1\n", "line 1: expected index:value, found ':1'"),
    ],
)
def test_a_fault_is_named_by_its_line(text, message):
    with pytest.raises(DataError, match=message):
        parse_libsvm(text, source="a.txt")
