"""Workers over one folder: cuts, numbers of workers, restarts and replays change no bit of what is believed."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path
from threading import Event as Signal
from typing import Any

import lmdb
import pytest
from deployed import (
    JOIN,
    LATENESS_MS,
    WINDOW_MS,
    beliefs,
    dead_letters,
    encoded,
    life,
    live_store,
    model_of,
    numbers,
    progress,
    require_sums,
    shown_drawn,
    worked_off,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.errors import ConfigError, DataError, LogError, ModelError
from nearline.events.impression import Feedback, Impression, Tick
from nearline.events.log import MemoryLog
from nearline.events.partition import partitions_of
from nearline.events.wire import decode_event, decode_events, decode_head, encode_event
from nearline.posterior.forgetting import Forgetting
from nearline.store.memory import MemoryStore
from nearline.stream.chunks import UNREADABLE
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import ManualClock

MINIBATCHES = {
    "1": MiniBatchSettings(rows=1),
    "8": MiniBatchSettings(rows=8),
    "64": MiniBatchSettings(rows=64),
    "age": MiniBatchSettings(rows=64, age_ms=30),
}


def chosen(minibatch: MiniBatchSettings = MINIBATCHES["1"], **others) -> WorkerSettings:
    learn = LearnSettings({"per-user": Forgetting(time_constant_ms=500.0)}, minibatch)
    return WorkerSettings(JOIN, learn, **others)


def log_of(records) -> MemoryLog:
    log = MemoryLog()
    log.append(records)
    return log


def shift_of(known):
    return numbers(known)[0]


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def store():
    return live_store(model_of())


def in_turns(folder, log, store, rng: random.Random, minibatch) -> None:
    """Workers in random order, 1, 2 or 4 of them, each started anew for a few turns: a process has one at a time."""
    idle: set[tuple[int, int]] = set()
    while not idle >= {(index, 4) for index in range(4)}:
        count = rng.choice([1, 2, 4, 4])
        index = rng.randrange(count)
        some = chosen(minibatch, at_once=rng.choice([2, 17, 1_000]))
        worker = Worker(folder, log, store, some, index=index, workers=count)
        before = left(worker)
        for _ in range(rng.randrange(2, 30)):
            worker.turn()  # rows that waited come again with every start: being busy is no sign of progress
        after = left(worker)
        require_sums(worker)
        worker.close()
        idle = set() if after != before or any(after) else idle | {(index, count)}


def left(worker: Worker) -> tuple[int, int]:
    """Events it has to join, and rows it has to learn."""
    standing = worker.standing()
    return standing.events_left, standing.rows_left


@pytest.mark.parametrize("minibatch", MINIBATCHES.values(), ids=MINIBATCHES)
@settings(max_examples=3)
@given(draws=shown_drawn, seed=st.integers(0, 2**16))
def test_workers_turns_and_restarts_change_no_bit(minibatch, draws, seed):
    log, whole, pieces = log_of(encoded(life(draws))), live_store(model_of()), live_store(model_of())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        worked_off(Path(one), log, whole, chosen(minibatch))
        in_turns(Path(other), log, pieces, random.Random(seed), minibatch)  # noqa: S311
    assert beliefs(pieces) == beliefs(whole)
    assert [progress(pieces, p) for p in range(4)] == [progress(whole, p) for p in range(4)]


@settings(max_examples=5)
@given(draws=shown_drawn, seed=st.integers(0, 2**16))
def test_arrival_within_the_allowed_lateness_changes_no_bit(draws, seed):
    rng, events = random.Random(seed), life(draws)  # noqa: S311
    delayed = sorted(events, key=lambda event: event.time_ms + rng.randrange(LATENESS_MS))
    stores = live_store(model_of()), live_store(model_of())
    for store, order in zip(stores, (events, delayed), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            worked_off(Path(folder), log_of(encoded(order)), store, chosen(MINIBATCHES["8"]))
    assert beliefs(stores[0]) == beliefs(stores[1])


def shown(name: str, time_ms: int, **fields) -> Impression:
    return Impression(
        name, time_ms, {"user": "u", "item": "m"}, {"f": {"x0": 1.0}, "g": {"x1": 1.0}}, **fields
    )


def of(events) -> MemoryLog:
    return log_of([*encoded(events), encode_event(Impression("last", 1_000_000, {}, {}, {}))])


def test_reading_the_log_again_changes_nothing(folder, store):
    """The joined log, or the whole log, is read from its beginning: what was taken is passed over."""
    log = of([shown("a", 1), shown("b", 2), Feedback("a", 3, 1.0)])
    worked_off(folder, log, store, chosen())
    before, counts = beliefs(store), progress(store, 0)
    worked_off(folder, log, store, chosen())
    log.append(encoded([shown("a", 1), Feedback("a", 3, 1.0)]))  # and even if all of it is appended again
    worked_off(folder, log, store, chosen())
    assert beliefs(store) == before
    assert progress(store, 0) == counts


def test_a_late_positive_is_corrected(folder, store):
    """The 0 learned at the close is taken back, and the 1 learned."""
    late = WINDOW_MS + 20
    known_in_time = live_store(model_of())
    worked_off(folder / "a", of([shown("a", 1), Feedback("a", 2, 1.0)]), known_in_time, chosen())
    worked_off(folder / "b", of([shown("a", 1), Feedback("a", late, 1.0)]), store, chosen())
    for name, known in beliefs(known_in_time).items():
        if name[0] == "per-item":
            continue  # what a diagonal belief has forgotten of correlations cannot be taken back exactly
        assert shift_of(beliefs(store)[name]) == pytest.approx(shift_of(known), abs=1e-12)
        assert beliefs(store)[name][0] == 1
    assert sum(progress(store, p).counts.taken_back for p in range(4)) == 3


def fails(decode, record: bytes) -> bool:
    try:
        decode(record)
    except DataError:
        return True
    return False


@settings(max_examples=25)
@given(data=st.data())
def test_every_record_that_damage_makes_unreadable_is_one_dead_letter(data):
    """Inside a number any byte is readable; of what damage turns into another event, it is only sure that it counts."""
    events = [shown("a", 1), shown("b", 2), shown("c", 3)]
    records, last = encoded(events), encode_event(Impression("last", 10**6, {}, {}, {}))
    at = data.draw(st.integers(0, len(records[1]) - 1))
    never_used = [records[1][:i] + b"\xc1" + records[1][i + 1 :] for i in range(len(records[1]))]
    head_is_sound = [one for one in never_used if fails(decode_event, one) and not fails(decode_head, one)]
    damaged = data.draw(
        st.sampled_from([b"\x00", records[1][:at], *head_is_sound])
        | st.sampled_from(never_used)
        | st.binary(min_size=1, max_size=3).map(
            lambda new: records[1][:at] + new + records[1][at + len(new) :]
        )
    )
    (event,) = decode_events([damaged])
    good, store = live_store(model_of()), live_store(model_of())
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        worked_off(Path(one), log_of([records[0], records[2], last]), good, chosen(MINIBATCHES["age"]))
        worked_off(
            Path(other), log_of([records[0], damaged, records[2], last]), store, chosen(MINIBATCHES["age"])
        )
        joined = JoinedLog(Path(other) / "joined")
        letters = [*joined.dead_letters(), *(one for p in range(4) for one in dead_letters(store, p))]
        counts = joined.progress().counts
        joined.close()
    assert counts.received == 4
    if isinstance(event, DataError):
        assert [letter.record for letter in letters] == [damaged]
        assert letters[0].reason
        assert {name: (one[0], one[4:]) for name, one in beliefs(store).items()} == {
            name: (one[0], one[4:]) for name, one in beliefs(good).items()
        }


def test_a_second_worker_of_the_same_job_is_refused(folder, store):
    log = MemoryLog()
    first = Worker(folder, log, store, chosen(), index=1, workers=2)
    with pytest.raises(ConfigError, match="has the role 'learn-1' already"):
        Worker(folder, log, store, chosen())
    first.close()
    Worker(folder, log, store, chosen()).close()  # what the refused one had taken before is free


def test_a_worker_needs_an_index_below_their_number_and_a_live_generation(folder, store):
    with pytest.raises(ConfigError, match="expected an index from 0 to 1, got 2"):
        Worker(folder, MemoryLog(), store, chosen(), index=2, workers=2)
    with pytest.raises(ModelError):
        Worker(folder, MemoryLog(), MemoryStore(partitions_of), chosen())
    with pytest.raises(ConfigError, match=r"worker.at_once: expected 1 or more, got 0"):
        chosen(at_once=0)


def test_generations_go_on_from_their_own_positions(folder, store):
    """A switch in the middle, and one back: each generation has learned every row once, in the end."""
    events = [shown(f"i{number}", 10 * number) for number in range(40)]
    log = of(events)
    plain = live_store(model_of())
    worked_off(folder / "plain", log, plain, chosen())
    second = store.create(model_of(), created_ms=1).number
    worker = Worker(folder / "switched", log, store, chosen(at_once=7))
    for number, live in enumerate([second, 1, second]):
        for _ in range(2):
            worker.turn()
            require_sums(worker)
        store.rollback() if number == 1 else store.switch(live, force=True)
        assert store.live() == live
    while worker.turn():
        pass
    assert worker.standing().generation == second
    assert beliefs(store, second) == beliefs(plain)
    store.rollback()
    while worker.turn():
        pass
    assert beliefs(store, 1) == beliefs(plain)
    worker.close()


def test_a_switch_to_a_generation_with_another_effect_sends_it_its_rows(folder):
    """Impressions from then on go to the partitions of the new effect's entities too."""
    model = model_of()
    store = live_store(replace(model, random=model.random[:1]))
    events = [
        Impression(f"i{i}", 10 * i, {"user": "u", "item": f"m{i % 5}"}, {"f": {"x0": 1.0}, "g": {"x1": 1.0}})
        for i in range(40)
    ]
    log = log_of(encoded(events[:20]))
    worker = Worker(folder, log, store, chosen())
    while worker.turn():
        pass
    second = store.create(model, created_ms=1).number
    store.switch(second, force=True)
    log.append([*encoded(events[20:]), encode_event(Impression("last", 1_000_000, {}, {}, {}))])
    while worker.turn():
        pass
    worker.close()
    found = {
        entity: known[0] for (effect, entity), known in beliefs(store, second).items() if effect == "per-item"
    }
    assert set(found) == {f"m{i}" for i in range(5)}
    assert min(found.values()) >= 4  # all that were shown after the switch


def test_time_goes_on_when_traffic_stops(folder, store):
    clock, log = ManualClock(5_000), log_of(encoded([shown("a", 1_000)]))
    worker = Worker(folder, log, store, chosen(tick_after_ms=50), clock=clock)
    worker.turn()
    worker.turn()
    assert log.end() == 1
    clock.advance(WINDOW_MS + LATENESS_MS + 1)
    worker.turn()
    assert log.end() == 2
    while worker.turn():
        pass
    assert ("per-user", "u") in beliefs(store)
    worker.close()


def test_a_worker_stops_when_asked_to(folder, store):
    log, stop, seen = of([shown("a", 1)]), Signal(), []
    worker = Worker(folder, log, store, chosen(poll_ms=1))

    def watch(standing) -> None:
        seen.append(standing)
        if standing.events_left == standing.rows_left == 0:
            stop.set()

    worker.run(stop, watch)
    assert seen[-1].learned.learned == 3
    worker.close()


@pytest.mark.parametrize(("key", "kept"), [(b"format", b"3"), (b"format", None)], ids=["later", "earlier"])
def test_a_joined_log_of_another_format_is_refused(folder, store, key, kept):
    worked_off(folder, of([shown("i", 1)]), store, chosen())
    with lmdb.open(str(folder / "joined"), max_dbs=8) as env:
        meta = env.open_db(b"join-meta")
        with env.begin(write=True) as txn:
            txn.delete(key, db=meta) if kept is None else txn.put(key, kept, db=meta)
    with pytest.raises(LogError, match="expected a joined log of format 2, got"):
        JoinedLog(folder / "joined")


def test_a_damaged_block_of_rows_becomes_dead_letters_and_the_rest_is_learned(tmp_path: Path) -> None:
    log, model = log_of(encoded([shown("a", 1), Tick(10**6)])), model_of()
    store = live_store(model, partitions=1)
    worker = Worker(tmp_path, log, store, chosen())
    learns = worker._learn_some
    worker._learn_some = lambda partition: False  # type: ignore[method-assign]
    for more in ([], [shown("b", 10**6), Tick(3 * 10**6)], [shown("c", 4 * 10**6), Tick(6 * 10**6)]):
        log.append(encoded(more))
        worker.turn()
    environment = worker.row_log._environment
    environment.write(lambda txn: _damage_second_block(txn, environment["rows"]))
    while learns(0):
        pass
    letters = dead_letters(store, 0)
    assert [(letter.position, letter.reason) for letter in letters] == [(2, UNREADABLE)]
    assert progress(store, 0).position == 3
    counts = progress(store, 0).counts
    assert counts.rows == counts.learned == 2 * len(model.random)
    worker.close()


def _damage_second_block(txn: Any, table: Any) -> None:
    with txn.cursor(table) as cursor:
        blocks = [(key, value) for key, value in cursor if int.from_bytes(key[2:]) > 0]
    key, value = blocks[1]
    txn.put(key, value[:-1] + bytes([value[-1] ^ 1]), db=table)
