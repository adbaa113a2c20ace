"""Names to numbers: as a dict has them, whatever comes and goes; texts out of bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels._names import Names, read_texts

NAMES = st.sampled_from(["", "a", "é", "a name longer than a string holds in itself", *map(str, range(60))])


@given(st.lists(st.tuples(st.sampled_from(["put", "remove"]), NAMES, st.integers(0, 2**62)), max_size=200))
def test_names_have_the_numbers_that_a_dict_would_give_them(steps):
    names, plain = Names(), {}
    for step, name, number in steps:
        if step == "put":
            names.put(name, number)
            plain[name] = number
        else:
            assert names.remove(name) == plain.pop(name, -1)
    asked = ["", "a", "é", "never put", *map(str, range(60))]
    found = np.empty(len(asked), np.int64)
    missing = names.find(asked, found)
    expected = [plain.get(name, -1) for name in asked]
    assert found.tolist() == expected == [names.get(name) for name in asked]
    assert missing == expected.count(-1)
    assert len(names) == len(plain)


def test_what_utf8_cannot_write_is_no_name():
    names = Names()
    names.put("a", 1)
    assert names.get("\ud800") == -1
    assert names.find(["\ud800", "a"], found := np.zeros(2, np.int64)) == 1
    assert found.tolist() == [-1, 1]
    with pytest.raises(ValueError, match="UTF-8"):
        names.put("\ud800", 2)


@pytest.mark.parametrize(
    ("names", "out", "error"),
    [
        (["a", "b"], np.zeros(1, np.int64), ValueError),
        (["a"], np.zeros(1, np.float64), ValueError),
        ([1], np.zeros(1, np.int64), TypeError),
        (3, np.zeros(1, np.int64), TypeError),
    ],
)
def test_names_and_places_that_do_not_fit_are_refused(names, out, error):
    with pytest.raises(error):
        Names().find(names, out)


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        Names().put("a", -1)


def _written(texts):
    return b"".join(struct.pack("<I", len(one)) + one for one in (text.encode() for text in texts))


@given(st.lists(st.text(max_size=300), max_size=30))
def test_texts_are_read_as_they_were_written(texts):
    assert read_texts(_written(texts)) == texts


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.data())
def test_texts_that_were_cut_off_are_refused(texts, data):
    content = _written(texts)
    ends = {len(_written(texts[:n])) for n in range(len(texts))}
    cut = data.draw(st.integers(0, len(content) - 1).filter(lambda at: at not in ends))
    with pytest.raises(ValueError, match=r"does not fit|longer than"):
        read_texts(content[:cut])
