"""The codec: what comes back is what went in, or an error that says what is wrong; and the layout stays as it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import any_records, assert_same, blocks, records, single

from nearline.errors import DataError, ModelError
from nearline.posterior.blocks import Blocks
from nearline.store.codec import FULL, SINGLE, decode_records, encode_records, versions_of
from nearline.store.records import Records, no_records, select_records


def one_record(*, full: bool) -> Records:
    """Two columns, 4 and 70000, with numbers that are exact in float32."""
    start, column = np.array([0, 2]), np.array([4, 70_000], dtype=np.int32)
    shift = np.array([0.5, -1.25])
    evidence = (
        Blocks(start, shift, np.array([2.0, 0.25, 3.0]), column, np.array([0, 3]))
        if full
        else Blocks(start, shift, np.array([2.0, 3.0]), column, full=False)
    )
    numbers = (np.array([n]) for n in (3, 255, 1_735_689_600_000, 7))
    return Records(*numbers, evidence)


@pytest.mark.parametrize("full", [True, False])
@given(data=st.data())
def test_what_is_decoded_is_bit_for_bit_what_was_encoded(full, data):
    given_records = data.draw(any_records(full=full))
    assert_same(decode_records(encode_records(given_records), full=full), given_records)


@pytest.mark.parametrize("full", [True, False])
@given(data=st.data())
def test_numbers_that_float32_holds_come_back_from_it_as_they_were(full, data):
    given_records = data.draw(any_records(full=full, numbers=single))
    values = encode_records(given_records, single=True)
    assert_same(decode_records(values, full=full), given_records)


def test_float32_rounds_the_precision_alone_and_rounds_it_once():
    given_records = records([5, 0, 12])
    values = encode_records(given_records, single=True)
    read = decode_records(values, full=True)
    np.testing.assert_array_equal(read.evidence.mean, given_records.evidence.mean)
    np.testing.assert_array_equal(
        read.evidence.precision, given_records.evidence.precision.astype(np.float32).astype(np.float64)
    )
    assert encode_records(read, single=True) == values
    assert len(values[2]) < 0.7 * len(encode_records(given_records)[2])


@given(data=st.data())
def test_entities_nobody_has_seen_may_stand_between_those_that_are_there(data):
    given_records = data.draw(any_records(full=True))
    order = data.draw(st.lists(st.integers(-1, len(given_records) - 1), max_size=12))
    index = np.array(order, dtype=np.int64)
    values = [*encode_records(given_records), None]
    read = decode_records([values[i] for i in order], full=True)
    assert_same(read, select_records(given_records, index))
    assert versions_of(values[i] for i in order) == read.version.tolist()


def test_float64_and_float32_may_be_read_together():
    mixed = encode_records(records([3, 3])) + encode_records(records([3, 3]), single=True)
    read = decode_records(mixed, full=True)
    np.testing.assert_allclose(read.evidence.precision[:12], read.evidence.precision[12:], rtol=1e-7)


NUMBERS_AND_COLUMNS = "0300000000000000 ff00000000000000 007c291f94010000 0700000000000000 0400000070110100"
SHIFT = "000000000000e03f 000000000000f4bf"
TRIANGLE = "0000000000000040 000000000000d03f 0000000000000840"
DIAGONAL = "0000000000000040 0000000000000840"
TRIANGLE_IN_FLOAT32 = "000000400000803e 0000404000000000"
DIAGONAL_IN_FLOAT32 = "0000004000004040"


@pytest.mark.parametrize(
    ("full", "is_single", "head", "precision"),
    [
        (True, False, "0101000002000000 70ed25e4043a6ea8", TRIANGLE),
        (True, True, "0103000002000000 7017c6593aec53c7", TRIANGLE_IN_FLOAT32),
        (False, False, "0100000002000000 70d84964929b7ffe", DIAGONAL),
        (False, True, "0102000002000000 7002ca06be7baed6", DIAGONAL_IN_FLOAT32),
    ],
)
def test_the_layout_is_the_one_that_is_documented(full, is_single, head, precision):
    value = encode_records(one_record(full=full), single=is_single)[0]
    assert value == bytes.fromhex(f"{head} {NUMBERS_AND_COLUMNS} {SHIFT} {precision}")
    assert_same(decode_records([value], full=full), one_record(full=full))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("is_single", [True, False])
def test_the_checksum_is_the_sum_that_is_documented(full, is_single):
    for value in encode_records(records([0, 1, 2, 7], full=full), single=is_single):
        words = np.frombuffer(value, dtype="<u8").tolist()
        total = sum(
            (word ^ (word >> 32)) * ((i + 1) * 0x9E3779B97F4A7C15 % 2**64 | 1)
            for i, word in enumerate(words)
            if i != 1
        )
        assert words[1] == total % 2**64
        assert value[1] == (FULL if full else 0) | (SINGLE if is_single else 0)


@given(full=st.booleans(), is_single=st.booleans(), data=st.data())
def test_damage_to_any_byte_is_found(full, is_single, data):
    value = bytearray(encode_records(records([4], full=full), single=is_single)[0])
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ModelError, match="record 0"):
        decode_records([bytes(value)], full=full)


def test_damage_that_flips_two_signs_is_found():
    value = bytearray(encode_records(records([4]))[0])
    value[-1] ^= 0x80
    value[-9] ^= 0x80
    with pytest.raises(ModelError, match="checksum"):
        decode_records([bytes(value)], full=True)


@given(st.lists(st.none() | st.binary(max_size=200), max_size=4), st.booleans())
def test_any_bytes_are_records_or_an_error(values, full):
    try:
        assert len(decode_records(values, full=full)) == len(values)
    except ModelError as error:
        assert "record" in str(error)  # noqa: PT017


@given(head=st.binary(min_size=8, max_size=8), cut=st.integers(0, 300), full=st.booleans())
def test_a_head_that_promises_anything_is_an_error(head, cut, full):
    value = encode_records(records([4], full=True))[0]
    changed = (b"\1" + head[1:2] + b"\0\0" + head[4:] + value[8:])[:cut]
    with pytest.raises(ModelError, match="record 0"):
        decode_records([changed], full=full)


def resealed(value: bytes, at: int, replaced: bytes) -> bytes:
    """The value with other content, and a checksum that fits it."""
    changed = bytearray(value)
    changed[at : at + len(replaced)] = replaced
    words = np.frombuffer(bytes(changed), dtype="<u8").tolist()
    total = sum(
        (word ^ (word >> 32)) * ((i + 1) * 0x9E3779B97F4A7C15 % 2**64 | 1)
        for i, word in enumerate(words)
        if i != 1
    )
    changed[8:16] = (total % 2**64).to_bytes(8, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    ("at", "replaced", "message"),
    [
        (48, (-1).to_bytes(4, "little", signed=True), "columns that ascend"),
        (52, (-(2**31)).to_bytes(4, "little", signed=True), "columns that ascend"),
        (52, (4).to_bytes(4, "little"), "columns that ascend"),
        (16, bytes(8), "expected a version"),
        (40, b"\xff" * 8, "a count of rows"),
        (56, np.float64(np.nan).tobytes(), "finite"),
        (72, np.float64(np.inf).tobytes(), "finite"),
    ],
)
def test_content_that_cannot_be_is_refused_even_under_a_checksum_that_fits(at, replaced, message):
    good = encode_records(one_record(full=True))[0]
    with pytest.raises(ModelError, match=f"record 1: .*{message}"):
        decode_records([good, resealed(good, at, replaced)], full=True)


def test_a_newer_format_and_the_other_form_are_refused_by_name():
    value = encode_records(records([2]))[0]
    with pytest.raises(ModelError, match="format version up to 1"):
        decode_records([b"\2" + value[1:]], full=True)
    with pytest.raises(ModelError, match="record 1: expected a diagonal precision, got a full one"):
        decode_records([None, value], full=False)


def test_what_could_not_be_read_again_is_not_written():
    good = records([3, 2])
    for field in ("mean", "precision"):
        numbers = getattr(good.evidence, field).copy()
        numbers[-1] = np.nan
        with pytest.raises(ModelError, match="record 1: expected finite numbers"):
            encode_records(replace(good, evidence=replace(good.evidence, **{field: numbers})))
    with pytest.raises(ModelError, match="record 1: expected a version of 1 or above"):
        encode_records(replace(good, version=np.array([1, 0])))
    large = replace(good.evidence, precision=good.evidence.precision * 1e300)
    with pytest.raises(ModelError, match="float32 can hold"):
        encode_records(replace(good, evidence=large), single=True)


def test_records_are_checked_and_selected():
    one = records([2, 0], seed=1)
    assert_same(select_records(one, np.array([0, 1])), one)
    assert_same(select_records(select_records(one, np.array([1, 0])), np.array([1, 0])), one)
    assert_same(select_records(one, np.array([-1])), no_records(1, full=True))
    with pytest.raises(DataError, match="one for each of 2 blocks"):
        replace(one, version=np.array([1]))
    with pytest.raises(DataError, match="list their columns"):
        replace(one, evidence=replace(blocks([2, 0]), column=None))
