"""The join's kernel against the reference: the same rows, dead letters, counts, and state to the byte."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stream.events_drawn import quiet_settings, settings_drawn, streams_drawn
from tests.stream.test_join import record_of

from nearline.errors import DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.events.wire import encode_event
from nearline.stream import reference_join
from nearline.stream.join import Join
from nearline.stream.join_routes import Route, route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import TABLES, Changes, Entry, MemoryJoinState, Progress, Table
from nearline.stream.joined import JoinCounts, rows_by_partition


@dataclass(frozen=True)
class Outcome:
    rows: dict[int, list[bytes]]
    dead: list[DeadLetter]
    counts: JoinCounts
    progress: Progress
    state: list[list[Entry]]


def everything_in(state: MemoryJoinState) -> list[list[Entry]]:
    return [list(state.entries(table).items()) for table in TABLES]


def by_kernel(choices: JoinSettings, route: Route, runs: Sequence[Sequence[bytes]]) -> list[Outcome]:
    join, state, first, outcomes = Join(choices, route), MemoryJoinState(), 1, []
    for records in runs:
        out = join.push(first, records, state)
        first += len(records)
        outcomes.append(Outcome(out.rows, out.dead, out.counts, state.progress(), everything_in(state)))
    return outcomes


def by_reference(choices: JoinSettings, route: Route, runs: Sequence[Sequence[bytes]]) -> list[Outcome]:
    state, first, outcomes = MemoryJoinState(), 1, []
    for records in runs:
        examples, dead, counts = reference_join.push(choices, route, first, records, state)
        first += len(records)
        rows = rows_by_partition(examples)
        outcomes.append(Outcome(rows, dead, counts, state.progress(), everything_in(state)))
    return outcomes


def cut(records: Sequence[bytes], cuts: Sequence[int]) -> list[Sequence[bytes]]:
    borders = sorted({0, len(records), *(one % (len(records) + 1) for one in cuts)})
    return [records[begin:end] for begin, end in itertools.pairwise(borders)]


def assert_same(choices: JoinSettings, route: Route, runs: Sequence[Sequence[bytes]]) -> None:
    kernel, reference = by_kernel(choices, route, runs), by_reference(choices, route, runs)
    assert kernel == reference


@settings(max_examples=400)
@given(
    settings_drawn(),
    streams_drawn,
    st.lists(st.integers(0, 50), max_size=8),
    st.sampled_from([1, 2, 7]),
    st.sampled_from([None, 5]),
)
def test_after_every_run_the_kernel_has_said_and_kept_what_the_reference_has(
    choices: JoinSettings,
    events: list[Event | DataError],
    cuts: list[int],
    partitions: int,
    tick_ms: int | None,
) -> None:
    choices = quiet_settings(**{**asdict(choices), "tick_ms": tick_ms})
    runs = cut([record_of(event) for event in events], cuts)
    assert_same(choices, route_by_entity({"per-user": "user"}, partitions), runs)
    assert_same(choices, Route(), runs)


def fuller_event(rng: random.Random, time_ms: int) -> Event:
    """One with everything that an event may have, about one of two hundred impressions."""
    name = f"i{rng.randrange(200)}" if rng.random() < 0.9 else f"größe-{rng.randrange(20)}-用户"
    if rng.random() < 0.02:
        return Tick(time_ms)
    if rng.random() < 0.5:
        own = rng.choice([None, "", "f1", f"é{rng.randrange(5)}"])
        return Feedback(
            name, max(0, time_ms + rng.randrange(-9, 9)), rng.choice([0.0, -0.0, 1.0, 2.5]), 1.0, own
        )
    entities = {
        kind: f"{kind}-{rng.randrange(30)}" for kind in ("user", "item", "shop") if rng.random() < 0.8
    }
    return Impression(
        name,
        time_ms,
        entities,
        {"context": {"age": 1.5, "größe=L": rng.random()}, "text": [0.5] * rng.randrange(20)},
        {"per-user": (0.1, 0.2)},
        propensity=rng.choice([None, 0.5]),
        policy=rng.choice([None, "greedy"]),
        generation=rng.choice([0, 1, 2**40]),
        versions={"user": rng.randrange(1000)},
        resolves_ms=rng.choice([None, None, time_ms + rng.randrange(-5, 60)]),
        weight=rng.choice([1.0, 0.5, 3.0, float("nan"), float("inf")]),
    )


@pytest.mark.parametrize("learn_at", ["close", "feedback"])
@pytest.mark.parametrize("seed", range(4))
def test_long_streams_of_fuller_events_come_out_the_same(learn_at: str, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    choices = quiet_settings(
        window_ms=30,
        allowed_lateness_ms=rng.choice([0, 6]),
        policy=rng.choice(["first", "last", "max"]),
        without_feedback=rng.choice(["zero", "skip"]),
        learn_at=learn_at,
        correct_within_ms=rng.choice([0, 20]),
        remember_ms=rng.choice([None, 200]),
        tick_ms=rng.choice([None, 7]),
    )
    records = [encode_event(fuller_event(rng, time_ms // 2)) for time_ms in range(2_000)]
    runs = cut(records, [rng.randrange(2_000) for _ in range(20)])
    assert_same(choices, route_by_entity({"per-user": "user", "per-item": "item", "again": "user"}, 5), runs)


def changed(rng: random.Random, record: bytes) -> bytes:
    """The record cut short, longer, or with some bytes of it others."""
    choice = rng.randrange(4)
    if choice == 0:
        return record[: rng.randrange(len(record))]
    if choice == 1:
        return record + rng.randbytes(rng.randrange(1, 4))
    made = bytearray(record)
    for _ in range(rng.randrange(1, 4)):
        made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made)


@pytest.mark.parametrize("seed", range(5))
def test_damaged_records_are_read_as_the_decoder_reads_them(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    records = [encode_event(fuller_event(rng, time_ms // 2)) for time_ms in range(1_500)]
    records = [changed(rng, record) if rng.random() < 0.7 else record for record in records]
    runs = cut(records, [rng.randrange(1_500) for _ in range(10)])
    choices = JoinSettings(
        window_ms=30, allowed_lateness_ms=10**14, correct_within_ms=10
    )  # some are far ahead
    assert_same(choices, route_by_entity({"per-user": "user", "per-item": "item"}, 3), runs)


def written(*fields: object) -> bytes:
    return b"\x01" + msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\x00",
        b"\x02" + encode_event(Tick(3))[1:],
        b"\x01\x90",
        written(1, "i"),
        written(1, "i", 5),
        written(1, "i", 5, {}, {}, {}, 0, 1, None, None, 1, {}, None, 2),
        written(
            1,
            "i",
            5,
            {"user": "u"},
            {},
            {},
            0.5,
            1.5,
            0.5,
            "p",
            1,
            {},
            9,
            2.0,
            "a field",
            ["of", {"later": 1}],
        ),
        written(1, "i", 5, {"user": 7}),
        written(1, "i", 5, {7: "u"}),
        written(1, "i", 5.0),
        written(1, "i", -1),
        written(1, "i", 253_402_300_800_000),
        written(1, "i", 5, {}, {}, {}, "0"),
        written(1, "i", 5, {}, {}, {}, 0, 0, "p"),
        written(1, "i", 5, {}, {}, {}, 0, 0, None, None, -1),
        written(1, "i", 5, {}, {}, {}, 0, 0, None, None, 2**63),
        written(1, "i", 5, {}, {}, {}, 0, 0, None, None, 0, {}, -1),
        written(1, "i", 5, {}, {}, {}, 0, 0, None, None, 0, {}, None, 2**64 - 1),
        written(1, "i", 5, {}, {}, {}, 0, 0, None, None, 0, {}, None, True),
        written(1, b"i", 5),
        written(2, "i", 5),
        written(2, "i", 5, 1),
        written(2, "i", 5, 1, 2, None, "more"),
        written(2, "i", 5, 2**64 - 1, 1, "f"),
        written(2, "i", 5, 1, 1, 7),
        written(3, 5, "more"),
        written(3),
        written(4, 5),
        written("1", "i", 5),
        b"\x01" + b"\x91" * 4_000 + b"\x01",
        b"\x01\x95\x01\xa1i\x05\x80" + b"\x91" * 200 + b"\x01",
        b"\x01\x95\x01\xa1i\x05\x80" + b"\x91" * 4_000 + b"\x01",
        b"\x01\x93\x01\xa2\xc3\x28\x05",
        b"\x01\x93\x01\xa3\xed\xa0\x80\x05",
        b"\x01\x93\x01\xa2\xc0\x80\x05",
        b"\x01\x93\x01\xa4\xf4\x90\x80\x80\x05",
        b"\x01\x93\x01\xa4\xf0\x9f\x98\x80\x05",
        b"\x01\x93\x01\xdb\xff\xff\xff\xffi\x05",
    ],
)
def test_unusual_records_are_read_as_the_decoder_reads_them(record: bytes) -> None:
    records = [
        encode_event(Impression("j", 5, {"user": "u"})),
        record,
        written(2, "i", 6, 1.0),
        encode_event(Tick(99)),
    ]
    assert_same(JoinSettings(window_ms=3), route_by_entity({"per-user": "user"}, 3), [records])


@pytest.mark.parametrize(
    ("table", "left"), [("shown", range(50)), ("index", range(1, 15)), ("waiting", range(26))]
)
def test_a_damaged_state_is_refused(table: Table, left: range) -> None:
    join = Join(JoinSettings(window_ms=30), route_by_entity({"per-user": "user"}, 1))
    shown, tick = Impression("i", 1, {"user": "u"}), encode_event(Tick(99))
    before = [encode_event(event) for event in (shown, Feedback("i", 2, 1.0), Feedback("j", 2, 1.0))]
    after = [encode_event(event) for event in (Impression("j", 3, {"user": "u"}), Feedback("i", 3, 1.0))]
    for size in left:
        state = MemoryJoinState()
        join.push(1, before, state)
        key, value = max(state.entries(table).items())
        state.save(state.progress(), {table: Changes([], [(key, value[:size])])})
        with pytest.raises(DataError, match=r"the join's state: .*; join the log anew"):
            join.push(4, [*after, tick], state)


def test_a_state_made_for_more_partitions_is_refused_and_left_as_it_was() -> None:
    state, choices = MemoryJoinState(), JoinSettings(window_ms=10)
    shown = [encode_event(Impression(f"i{n}", 1, {"user": f"u{n}"})) for n in range(9)]
    Join(choices, route_by_entity({"per-user": "user"}, 8)).push(1, shown, state)
    before = state.progress(), everything_in(state)
    with pytest.raises(DataError, match="made for more partitions"):
        Join(choices, route_by_entity({"per-user": "user"}, 2)).push(10, [encode_event(Tick(99))], state)
    assert (state.progress(), everything_in(state)) == before


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_much_feedback_of_one_impression_is_given_up_in_part_before_it_comes(size: int) -> None:
    early = [encode_event(Feedback("i", 10 + n % 7, 1.0)) for n in range(30)]
    late = [encode_event(Feedback("i", 20 + n % 7, 2.0)) for n in range(30)]
    events = [
        *early,
        encode_event(Tick(24)),
        *late,
        encode_event(Tick(27)),
        encode_event(Impression("i", 26)),
    ]
    records = [*events, encode_event(Feedback("i", 27, 3.0)), encode_event(Tick(99))]
    runs = [records[begin : begin + size] for begin in range(0, len(records), size)]
    assert_same(JoinSettings(window_ms=10), Route(), runs)
