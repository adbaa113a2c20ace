"""Bodies whose candidates have the same features, read in one pass: as the parser of all of JSON reads them, or not."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import clock, live_store

from nearline.errors import RequestError
from nearline.events import MemoryLog
from nearline.kernels._features import read_alike, read_json_alike
from nearline.serve import Scorer
from nearline.serve.http import answered
from nearline.serve.named import _Request, read_named
from nearline.serve.request import Candidate, RankRequest, decode
from nearline.serve.service import Service

BAG, KEYS = "of_item", ["w1", "price", "länge", "a b"]


def body(values, keys=KEYS, **more):
    """A request of candidates with these rows of features."""
    candidates = [
        {"id": f"m{i}", "features": {BAG: dict(zip(keys, row, strict=True))}} for i, row in enumerate(values)
    ]
    return json.dumps({"candidates": candidates, **more}, ensure_ascii=False)


def test_the_fields_are_those_of_a_request_in_their_order():
    assert _Request.__struct_fields__ == RankRequest.__struct_fields__


def plain(request):
    """What of a request candidates have, by the parser of all of JSON."""
    return [(one.id, one.features) for one in request.candidates]


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70) | st.just(-0.0)


@given(
    values=st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=4, max_size=6),
    shared=st.sampled_from([{}, {"context": {"w1": 1.5}}, {BAG: {"other": 1.0}}]),
    indent=st.sampled_from([None, 1]),
)
def test_what_is_read_is_what_the_parser_of_all_of_json_reads(values, shared, indent):
    text = json.dumps(
        json.loads(body(values, **({"features": shared} if shared else {}))),
        ensure_ascii=False,
        indent=indent,
    ).encode()
    found = read_named(text)
    expected = decode(text, RankRequest)
    if found is None:  # only for a reason
        integers = [one for row in values for one in row if isinstance(one, int)]
        assert any(abs(one) >= 10**15 for one in integers) or BAG in shared
        return
    request, matrix = found
    assert request.features == expected.features
    rows = [(name, {BAG: matrix.row(BAG, place)}) for place, name in enumerate(matrix.ids)]
    assert rows == plain(expected)
    of_expected = [
        list(one.features[BAG].values()) for one in expected.candidates if isinstance(one, Candidate)
    ]
    assert matrix.features[BAG].tobytes() == np.array(of_expected).tobytes()  # the sign of 0 too


@pytest.mark.parametrize(
    "number",
    [
        *(
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1e+",
            "0x1",
            "NaN",
            "Infinity",
            "-Infinity",
            "1_0",
            "1 0",
            "true",
        ),
        *(
            "null",
            '"1"',
            "[1]",
            "{}",
            "",
            "--1",
            "1e400",
            "-1e400",
            "1e-400",
            "-0",
            "1234567890123456",
            "1,2",
        ),
        "1}",
    ],
)
def test_a_number_that_is_none_or_not_surely_read_alike_is_left_to_the_other_parser(number):
    assert not read_json_alike([b'{"b":{"a":%s}}' % number.encode()], b'"b"', [b'"a"'], np.empty(1))


GOOD = body([[0.5, 1, -2e3, 4.25]] * 4)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"m1"', '"\\u006d1"'),
        GOOD.replace('"features"', '"features":"wrong","features"', 1),
        GOOD.replace('"features"', '"feature"', 1),
        GOOD.replace('"price"', '"w1"', 1),
        GOOD.replace('"price"', '"prize"', 1),
        GOOD.replace('{"w1": 0.5,', '{"w1": 0.5, "w2": 0.5,', 1),
        GOOD.replace('"m1"', '"m1","offset":1'),
        GOOD.replace('"m1"', '"m1","entities":{"user":"u1"}'),
        GOOD.replace('"m1"', '""'),
        GOOD.replace('"m1"', "1"),
        GOOD.replace('"of_item"', '"other"', 1),
        GOOD.replace("}}}]", '},"more":{}}}]'),
        GOOD.replace("}}}]", "}}},]"),
        GOOD[:-1] + ',"features":{"of_item":{"w9":1}}}',
        GOOD[:-1] + ',"unknown":1}',
        GOOD[:-1],
        GOOD + "x",
        GOOD.replace("[", '["m9",', 1),
        body([[1.0] * 4] * 3),
        "",
        "[]",
    ],
)
def test_a_body_of_another_kind_is_left_to_the_other_parser(text):
    assert read_named(GOOD.encode()) is not None
    assert text != GOOD
    assert read_named(text.encode()) is None


def test_bytes_that_are_no_utf_8_are_left_to_the_other_parser():
    assert read_named(GOOD.encode().replace(b"w1", b"\xff1")) is None
    assert read_named(GOOD.encode().replace(b"w1", b"\xff1", 1)) is None


pieces = st.sampled_from(
    [b"", *(bytes([one]) for one in b'{}[]":,.-+0159eE \\wm\xff\xc3\x00'), b'"features":{},']
)


@given(st.data())
def test_a_damaged_body_is_answered_or_refused_as_by_the_other_parser(data):
    text = bytearray(body([[0.5, 1, -2e3, 4.25]] * 4, features={"context": {"w1": 2.0}}, id="r").encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(pieces)
    found = read_named(bytes(text))
    if found is None:
        return
    request, matrix = found
    expected = decode(bytes(text), RankRequest)
    assert [(n, {b: matrix.row(b, i) for b in matrix.features}) for i, n in enumerate(matrix.ids)] == plain(
        expected
    )
    assert (request.features, request.entities, request.id) == (
        expected.features,
        expected.entities,
        expected.id,
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"features": {"context": {"w1": 1.5}}, "entities": {"user": "u1"}, "offset": 0.25},
        {"policy": {"name": "thompson", "draws": 20}},
        {"k": 2},
    ],
)
def test_the_reply_and_the_records_are_those_of_the_other_parser(more):
    store = live_store()
    text = body(np.random.default_rng(1).normal(size=(6, 4)).round(3).tolist(), id="r1", time_ms=5, **more)
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        service = Service({"model": scorer})
        _, fast = answered(service, text.encode(), {})
        slow = scorer.answer(decode(text.encode(), RankRequest))
        assert fast.json() == slow.json()
        assert list(fast.records) == list(slow.records)


def test_what_is_refused_has_the_path_in_the_request_as_it_was_made():
    store = live_store()
    with Scorer(store, MemoryLog(), clock=clock()) as scorer:
        service = Service({"model": scorer})
        long = body([[1.0] * 4] * 4, ["w1", "x" * 300, "y", "z"])
        assert read_named(long.encode()) is not None
        with pytest.raises(RequestError) as refused:
            answered(service, long.encode(), {})
        assert refused.value.path == "$.candidates[0].features.of_item"


@pytest.mark.parametrize(
    "row",
    [
        {BAG: {"a": 1.0}},
        {BAG: {"b": 1.0, "a": 1.0}},
        {BAG: {"a": 1.0, "c": 1.0}},
        {BAG: {"a": 1.0, "b": 1}},
        {BAG: {"a": 1.0, "b": float("nan")}},
        {BAG: [1.0, 2.0]},
        {"other": {"a": 1.0, "b": 1.0}},
        {BAG: {"a": 1.0, "b": 1.0}, "other": {}},
        {},
        "a",
    ],
)
def test_rows_that_are_not_alike_are_not_read(row):
    good = {BAG: {"a": 1.0, "b": 2.0}}
    out = np.empty((2, 2))
    assert read_alike([good, good], BAG, ("a", "b"), out)
    assert out.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert not read_alike([good, row], BAG, ("a", "b"), out)
    with pytest.raises(ValueError, match="out"):
        read_alike([good], BAG, ("a", "b"), out)
    with pytest.raises(ValueError, match="out"):
        read_json_alike([b"{}"], b'"b"', [b'"a"'], out)


def test_names_of_large_requests_are_not_kept():
    tracemalloc.start()
    try:
        for request in range(8):
            keys = [f"{request}-{n}" for n in range(5000)]
            assert read_named(body([[1.5] * len(keys)] * 4, keys).encode()) is not None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2**20
