"""Beliefs follow from the rows alone: not from how they are cut, nor from restarts, nor, nearly, from mini-batches."""

import math
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from deployed import (
    SHOWN,
    Beliefs,
    beliefs,
    dead_letters,
    encoded,
    life,
    live_store,
    model_of,
    numbers,
    progress,
    shown_drawn,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from nearline.events.wire import decode_event, encode_event
from nearline.posterior.blocks import unpack
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from nearline.stream.join import Join
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import MemoryJoinState
from nearline.stream.joined import JoinedExample, Kind, encode_row
from nearline.stream.learner import Learner, LearnSettings
from nearline.stream.minibatch_settings import MiniBatchSettings

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
    join = Join(choices, route_by_entity(kinds, PARTITIONS))
    return join.push(1, encoded(events), MemoryJoinState()).rows


def learned(
    rows: dict[int, list[bytes]],
    learn: LearnSettings,
    cuts: Sequence[tuple[int, bool]] = (),
    outcome=Outcome.NORMAL,
):
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
@settings(max_examples=8)
@given(draws=shown_drawn, cuts=cuts_drawn)
def test_cuts_and_restarts_change_no_bit(minibatch, outcome, forgetting, draws, cuts):
    rows, learn = rows_of(draws), LearnSettings(forgetting, minibatch)
    whole, pieces = learned(rows, learn, outcome=outcome), learned(rows, learn, cuts, outcome)
    assert beliefs(pieces) == beliefs(whole)
    for partition in rows:
        assert progress(pieces, partition) == progress(whole, partition)
        assert dead_letters(pieces, partition) == dead_letters(whole, partition)


def closed(rows: dict[int, list[bytes]]) -> dict[int, list[bytes]]:
    """The rows, and then time that makes all of them due by age."""
    tick = encode_row(JoinedExample(b"", 0.0, 0.0, 1_000_000, Kind.TICK, ()))
    return {partition: [*of_partition, tick] for partition, of_partition in rows.items()}


def correlated(store) -> Beliefs:
    """Of the effects that keep correlations: what a diagonal belief forgets of them depends on the mini-batches."""
    return {name: known for name, known in beliefs(store).items() if name[0] != "per-item"}


def by_rows(rows: int) -> LearnSettings:
    return LearnSettings(FORGETTING, MiniBatchSettings(rows=rows, age_ms=100_000))


@settings(max_examples=20)
@given(draws=shown_drawn)
def test_normal_beliefs_are_the_same_by_mini_batches_of_any_size(draws):
    rows = closed(rows_of(draws))
    one, *others = (correlated(learned(rows, by_rows(size))) for size in (1, 8, 64))
    for other in others:
        assert other.keys() == one.keys()
        for name, known in one.items():
            assert other[name][0] == known[0] and other[name][2:4] == known[2:4]  # noqa: PT018
            for mine, theirs in zip(numbers(known), numbers(other[name]), strict=True):
                np.testing.assert_allclose(theirs, mine, rtol=1e-9, atol=1e-9)


def without_corrections(draws):
    """Taking back a Bernoulli row is approximate by itself."""
    return [(*draw[:4], None if draw[4] is None else draw[4] % 35, draw[5]) for draw in draws]


def mean_and_deviation(known, prior) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of each coefficient."""
    column = np.frombuffer(known[3], np.int32)
    shift, packed = numbers(known)
    whole = np.zeros(prior.precision.shape)
    whole[np.ix_(column, column)] = unpack(packed, len(column))
    pull = prior.precision @ prior.mean
    pull[column] += shift
    precision = prior.precision + whole
    return np.linalg.solve(precision, pull), np.diag(np.linalg.inv(precision)) ** 0.5


BERNOULLI_BOUND = 0.35
"""Posterior standard deviations by which a mean may differ between mini-batches of 1, 8 and 64 rows."""


@settings(max_examples=20)
@given(draws=shown_drawn)
def test_bernoulli_beliefs_are_nearly_the_same_by_mini_batches_of_any_size(draws):
    rows = closed(rows_of(without_corrections(draws)))
    model = model_of(Outcome.BERNOULLI)
    priors = {effect.name: effect.prior for effect in model.random}
    one, *others = (
        correlated(learned(rows, by_rows(size), outcome=Outcome.BERNOULLI)) for size in (1, 8, 64)
    )
    for other in others:
        for name, known in one.items():
            mean, deviation = mean_and_deviation(known, priors[name[0]])
            differs = np.abs(mean_and_deviation(other[name], priors[name[0]])[0] - mean) / deviation
            assert differs.max() < BERNOULLI_BOUND


def altered(record: bytes, **fields) -> bytes:
    event = decode_event(record[25:])
    return record[:25] + encode_event(structs.replace(event, **fields))


def weighing(weight: float, row: bytes) -> bytes:
    return row[:9] + struct.pack("<d", weight) + row[17:]


BAD = {
    "weight": (Outcome.NORMAL, lambda row: weighing(math.nan, row)),
    "vast weight": (
        Outcome.NORMAL,
        lambda row: weighing(1e308, altered(row, features={bag: {"x1": 1e3} for bag in ("f", "g")})),
    ),
    "label": (Outcome.BERNOULLI, lambda row: row[:1] + struct.pack("<d", 7.0) + row[9:]),
    "no label": (Outcome.NORMAL, lambda row: row[:1] + struct.pack("<d", math.nan) + row[9:]),
    "vast features": (
        Outcome.NORMAL,
        lambda row: altered(row, features={bag: {"x1": 1e200} for bag in ("f", "g")}),
    ),
    "feature": (
        Outcome.BERNOULLI,
        lambda row: altered(row, features={bag: {"x1": math.inf} for bag in ("f", "g")}),
    ),
    "served": (
        Outcome.BERNOULLI,
        lambda row: altered(row, contributions=dict.fromkeys(("a", "b"), (math.nan, 1.0))),
    ),
    "damaged": (Outcome.NORMAL, lambda row: row[:-9]),
}


@pytest.mark.parametrize(("outcome", "spoilt"), BAD.values(), ids=BAD)
@settings(max_examples=5)
@given(draws=st.lists(SHOWN, min_size=12, max_size=24), place=st.integers(0, 10))
def test_a_bad_row_spoils_nothing_but_itself(outcome, spoilt, draws, place):
    tolerance = 1e-6 if outcome is Outcome.NORMAL else 0.2
    rows = rows_of(without_corrections([(0, 1, *draw[2:]) for draw in draws]))
    learn = LearnSettings({}, MiniBatchSettings(rows=64, age_ms=100_000))
    bad, good = {}, {}
    for partition, of_partition in closed(rows).items():
        at = min(place, len(of_partition) - 2)
        bad[partition] = [*of_partition[:at], spoilt(of_partition[at]), *of_partition[at:]]
        good[partition] = of_partition
    found, expected = learned(bad, learn, outcome=outcome), learned(good, learn, outcome=outcome)
    priors = {effect.name: effect.prior for effect in model_of(outcome).random}
    for name, known in correlated(expected).items():
        mine = beliefs(found)[name]
        assert mine[0] == known[0]
        for one, other in zip(
            *(mean_and_deviation(which, priors[name[0]]) for which in (known, mine)), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
    for partition, of_partition in bad.items():
        letters = dead_letters(found, partition)
        assert letters, partition
        assert {letter.position for letter in letters} == {min(place, len(of_partition) - 3) + 1}
        assert all(letter.reason for letter in letters)
