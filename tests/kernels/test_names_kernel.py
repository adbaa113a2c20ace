"""Names to numbers: as a dict has them, whatever comes and goes; texts out of bytes."""

import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels._names import Names, hash_here, read_texts, siphash_2_4

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


def test_the_hash_is_siphash():
    # Vectors of its authors (Aumasson and Bernstein 2012, appendix A and their reference implementation).
    key = bytes(range(16))
    assert siphash_2_4(key, bytes(range(15))) == 0xA129CA6149BE45E5
    assert siphash_2_4(key, b"") == 0x726FDB47DD0E0E31
    assert siphash_2_4(key, bytes(range(8))) == 0x93F5F5799A932462
    with pytest.raises(ValueError, match="16 bytes"):
        siphash_2_4(key[:15], b"")


def test_each_process_has_a_hash_of_its_own():
    say = "from nearline.kernels._names import hash_here; print(hash_here(b'u1'))"
    told = [
        int(subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True).stdout)  # noqa: S603
        for _ in range(2)
    ]
    assert len({hash_here(b"u1"), *told}) == 3
    assert hash_here(b"u1") == hash_here(b"u1") != hash_here(b"u2")


@pytest.mark.parametrize(
    ("asked", "expected", "slots"),
    [
        (["a", "\u00e9\u00e9"], 0, [1, 2]),
        (("a", "b"), 1, [1, -1]),
        (["a", "\u00e9\u00e9x"], -1, None),
        (["a", 1], -1, None),
        (["a", None], -1, None),
        (["a", "\ud800"], -1, None),
    ],
)
def test_plain_names_are_texts_that_are_not_too_long(asked, expected, slots):
    names = Names()
    names.put("a", 1)
    names.put("\u00e9\u00e9", 2)
    found = np.empty(2, np.int64)
    assert names.find_plain(asked, found, 4) == expected
    assert slots is None or found.tolist() == slots
