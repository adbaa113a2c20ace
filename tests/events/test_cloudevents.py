"""Events through the door: what comes in, and what is refused with the path of the field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import IMPRESSIONS

from nearline.errors import DataError
from nearline.events.cloudevents import read_event, read_events, write_event
from nearline.events.impression import MAX_TIME_MS, Feedback, Impression, Tick, require_valid


def document(kind="impression", data=None, **attributes):
    head = {
        "specversion": "1.0",
        "type": f"nearline.{kind}",
        "source": "/shop",
        "id": "i1",
        "time": "2026-01-31T12:00:00.250Z",
    }
    return json.dumps({**head, **({} if data is None else {"data": data}), **attributes}).encode()


def test_an_impression_comes_in_as_it_was_served():
    event = read_event(
        document(
            data={
                "entities": {"user": "u1"},
                "features": {"context": {"genre=Drama": 1, "age": 0.5}, "picture": [1, 2.5]},
                "contributions": {"per-user": {"mean": 0.5, "variance": 2}},
                "offset": 0.25,
                "propensity": 0.1,
                "policy": "greedy",
                "generation": 3,
                "versions": {"user": 17},
                "resolves_ms": 1_769_860_800_250,
            },
            traceparent="an attribute of an extension",
        )
    )
    assert event == Impression(
        "i1",
        1_769_860_800_250,
        {"user": "u1"},
        {"context": {"genre=Drama": 1.0, "age": 0.5}, "picture": [1.0, 2.5]},
        {"per-user": (0.5, 2.0)},
        0.25,
        propensity=0.1,
        policy="greedy",
        generation=3,
        versions={"user": 17},
        resolves_ms=1_769_860_800_250,
    )


def test_feedback_and_ticks_come_in():
    feedback = document("feedback", {"impression": "i1", "label": 1}, id="f1", time=5)
    assert read_event(feedback) == Feedback("i1", 5, 1.0, 1.0, "f1")
    assert read_event(document("tick", time=7)) == Tick(7)


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T02:00:00.0019+02:00", 1),
        ("2026-01-31t12:00:00.999999z", 1_769_860_800_999),
        (1_769_860_800_250, 1_769_860_800_250),
    ],
)
def test_times_are_read_to_the_millisecond_before(time, time_ms):
    assert read_event(document("tick", time=time)) == Tick(time_ms)


REFUSED = [
    (
        {"data": {"features": {"user": {"age": float("nan")}}}},
        "data.features.user.age: expected a finite number, got NaN",
    ),
    (
        {"data": {"features": {"user": {"age": "40"}}}},
        'data.features.user.age: expected a finite number, got "40"',
    ),
    (
        {"data": {"features": {"user": {"age": True}}}},
        "data.features.user.age: expected a finite number, got true",
    ),
    (
        {"data": {"features": {"user": {"age": None}}}},
        "data.features.user.age: expected a finite number, got null",
    ),
    (
        {"data": {"features": {"user": [0, float("-inf")]}}},
        "data.features.user.1: expected a finite number, got -Infinity",
    ),
    (
        {"data": {"features": {"user": {"age": 10**400}}}},
        "data.features.user.age: expected a finite number, got Infinity",
    ),
    (
        {"data": {"features": {"user": 3}}},
        "data.features.user: expected an object of numbers by name or a list of numbers, got 3",
    ),
    ({"data": {"features": []}}, "data.features: expected an object, got a list"),
    ({"data": {"entities": {"user": 17}}}, "data.entities.user: expected a string, got 17"),
    ({"data": {"entities": {"user": ""}}}, 'data.entities.user: expected 1 to 256 bytes of UTF-8, got ""'),
    (
        {"data": {"entities": {"user": "é" * 129}}},
        "data.entities.user: expected 1 to 256 bytes of UTF-8, got 258 bytes",
    ),
    ({"data": {"featurs": {}}}, "data.featurs: no such field; did you mean 'features'?"),
    ({"data": {"zzz": {}}}, "data.zzz: no such field; expected one of entities, features"),
    ({"data": {"contributions": {"per-user": {"mean": 1}}}}, "data.contributions.per-user.variance: missing"),
    (
        {"data": {"contributions": {"per-user": [1, 2]}}},
        "data.contributions.per-user: expected an object, got a list",
    ),
    (
        {"data": {"contributions": {"per-user": {"mean": 1, "variance": -1}}}},
        "data.contributions.per-user.variance: expected a finite number, 0 or more, got -1.0",
    ),
    ({"data": {"propensity": 0}}, "data.propensity: expected a probability above 0 and at most 1, got 0.0"),
    ({"data": {"weight": -1}}, "data.weight: expected a finite number, 0 or more, got -1.0"),
    ({"data": {"generation": 1.5}}, "data.generation: expected an integer of 64 bits, got 1.5"),
    ({"data": {"generation": -1}}, "data.generation: expected an integer from 0 to 2^63 - 1, got -1"),
    (
        {"data": {"versions": {"user": -1}}},
        "data.versions.user: expected an integer from 0 to 2^63 - 1, got -1",
    ),
    (
        {"data": {"versions": {"user": 2**70}}},
        "data.versions.user: expected an integer from 0 to 2^63 - 1, got 1180591620717411303424",
    ),
    (
        {"data": {"resolves_ms": 5}},
        "data.resolves_ms: expected a time not before the impression's, 1769860800250, got 5",
    ),
    ({"data": [1]}, "data: expected an object, got a list"),
    ({"data": None}, "data: expected an object, got null"),
    ({"data": {}, "id": 5}, "id: expected a string, got 5"),
    ({"data": {}, "id": ""}, 'id: expected 1 to 256 bytes of UTF-8, got ""'),
    ({"data": {}, "time": "yesterday"}, "time: expected RFC 3339"),
    ({"data": {}, "time": "2026-01-31T12:00:00"}, "time: expected RFC 3339 with its offset from UTC"),
    ({"data": {}, "time": 1.5}, "time: expected RFC 3339"),
    ({"data": {}, "time": -1}, "time: expected milliseconds since 1970, before the year 10000, got -1"),
    ({"data": {}, "time": MAX_TIME_MS}, "time: expected milliseconds since 1970"),
    ({"data": {}, "specversion": "0.3"}, "specversion: expected '1.0', got \"0.3\""),
    ({"data": {}, "type": "nearline.click"}, "type: expected 'nearline.impression' or"),
    ({"data": {}, "datacontenttype": "text/plain"}, "datacontenttype: expected 'application/json'"),
    ({"kind": "feedback", "data": {"label": 1}}, "data.impression: missing"),
    (
        {"kind": "feedback", "data": {"impression": "i", "label": "yes"}},
        'data.label: expected a finite number, got "yes"',
    ),
    (
        {"kind": "feedback", "data": {"impression": "", "label": 1}},
        "data.impression: expected 1 to 256 bytes",
    ),
    ({"kind": "feedback"}, "data: expected an object, got nothing"),
]


@pytest.mark.parametrize(("parts", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_is_wrong_is_refused_with_the_path_of_the_field(parts, message):
    parts = dict(parts)
    if parts.get("data", 0) is None:
        found = document(**{**parts, "data": {}}).replace(b'"data": {}', b'"data": null')
    else:
        found = document(**parts)
    with pytest.raises(DataError) as raised:
        read_event(found)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("missing", ["specversion", "type", "source", "id", "time"])
def test_an_attribute_that_is_missing_is_named(missing):
    content = json.loads(document(data={}))
    del content[missing]
    with pytest.raises(DataError, match=f"^{missing}: missing"):
        read_event(json.dumps(content))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"17", b"null", b'{"a": 1} x', b"[" * 100_000, b'{"id": "\xff"}', b"\xef\xbb\xbf{}"],
)
def test_what_is_no_json_object_is_a_data_error(text):
    with pytest.raises(DataError, match=r"^(event|specversion): "):
        read_event(text)


NAMES = st.sampled_from(["entities", "features", "offset", "contributions", "a", "label", "impression"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["impression", "feedback"]))
def test_any_data_is_an_event_or_a_data_error_that_names_a_field(data, kind):
    found = event_or_error(document(kind, {} if data is None else data))
    if isinstance(found, DataError):
        assert str(found).startswith("data")
    else:
        require_valid(found)


def event_or_error(text):
    try:
        return read_event(text)
    except DataError as error:
        return error


def is_valid(event):
    try:
        require_valid(event)
    except DataError:
        return False
    return True


@given(IMPRESSIONS)
def test_what_goes_out_and_may_come_in_comes_in_the_same(impression):
    if is_valid(impression):
        assert read_event(write_event(impression)) == impression
    else:
        with pytest.raises(DataError):
            read_event(write_event(impression))


@given(
    st.integers(0, MAX_TIME_MS - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.just("f1"),
)
def test_feedback_and_ticks_go_out_and_come_in_the_same(time_ms, label, name):
    feedback = Feedback("i1", time_ms, label, 2.0, name)
    again = read_event(write_event(feedback))
    assert again == Feedback("i1", time_ms, label, 2.0, name or f"i1@{time_ms}")
    assert read_event(write_event(Tick(time_ms))) == Tick(time_ms)


def test_lines_are_read_one_by_one_and_a_bad_one_is_named():
    lines = [document("tick", time=1), b"\n", document("tick", time=2), b"{}\n"]
    events = read_events(lines)
    assert [next(events), next(events)] == [Tick(1), Tick(2)]
    with pytest.raises(DataError, match=r"^line 4: specversion: missing"):
        next(events)


def test_an_event_from_the_future_is_refused_where_a_latest_time_is_given():
    assert read_event(document("tick", time=1_000), latest_ms=1_000) == Tick(1_000)
    with pytest.raises(
        DataError, match=r"^time: expected at most 1970-01-01T00:00:01.000Z, got 1970-01-01T00:00:01.001Z"
    ):
        read_event(document("tick", time=1_001), latest_ms=1_000)
