"""The codec's kernel: byte for byte what a plain implementation writes, and no array is left."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels import _codec

GOLDEN = 0x9E3779B97F4A7C15


def written_plainly(numbers, column, shift, precision, *, full, single):
    """One record by the documentation, field by field."""

    def padded(content):
        return content + bytes(-len(content) % 8)

    body = struct.pack("<4q", *numbers)
    body += padded(np.asarray(column, "<i4").tobytes()) + np.asarray(shift, "<f8").tobytes()
    body += padded(np.asarray(precision, "<f4" if single else "<f8").tobytes())
    head = struct.pack("<BBHI", 1, full + 2 * single, 0, len(column))
    words = struct.unpack(f"<{(16 + len(body)) // 8}Q", head + bytes(8) + body)
    total = sum((w ^ w >> 32) * ((i + 1) * GOLDEN % 2**64 | 1) for i, w in enumerate(words) if i != 1)
    return head + struct.pack("<Q", total % 2**64) + body


def arrays(sizes, *, full, seed=0):
    """Arguments of `encode` after `single`, for blocks of those sizes."""
    rng = np.random.default_rng(seed)
    d = np.array(sizes, dtype=np.int64)
    numbers = d * (d + 1) // 2 if full else d
    start, packed = (np.concatenate([[0], np.cumsum(n)]).astype(np.int64) for n in (d, numbers))
    counts = rng.integers(1, 2**62, size=(4, len(d)))
    column = np.concatenate([np.zeros(0), *(np.sort(rng.choice(99, n, replace=False)) for n in d)])
    shift, precision = rng.normal(size=int(start[-1])), rng.normal(size=int(packed[-1]))
    return [start, packed, *counts, column.astype(np.int32), shift, precision]


@given(sizes=st.lists(st.integers(0, 12), max_size=6), full=st.booleans(), single=st.booleans())
def test_values_are_byte_for_byte_those_of_a_plain_implementation(sizes, full, single):
    start, packed, *counts, column, shift, precision = given_arrays = arrays(sizes, full=full)
    values = _codec.encode(full, single, *given_arrays)
    for i, value in enumerate(values):
        here, there = slice(start[i], start[i + 1]), slice(packed[i], packed[i + 1])
        numbers = [int(count[i]) for count in counts]
        assert value == written_plainly(
            numbers, column[here], shift[here], precision[there], full=full, single=single
        )


def test_values_may_lie_in_memory_of_someone_else():
    given_arrays = arrays([3, 0, 2], full=True)
    values = _codec.encode(True, False, *given_arrays)
    views = [memoryview(bytearray(value)) for value in values]
    size, fault = _codec.sizes([*views, None], True)
    assert (size.tolist(), fault.tolist()) == ([3, 0, 2, 0], [0, 0, 0, 0])
    read = [np.empty_like(array) for array in given_arrays[2:]]
    assert _codec.decode(views, True, *given_arrays[:2], *read).tolist() == [0, 0, 0]
    for mine, theirs in zip(read, given_arrays[2:], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_no_value_is_refused():
    for value in ("text", 5, memoryview(b"abcd" * 40)[::2]):
        with pytest.raises(TypeError, match="expected bytes, a memoryview or None"):
            _codec.sizes([value], True)


@pytest.mark.parametrize("full", [True, False])
def test_arrays_that_do_not_fit_are_refused(full):
    good = arrays([3, 2], full=full)
    values = _codec.encode(full, False, *good)
    wrong = [
        (0, np.array([0, 3], dtype=np.int64)),
        (0, np.array([0, 3, 6], dtype=np.int64)),
        (0, np.array([0, 7, 5], dtype=np.int64)),
        (0, np.array([1, 3, 5], dtype=np.int64)),
        (0, np.array([0, 2, 5], dtype=np.int64)),
        (1, np.array([0, 2, len(good[8])], dtype=np.int64)),
        (1, np.array([0, 6, 2**40], dtype=np.int64)),
        (3, np.zeros(3, dtype=np.int64)),
        (6, np.zeros(4, dtype=np.int32)),
        (7, np.zeros(4)),
        (8, np.zeros(2)),
    ]
    for at, array in wrong:
        changed = [array if i == at else each for i, each in enumerate(good)]
        with pytest.raises(ValueError, match=r"expected|beyond"):
            _codec.encode(full, False, *changed)
        with pytest.raises(ValueError, match=r"expected|beyond"):
            _codec.decode(values, full, *changed)


def test_a_value_that_changed_since_it_was_measured_cannot_reach_beyond_its_place():
    """A reader's values lie in a map; the sizes are checked where they are used."""
    good = arrays([3, 2], full=True)
    values = _codec.encode(True, False, *good)
    with pytest.raises(ValueError, match="expected the sizes of the values"):
        _codec.decode(values[::-1], True, *good)
    assert _codec.decode([values[0][:50], values[1]], True, *good).tolist() == [5, 0]
