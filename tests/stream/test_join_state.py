"""The state in LMDB against the one in memory: same answers, across crashes at any border between reads."""

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stream.events_drawn import settings_drawn, streams_drawn
from tests.stream.test_join import examples_of, joined, record_of

from nearline.environment import Environment, Transaction
from nearline.errors import DataError, LogError
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.stream.join import Join
from nearline.stream.join_lmdb import JOIN_TABLES, JoinTables, LmdbJoinState
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.joined import JoinCounts, Joined, JoinedExample


class CrashError(Exception):
    """What ends a transaction that is not to be kept."""


def run_in(
    folder: str, choices: JoinSettings, begin: int, part: Sequence[Event | DataError], crashes: bool
) -> Joined:
    """One run in an environment of its own, in vain before if it crashes."""
    environment = Environment(Path(folder), JOIN_TABLES, refusal=LogError)
    tables, join = JoinTables.of(environment), Join(choices, route_by_entity({"per-user": "user"}, 1))
    records = [record_of(event) for event in part]
    done: list[Joined] = []

    def push(transaction: Transaction) -> None:
        done[:] = [join.push(begin + 1, records, LmdbJoinState(tables, transaction))]

    def push_in_vain(transaction: Transaction) -> None:
        push(transaction)
        raise CrashError

    if crashes:
        with pytest.raises(CrashError):
            environment.write(push_in_vain)
    environment.write(push)
    environment.close()
    return done[0]


def joined_through_lmdb(
    choices: JoinSettings, events: Sequence[Event | DataError], cuts: Sequence[int], crashes: Sequence[bool]
) -> tuple[list[JoinedExample], list[object], JoinCounts, dict[str, int]]:
    """Join run by run; before some a run is made and thrown away, and the environment is opened anew."""
    examples: list[JoinedExample] = []
    dead: list[object] = []
    counts = JoinCounts()
    borders = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    with tempfile.TemporaryDirectory() as folder:
        for number, (begin, end) in enumerate(itertools.pairwise(borders)):
            out = run_in(folder, choices, begin, events[begin:end], crashes[number % len(crashes)])
            examples += examples_of(out.rows.get(0, []))
            dead, counts = dead + out.dead, out.counts
        environment = Environment(Path(folder), JOIN_TABLES, refusal=LogError)
        tables = JoinTables.of(environment)
        with environment.read() as transaction:
            left = {
                name: transaction.stat(getattr(tables, name))["entries"]
                for name in ("shown", "index", "waiting")
            }
        environment.close()
    return examples, dead, counts, left


@settings(max_examples=60)
@given(
    settings_drawn(),
    streams_drawn,
    st.lists(st.integers(0, 50), max_size=8),
    st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_lmdb_gives_what_memory_gives_however_cut_and_after_any_crash(
    choices: JoinSettings, events: list[Event | DataError], cuts: list[int], crashes: list[bool]
) -> None:
    assert joined_through_lmdb(choices, events, cuts, crashes)[:3] == joined(choices, events)


@settings(max_examples=40)
@given(settings_drawn(), streams_drawn, st.lists(st.integers(0, 50), max_size=8))
def test_nothing_is_left_once_all_is_closed_and_forgotten(
    choices: JoinSettings, events: list[Event | DataError], cuts: list[int]
) -> None:
    left = joined_through_lmdb(choices, [*events, Tick(1_000)], cuts, [False])[3]
    assert left == {"shown": 0, "index": 0, "waiting": 0}


def test_ids_that_no_key_of_lmdb_can_be_are_dead_letters() -> None:
    choices = JoinSettings(window_ms=3)
    events = [Feedback("x" * 600, 1, 1.0), Impression("y" * 600, 1), Feedback("", 1, 1.0), Impression("i", 1)]
    with tempfile.TemporaryDirectory() as folder:
        out = run_in(folder, choices, 0, events, crashes=False)
    assert [letter.position for letter in out.dead] == [1, 2, 3]
    assert out.counts.waiting == 1
