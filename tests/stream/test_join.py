"""The join against an obviously right one, and the laws it has to keep."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.errors import ConfigError, DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.events.wire import encode_event
from nearline.stream.join import Join, route_by_entity
from nearline.stream.join_settings import EarlyLabelsWarning, JoinSettings
from nearline.stream.join_state import JoinState, MemoryJoinState
from nearline.stream.joined import JoinCounts, JoinedExample, Kind
from tests.stream.events_drawn import arrived, life_drawn, quiet_settings, settings_drawn, streams_drawn
from tests.stream.reference_join import ReferenceJoin, Said

WORDS = {Kind.LEARN: "learn", Kind.TAKE_BACK: "take back"}


def record_of(event: Event | DataError) -> bytes:
    return b"damaged" if isinstance(event, DataError) else encode_event(event)


def joined(
    choices: JoinSettings,
    events: Sequence[Event | DataError],
    cuts: Sequence[int] = (),
    state: JoinState | None = None,
) -> tuple[list[JoinedExample], list[DeadLetter], JoinCounts]:
    join, state = Join(choices, route_by_entity({"per-user": "user"}, 4)), state or MemoryJoinState()
    examples: list[JoinedExample] = []
    dead: list[DeadLetter] = []
    counts = JoinCounts()
    borders = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for begin, end in zip(borders, borders[1:], strict=False):
        part = events[begin:end]
        out = join.push(begin + 1, [record_of(event) for event in part], part, state)
        examples += out.examples
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
        counts = join.push(position, [record_of(event)], [event], state).counts
        received += not isinstance(event, Tick)
        assert counts.received == received
        assert adds_up(counts)
    end = join.push(len(events) + 1, [b"tick"], [Tick(10_000)], state).counts
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
    before = join.push(1, records, events, state).counts
    begin = min(earlier, len(events))
    again = join.push(begin + 1, records[begin:], events[begin:], state)
    assert again.examples == []
    assert again.dead == []
    assert again.counts == before
