"""The vocabulary kernel against a Python dict."""

import pickle
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearline.kernels._vocabulary import Vocabulary
from nearline.model.strings import key_strings, one_string, string_column

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["", "\0", "a\0", "a", "é"]
)
keys = st.tuples(texts, texts)


def column(strings, kind=None):
    return string_column(pa.array(strings, type=kind or pa.string()))


def look_up(vocabulary, pairs, *, add):
    names, terms = [name for name, _ in pairs], [term for _, term in pairs]
    return vocabulary.lookup([column(names), column(terms, pa.large_string())], add=add).tolist()


@given(st.lists(st.lists(keys, max_size=70), max_size=3))
def test_keys_are_numbered_in_first_seen_order_as_a_dict_would(batches):
    vocabulary, reference = Vocabulary(), {}
    for batch in batches:
        expected = [reference.setdefault(key, len(reference)) for key in batch]
        assert look_up(vocabulary, batch, add=True) == expected
    assert len(vocabulary) == len(reference)
    names, terms = (key_strings(vocabulary, part, 0, len(vocabulary)).to_pylist() for part in (0, 1))
    assert list(zip(names, terms, strict=True)) == list(reference)


@given(st.lists(keys, max_size=40), st.lists(keys, max_size=40))
def test_looking_up_without_adding_changes_nothing_and_gives_minus_one_for_the_unknown(known, asked):
    vocabulary = Vocabulary()
    look_up(vocabulary, known, add=True)
    reference = {}
    for key in known:
        reference.setdefault(key, len(reference))
    assert look_up(vocabulary, asked, add=False) == [reference.get(key, -1) for key in asked]
    assert len(vocabulary) == len(reference)


@given(st.lists(keys, max_size=40))
def test_a_pickled_vocabulary_has_the_same_columns(pairs):
    vocabulary = Vocabulary()
    columns = look_up(vocabulary, pairs, add=True)
    copy = pickle.loads(pickle.dumps(vocabulary))  # noqa: S301
    assert len(copy) == len(vocabulary)
    assert look_up(copy, pairs, add=False) == columns


@given(st.text(max_size=8), st.lists(texts, max_size=50))
def test_one_string_stands_for_every_row(name, terms):
    one, each = Vocabulary(), Vocabulary()
    by_one = one.lookup([one_string(name), column(terms)], add=True)
    by_each = each.lookup([column([name] * len(terms)), column(terms)], add=True)
    np.testing.assert_array_equal(by_one, by_each)


@given(st.lists(texts, min_size=1, max_size=30), st.data())
def test_a_slice_of_an_array_is_read_as_that_slice(strings, data):
    start = data.draw(st.integers(0, len(strings)))
    vocabulary = Vocabulary(1)
    vocabulary.lookup([column(strings)], add=True)
    sliced = vocabulary.lookup([string_column(pa.array(strings).slice(start))], add=False)
    np.testing.assert_array_equal(sliced, vocabulary.lookup([column(strings)], add=False)[start:])


def test_where_one_part_ends_and_the_next_begins_matters():
    pairs = [("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc"), ("a\0", "bc"), ("a", "\0bc")]
    assert look_up(Vocabulary(), pairs, add=True) == list(range(6))


def test_a_huge_string_is_a_key_like_any_other():
    huge = "é" * 5_000_000
    assert look_up(Vocabulary(), [(huge, "x"), (huge[:-1], "x"), (huge, "x")], add=True) == [0, 1, 0]


def test_a_hundred_thousand_keys_survive_the_growth_of_the_table():
    terms = [str(i) for i in range(100_000)]
    vocabulary = Vocabulary()
    for start in range(0, len(terms), 7_001):
        vocabulary.lookup([one_string("n"), column(terms[start : start + 7_001])], add=True)
    found = vocabulary.lookup([one_string("n"), column(terms)], add=False)
    np.testing.assert_array_equal(found, np.arange(len(terms)))
    assert key_strings(vocabulary, 1, 99_998, 100_000).to_pylist() == ["99998", "99999"]


def test_threads_may_read_while_another_adds():
    vocabulary = Vocabulary(1)
    terms = column([str(i) for i in range(20_000)])
    expected = vocabulary.lookup([terms], add=True)
    wrong = []

    def read():
        found = [vocabulary.lookup([terms], add=False) for _ in range(20)]
        wrong.extend(columns for columns in found if not np.array_equal(columns, expected))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(50):
        vocabulary.lookup([column([f"new {i} {j}" for j in range(500)])], add=True)
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(vocabulary) == 20_000 + 50 * 500


@pytest.mark.parametrize(
    ("offsets", "error"),
    [
        (np.array([], dtype=np.int32), ValueError),
        (np.array([0, 2, 1], dtype=np.int32), ValueError),
        (np.array([0, 5], dtype=np.int64), ValueError),
        (np.array([-1, 1], dtype=np.int64), ValueError),
        (np.array([0, 1], dtype=np.float64), TypeError),
    ],
)
def test_offsets_that_do_not_fit_the_bytes_are_refused(offsets, error):
    with pytest.raises(error):
        Vocabulary(1).lookup([(offsets, np.frombuffer(b"abc", dtype=np.uint8))], add=True)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equal numbers"):
        Vocabulary().lookup([column(["a", "b"]), column(["a", "b", "c"])], add=True)
    with pytest.raises(ValueError, match="as many as"):
        Vocabulary().lookup([column(["a"])], add=True)


def test_keys_beyond_the_last_are_refused():
    with pytest.raises(IndexError):
        Vocabulary().keys(0, 0, 1)
    with pytest.raises(IndexError):
        Vocabulary().keys(2, 0, 0)
    with pytest.raises(ValueError, match="1 to 8"):
        Vocabulary(0)
