"""Events to records and back; records that are none."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import EVENTS

from nearline.errors import DataError
from nearline.events.dead_letters import DeadLetter, decode_dead_letter, encode_dead_letter
from nearline.events.impression import Feedback, Impression, Tick
from nearline.events.wire import (
    DAMAGED,
    decode_event,
    decode_events,
    decode_head,
    encode_event,
    encode_events,
)


@given(EVENTS)
def test_what_is_decoded_is_what_was_encoded_and_encodes_the_same(event):
    record = encode_event(event)
    again = decode_event(record)
    assert type(again) is type(event)
    assert repr(again) == repr(event)  # NaN is not equal to itself
    assert encode_event(again) == record


def test_the_bytes_of_a_record_do_not_change():
    impression = Impression(
        "i1", 1000, {"user": "u1"}, {"c": {"age": 0.5}, "v": [1.0]}, {"per-user": (0.5, 2.0)}
    )
    assert encode_event(impression).hex() == (
        "019e01a26931cd03e881a475736572a2753182a16381a3616765cb3fe0000000000000a17691cb3ff0000000000000"
        "81a87065722d7573657292cb3fe0000000000000cb4000000000000000cb0000000000000000cb0000000000000000"
        "c0c00080c0cb3ff0000000000000"
    )
    assert (
        encode_event(Feedback("i1", 1000, 1.0)).hex()
        == "019602a26931cd03e8cb3ff0000000000000cb3ff0000000000000c0"
    )
    assert encode_event(Tick(1000)).hex() == "019203cd03e8"


def test_a_record_with_fewer_or_more_fields_of_another_day_is_read():
    encode = msgspec.msgpack.encode
    assert decode_event(b"\x01" + encode([1, "i", 5, {}])) == Impression("i", 5)
    assert decode_event(b"\x01" + encode([3, 5, "a field of a later day"])) == Tick(5)


def test_numbers_written_as_integers_are_read_as_numbers():
    assert decode_event(b"\x01" + msgspec.msgpack.encode([2, "i", 5, 1])) == Feedback("i", 5, 1.0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"", "record: expected an event, got no bytes"),
        (DAMAGED, "checksum"),
        (b"\x02abc", "record: expected format 1, got 2: was it written by a later nearline"),
        (b"{}", "expected format 1, got 123"),
        (b"\x01", "truncated"),
        (b"\x01\x92\x03", "truncated"),
        (b"\x01\x92\x09\x05", "Invalid value 9"),
        (b"\x01\x92\x03\xa15", "Expected `int`, got `str`"),
        (b"\x01\x92\x03\x05junk", "trailing"),
        (b"\x01" + msgspec.msgpack.encode([3, -1]), "Expected `int` >= 0"),
        (b"\x01" + msgspec.msgpack.encode([3, 2**62]), "Expected `int` <"),
        (
            b"\x01" + msgspec.msgpack.encode([1, "i", 5, {}, {}, {}, 0, 0, None, None, 2**64 - 1]),
            "Expected `int` <=",
        ),
        (b"\x01" + b"\x91" * 100_000, "record: "),
        (b"\x01\x96\x02\xa1\xff\x05\x01\x01\xc0", "record: "),
    ],
)
def test_what_is_no_event_is_refused_and_said(record, message):
    with pytest.raises(DataError, match=message):
        decode_event(record)


@given(EVENTS, st.data())
def test_a_record_cut_short_or_with_a_byte_changed_never_raises_anything_else(event, data):
    record = encode_event(event)
    at = data.draw(st.integers(0, len(record) - 1))
    byte = data.draw(st.integers(0, 255))
    for broken in (record[:at], record[:at] + bytes([byte]) + record[at + 1 :]):
        (found,) = decode_events([broken])
        assert isinstance(found, Impression | Feedback | Tick | DataError)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_a_data_error(record):
    assert isinstance(decode_events([b"\x01" + record])[0], Impression | Feedback | Tick | DataError)


def test_one_record_that_cannot_be_read_does_not_stop_the_others():
    records = encode_events([Tick(1), Tick(2), Tick(3)])
    records[1] = DAMAGED
    first, second, third = decode_events(records)
    assert (first, third) == (Tick(1), Tick(3))
    assert isinstance(second, DataError)


@pytest.mark.parametrize("event", [Tick(2**64), Feedback("half a pair: \ud800", 1, 0.0)])
def test_what_no_record_can_hold_is_a_data_error(event):
    with pytest.raises(DataError, match="event: "):
        encode_event(event)


@given(INT := st.integers(-(2**63), 2**63 - 1), st.text("aé用", max_size=9), st.binary(max_size=20), INT)
def test_a_dead_letter_comes_back_as_it_was(position, reason, record, time_ms):
    letter = DeadLetter(position, reason, record, time_ms)
    assert decode_dead_letter(encode_dead_letter(letter)) == letter
    with pytest.raises(DataError, match="dead letter"):
        decode_dead_letter(b"\x01")


@given(EVENTS)
def test_the_head_of_a_record_says_what_the_event_says(event):
    head = decode_head(encode_event(event))
    if not isinstance(event, Impression):
        assert repr(head) == repr(event)
        return
    assert head.__struct_fields__ == event.__struct_fields__
    for name in (
        "id",
        "time_ms",
        "entities",
        "offset",
        "fixed",
        "propensity",
        "generation",
        "resolves_ms",
        "weight",
    ):
        assert repr(getattr(head, name)) == repr(getattr(event, name))
    features = msgspec.msgpack.decode(head.features) if head.features else {}
    assert repr(features) == repr(event.features)


@pytest.mark.parametrize("record", [b"", DAMAGED, b"\x01", b"\x01\x92\x03\xa15", b"\x01\x93\x01\xa1i\xff"])
def test_the_head_of_what_is_no_event_is_refused(record):
    with pytest.raises(DataError, match="record: "):
        decode_head(record)
