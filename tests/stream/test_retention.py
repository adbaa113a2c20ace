"""What is removed is never missed: beliefs are the same, with restarts, rows that wait, and other generations."""

import tempfile
from pathlib import Path

import pytest
from deployed import JOIN, beliefs, encoded, life, live_store, model_of, shown_drawn, worked_off
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.events.log import MemoryLog
from nearline.store.generations import Status
from nearline.stream.learner import LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.retention import Retention
from nearline.stream.worker import Worker, WorkerSettings
from nearline.testing import ManualClock

SETTINGS = WorkerSettings(JOIN, LearnSettings(minibatch=MiniBatchSettings(rows=8)), at_once=3)


def log_of(records, clock) -> MemoryLog:
    log = MemoryLog(clock=clock)
    for record in records:
        log.append([record])
    return log


@settings(max_examples=10)
@given(shown_drawn, st.lists(st.integers(1, 6), max_size=12))
def test_nothing_that_is_needed_goes(draws, lives):
    clock = ManualClock()
    log, store, calm = log_of(encoded(life(draws)), clock), live_store(model_of()), live_store(model_of())
    with tempfile.TemporaryDirectory() as folder:
        worked_off(Path(folder) / "calm", log, calm, SETTINGS)
        for turns in [*lives, 10_000]:
            worker = Worker(Path(folder), log, store, SETTINGS, clock=clock)
            retention = Retention(log, worker.row_log, store, clock, keep_ms=0)
            for _ in range(turns):
                clock.advance(60_000)
                retention.turn()
                if not worker.turn():
                    break
            worker.close()
    assert beliefs(store) == beliefs(calm)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def rows():
    """Events enough for many rows in every partition."""
    return encoded(life([(n % 4, n % 3, 9, n, 5, n % 2) for n in range(60)]))


def learned(folder, log, store, clock) -> Worker:
    worker = Worker(folder, log, store, WorkerSettings(JOIN, at_once=3), clock=clock)
    while worker.turn():
        pass
    return worker


def rows_there(worker) -> list[range]:
    """The positions of the rows of each partition."""
    log = worker.row_log
    return [range(log.begin(partition), log.end(partition) + 1) for partition in range(4)]


def test_what_is_old_and_learned_goes(tmp_path, rows, clock):
    log, store = log_of(rows, clock), live_store(model_of())
    worker = learned(tmp_path, log, store, clock)
    retention = Retention(log, worker.row_log, store, clock, keep_ms=1_000, every_ms=10)
    clock.advance(1_000)
    assert retention.turn() == 0
    assert log.begin() == 1
    clock.advance(9)
    assert retention.turn() == 0, "it was done 9 ms ago"
    clock.advance(1)
    removed = retention.turn()
    assert log.begin() == log.end() + 1 == len(rows) + 1
    ends = rows_there(worker)
    assert not any(len(there) for there in ends)
    assert removed == len(rows) + sum(there.stop - 1 for there in ends)
    assert removed > len(rows)
    worker.close()


def test_other_generations_keep_the_rows_they_have_to_learn(tmp_path, rows, clock):
    log, store = log_of(rows, clock), live_store(model_of())
    worker = learned(tmp_path, log, store, clock)
    retention = Retention(log, worker.row_log, store, clock, keep_ms=0, every_ms=1)
    other = store.create(model_of(), created_ms=0).number
    clock.advance(10)
    retention.turn()
    assert [there.start for there in rows_there(worker)] == [1, 1, 1, 1]
    store.mark(other, Status.REFUSED)
    clock.advance(10)
    retention.turn()
    assert not any(len(there) for there in rows_there(worker))
    worker.close()
