"""The join against an obviously right one, and the laws it has to keep."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stream.events_drawn import arrived, life_drawn, settings_drawn, streams_drawn
from tests.stream.reference_join import ReferenceJoin, Said

from nearline.errors import ConfigError, DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.events.partition import partition_of
from nearline.events.wire import encode_event
from nearline.stream.join import Join
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import JoinState, MemoryJoinState
from nearline.stream.joined import (
    JoinCounts,
    JoinedExample,
    Kind,
    decode_rows,
    encode_row,
    row_time_ms,
    rows_by_partition,
)

TICK = encode_event(Tick(1))
WORDS = {Kind.LEARN: "learn", Kind.TAKE_BACK: "take back"}


def record_of(event: Event | DataError) -> bytes:
    return b"damaged" if isinstance(event, DataError) else encode_event(event)


def examples_of(rows: Sequence[bytes]) -> list[JoinedExample]:
    """The examples that rows of a single partition were made of."""
    columns = decode_rows(rows)
    fields = zip(columns.records, columns.label, columns.weight, columns.time_ms, columns.kind, strict=True)
    return [
        JoinedExample(record, float(label), float(weight), int(time_ms), Kind(kind), (0,))
        for record, label, weight, time_ms, kind in fields
    ]


def joined(
    choices: JoinSettings,
    events: Sequence[Event | DataError],
    cuts: Sequence[int] = (),
    state: JoinState | None = None,
) -> tuple[list[JoinedExample], list[DeadLetter], JoinCounts]:
    join, state = Join(choices, route_by_entity({"per-user": "user"}, 1)), state or MemoryJoinState()
    examples: list[JoinedExample] = []
    dead: list[DeadLetter] = []
    counts = JoinCounts()
    borders = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(borders):
        part = events[begin:end]
        out = join.push(begin + 1, [record_of(event) for event in part], state)
        examples += examples_of(out.rows.get(0, []))
        dead += out.dead
        counts = out.counts
    return examples, dead, counts


def said(examples: Sequence[JoinedExample], events: Sequence[Event | DataError]) -> list[Said]:
    names = {encode_event(event): event.id for event in events if isinstance(event, Impression)}
    return [(WORDS[e.kind], names[e.impression], e.label, e.weight, e.time_ms) for e in examples]


def as_dict(counts: JoinCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in counts.__struct_fields__}


def adds_up(counts: JoinCounts) -> bool:
    parts = ("learned", "duplicate", "late", "dead", "unanswered", "waiting")
    return counts.received == sum(getattr(counts, name) for name in parts)


@settings(max_examples=200)
@given(settings_drawn(), streams_drawn)
def test_the_join_says_what_the_obvious_one_says(
    choices: JoinSettings, events: list[Event | DataError]
) -> None:
    reference = ReferenceJoin(choices)
    for event in events:
        reference.push(event)
    examples, dead, counts = joined(choices, events)
    assert said(examples, events) == reference.said
    assert Counter(
        {k: v for k, v in as_dict(counts).items() if v and k not in {"received", "corrected"}}
    ) == (reference.counts())
    assert counts.corrected == reference.corrected
    assert {letter.position for letter in dead} == {at for at, s in reference.status.items() if s == "dead"}


@settings(max_examples=100)
@given(settings_drawn(), streams_drawn, st.lists(st.integers(0, 50), max_size=8))
def test_how_the_log_is_cut_changes_nothing(
    choices: JoinSettings, events: list[Event | DataError], cuts: list[int]
) -> None:
    assert joined(choices, events) == joined(choices, events, cuts)


@settings(max_examples=200)
@given(settings_drawn(), streams_drawn)
def test_after_every_event_the_counts_add_up(choices: JoinSettings, events: list[Event | DataError]) -> None:
    join, state = Join(choices, route_by_entity({"per-user": "user"}, 1)), MemoryJoinState()
    received = 0
    for position, event in enumerate(events, 1):
        counts = join.push(position, [record_of(event)], state).counts
        received += not isinstance(event, Tick)
        assert counts.received == received
        assert adds_up(counts)
    end = join.push(len(events) + 1, [encode_event(Tick(10_000))], state).counts
    assert end.waiting == 0
    assert adds_up(end)


@settings(max_examples=150)
@given(settings_drawn("close"), life_drawn, st.data())
def test_arrival_in_another_order_within_the_allowed_lateness_changes_nothing(
    choices: JoinSettings, events: list[Event], data: st.DataObject
) -> None:
    lateness = choices.allowed_lateness_ms
    delays = st.lists(st.integers(0, lateness), min_size=len(events), max_size=len(events))
    end = Tick(1_000)
    one, two = (joined(choices, [*arrived(events, data.draw(delays)), end]) for _ in range(2))
    assert one[0] == two[0]
    assert one[2] == two[2]
    assert {(letter.reason, letter.record) for letter in one[1]} == {
        (letter.reason, letter.record) for letter in two[1]
    }


@given(settings_drawn(), streams_drawn, st.integers(0, 40))
def test_reading_the_log_again_from_anywhere_earlier_changes_nothing(
    choices: JoinSettings, events: list[Event | DataError], earlier: int
) -> None:
    join, state = Join(choices, route_by_entity({"per-user": "user"}, 1)), MemoryJoinState()
    records = [record_of(event) for event in events]
    before = join.push(1, records, state).counts
    begin = min(earlier, len(events))
    again = join.push(begin + 1, records[begin:], state)
    assert again.rows == {}
    assert again.dead == []
    assert again.counts == before


def test_an_example_goes_once_to_each_partition_that_owns_one_of_its_entities() -> None:
    effects = {"per-user": "user", "per-item": "item"}
    route = route_by_entity(effects, 4)
    for number in range(50):
        shown = Impression("i", 0, {"user": f"u{number}", "item": f"m{number}"})
        owners = {partition_of(effect, shown.entities[kind], 4) for effect, kind in effects.items()}
        assert route(shown) == tuple(sorted(owners))
    assert route(Impression("i", 0, {"shop": "s"})) == ()
    assert route_by_entity(effects, 1)(shown) == (0,)


def test_rows_come_back_from_their_bytes() -> None:
    examples = [
        JoinedExample(b"record", 1.5, 2.0, 17, Kind.LEARN, (0, 2)),
        JoinedExample(b"", 0.0, 1.0, 18, Kind.TAKE_BACK, (2,)),
        JoinedExample(b"", 0.0, 0.0, 20, Kind.TICK, (0, 1, 2)),
    ]
    by_partition = rows_by_partition(examples)
    assert {partition: len(rows) for partition, rows in by_partition.items()} == {0: 2, 1: 1, 2: 3}
    rows = decode_rows(by_partition[2])
    assert rows.kind.tolist() == [0, 1, 2]
    assert rows.label.tolist() == [1.5, 0.0, 0.0]
    assert rows.weight.tolist() == [2.0, 1.0, 0.0]
    assert rows.time_ms.tolist() == [17, 18, 20]
    assert rows.records == [b"record", b"", b""]


@pytest.mark.parametrize("damaged", [b"", b"\x00", b"short", b"\x05" + bytes(40)])
def test_a_row_that_cannot_be_read_is_said_to_be_so_in_its_place(damaged: bytes) -> None:
    row = encode_row(JoinedExample(b"record", 1.5, 2.0, 17, Kind.LEARN, (0,)))
    rows = decode_rows([row, damaged, row])
    assert rows.kind.tolist() == [Kind.LEARN, Kind.UNREADABLE, Kind.LEARN]
    assert rows.records == [b"record", damaged, b"record"]
    assert rows.time_ms.tolist() == [17, 0, 17]
    assert row_time_ms(b"\x00") == 0


def test_every_partition_hears_when_event_time_passes_a_multiple_of_the_tick() -> None:
    events: list[Event] = [Impression("i", 5, {"user": "u"}), Tick(14), Tick(16), Tick(47)]
    join = Join(JoinSettings(window_ms=3, tick_ms=10), route_by_entity({"per-user": "user"}, 3))
    out = join.push(1, [record_of(event) for event in events], MemoryJoinState()).rows
    [owner] = route_by_entity({"per-user": "user"}, 3)(Impression("i", 5, {"user": "u"}))
    ticks = [(Kind.TICK, 0), (Kind.TICK, 10), (Kind.TICK, 40)]
    said_in = {partition: [(e.kind, e.time_ms) for e in examples_of(rows)] for partition, rows in out.items()}
    with_example = [ticks[0], (Kind.LEARN, 8), *ticks[1:]]
    assert said_in == {partition: with_example if partition == owner else ticks for partition in range(3)}


@pytest.mark.parametrize(
    "event",
    [
        Feedback("i", 1, float("nan")),
        Feedback("i", 1, 1.0, -1.0),
        Feedback("", 1, 1.0),
        Feedback("x" * 300, 1, 1.0),
        Feedback("x" * 600, 1, 1.0),
        Feedback("i", 1, 1.0, id="x" * 70_000),
        Impression("", 1),
        Impression("i", -1),
        Tick(1 << 60),
    ],
)
def test_what_cannot_be_joined_is_a_dead_letter_with_a_reason(event: Event) -> None:
    join = Join(JoinSettings(window_ms=3), route_by_entity({"per-user": "user"}, 1))
    out = join.push(1, [record_of(event)], MemoryJoinState())
    [letter] = out.dead
    assert letter.position == 1
    assert letter.record == record_of(event)
    assert re.search(": [Ee]xpected", letter.reason)


def test_a_state_of_other_settings_is_refused() -> None:
    state, route = MemoryJoinState(), route_by_entity({"per-user": "user"}, 1)
    Join(JoinSettings(window_ms=3), route).push(1, [TICK], state)
    with pytest.raises(ConfigError, match="expected the settings that its state was made with"):
        Join(JoinSettings(window_ms=4), route).push(2, [TICK], state)


def test_a_gap_in_the_log_is_refused() -> None:
    state, join = MemoryJoinState(), Join(JoinSettings(window_ms=3), route_by_entity({"per-user": "user"}, 1))
    join.push(5, [TICK], state)
    with pytest.raises(DataError, match="expected position 6 of the log, got 8"):
        join.push(8, [TICK], state)


@pytest.mark.parametrize(
    ("name", "value"),
    [("window_ms", -1), ("remember_ms", 4), ("tick_ms", 0), ("policy", "best"), ("learn_at", "once")],
)
def test_settings_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"join.{name}: expected"):
        JoinSettings(**{"window_ms": 3, "correct_within_ms": 5, name: value})  # type: ignore[arg-type]
