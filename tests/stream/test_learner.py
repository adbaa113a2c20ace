"""Beliefs follow from the rows alone: not from how they are cut, nor from restarts, nor, nearly, from mini-batches."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from deployed import beliefs, dead_letters, encoded, life, live_store, model_of, numbers, progress, shown_drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.errors import DataError
from nearline.events.impression import Feedback, Impression
from nearline.events.wire import decode_event, encode_event
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.stream.join import Join, route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import MemoryJoinState
from nearline.stream.joined import JoinedExample, Kind, encode_row, rows_by_partition
from nearline.stream.learner import Learner, LearnSettings
from nearline.stream.minibatch import MiniBatchSettings

PARTITIONS = 2
FORGETTING = {"per-user": Forgetting(time_constant_ms=300.0), "per-item": Forgetting(time_constant_ms=900.0)}
KEEPS = {"per-user": Forgetting(keep_per_batch=0.9)}
MINIBATCHES = {
    "1": MiniBatchSettings(rows=1),
    "8": MiniBatchSettings(rows=8),
    "64": MiniBatchSettings(rows=64),
    "age": MiniBatchSettings(rows=64, age_ms=30),
    "information": MiniBatchSettings(rows=64, information=0.6),
    "bounded": MiniBatchSettings(rows=64, max_waiting=4),
}
cuts_drawn = st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=20)


def rows_of(draws, effects=("per-user", "per-item", "per-user-time")) -> dict[int, list[bytes]]:
    """The rows that the join makes of drawn events."""
    kinds = {name: "item" if name == "per-item" else "user" for name in effects}
    events = life(draws)
    choices = JoinSettings(window_ms=40, allowed_lateness_ms=10, correct_within_ms=60)
    join = Join(choices, route_by_entity(kinds, PARTITIONS), PARTITIONS)
    joined = join.push(1, encoded(events), events, MemoryJoinState())
    return rows_by_partition(joined.examples)


def learned(rows: dict[int, list[bytes]], learn: LearnSettings, cuts: Sequence[tuple[int, bool]] = (), outcome=Outcome.NORMAL):
    """The store after the rows came in pieces of these sizes, with a restart after some of them."""
    model = model_of(outcome)
    store = live_store(model, PARTITIONS)
    for partition, of_partition in rows.items():
        left = list(cuts)
        learner = Learner(model, 1, partition, PARTITIONS, learn, progress(store, partition))
        while learner.taken_to < len(of_partition):
            size, restarts = left.pop(0) if left else (len(of_partition), False)
            some = of_partition[learner.taken_to : learner.taken_to + size]
            with store.writing(1, partition) as txn:
                said = learner.step(txn, learner.taken_to + 1, some)
            assert said == progress(store, partition)
            counts = said.counts
            assert counts.rows == counts.learned + counts.taken_back + counts.set_aside + counts.waiting
            if restarts:
                learner = Learner(model, 1, partition, PARTITIONS, learn, said)
    return store


@pytest.mark.parametrize("forgetting", [FORGETTING, KEEPS], ids=["by time", "by mini-batch"])
@pytest.mark.parametrize("outcome", [Outcome.NORMAL, Outcome.BERNOULLI])
@pytest.mark.parametrize("minibatch", MINIBATCHES.values(), ids=MINIBATCHES)
@settings(max_examples=int(__import__('os').environ.get('EX','12')), phases=[__import__('hypothesis').Phase.generate])
@given(draws=shown_drawn, cuts=cuts_drawn)
def test_cuts_and_restarts_change_no_bit(minibatch, outcome, forgetting, draws, cuts):
    rows, learn = rows_of(draws), LearnSettings(forgetting, minibatch)
    whole, pieces = learned(rows, learn, outcome=outcome), learned(rows, learn, cuts, outcome)
    assert beliefs(pieces) == beliefs(whole)
    for partition in rows:
        assert progress(pieces, partition) == progress(whole, partition)
        assert dead_letters(pieces, partition) == dead_letters(whole, partition)
