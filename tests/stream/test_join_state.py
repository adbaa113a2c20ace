"""The state in LMDB against the one in memory: same answers, across crashes at any border between reads."""

import itertools
import tempfile
from collections.abc import Sequence

import lmdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stream.events_drawn import settings_drawn, streams_drawn
from tests.stream.test_join import joined, record_of

from nearline.errors import DataError
from nearline.events.impression import Event, Tick
from nearline.stream.join import Join, route_by_entity
from nearline.stream.join_lmdb import JOIN_TABLES, LmdbJoinState, open_join_tables
from nearline.stream.join_settings import JoinSettings
from nearline.stream.joined import JoinCounts, JoinedExample


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
            part = events[begin:end]
            records = [record_of(event) for event in part]
            with lmdb.open(folder, max_dbs=len(JOIN_TABLES), map_size=1 << 24, sync=False) as environment:
                tables, join = (
                    open_join_tables(environment),
                    Join(choices, route_by_entity({"per-user": "user"}, 4), 4),
                )
                if crashes[number % len(crashes)]:
                    with environment.begin(write=True) as transaction:
                        join.push(begin + 1, records, part, LmdbJoinState(tables, transaction))
                        transaction.abort()
                with environment.begin(write=True) as transaction:
                    out = join.push(begin + 1, records, part, LmdbJoinState(tables, transaction))
            examples, dead, counts = examples + out.examples, dead + out.dead, out.counts
        with lmdb.open(folder, max_dbs=len(JOIN_TABLES), map_size=1 << 24) as environment:
            tables = open_join_tables(environment)
            with environment.begin() as transaction:
                left = {
                    name: transaction.stat(getattr(tables, name))["entries"]
                    for name in ("shown", "answers", "index", "waiting")
                }
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
    assert left == {"shown": 0, "answers": 0, "index": 0, "waiting": 0}
