"""Drift: what predictions were worth, held against the same at the last refit, in words."""

import numpy as np
import pytest

from nearline.cli.drift import DriftAlarm
from nearline.errors import ConfigError
from nearline.events.impression import Impression
from nearline.events.log import MemoryLog
from nearline.events.partition import partitions_of
from nearline.events.wire import encode_event
from nearline.posterior.outcomes import Outcome
from nearline.store.generations import Status
from nearline.store.memory import MemoryStore
from nearline.stream.drift import DriftSettings, Figures, Predicted, drift_between, figures_in, figures_of
from nearline.stream.drift_watch import DriftWatch, route_of
from nearline.stream.joined import JoinedExample, Kind, rows_by_partition
from nearline.testing import ManualClock
from simulated import trained

RNG = np.random.default_rng(0)
SETTINGS = DriftSettings(rows=300, least_rows=100)


def predicted(rows: int = 4_000, effect: float = 1.0) -> Predicted:
    """Labels of a world that the parts describe, when `effect` is 1."""
    shared, part = RNG.normal(size=rows), RNG.normal(size=rows)
    y = (RNG.random(rows) < 1.0 / (1.0 + np.exp(-shared - effect * part))).astype(float)
    return Predicted(y, np.ones(rows), shared, {"per-user": part}, {"per-user": np.zeros(rows)})


def test_figures_are_loss_calibration_and_loss_without_each_effect():
    y, shared = np.array([1.0, 0.0, 1.0, 2.0]), np.array([0.3, -0.2, 0.1, 0.0])
    rows = Predicted(y, np.array([1.0, 2.0, 0.0, 1.0]), shared, {"a": 2 * shared}, {"a": np.zeros(4)})
    found = figures_of(rows, Outcome.BERNOULLI)
    p, q = (1.0 / (1.0 + np.exp(-factor * shared[:2])) for factor in (3.0, 1.0))
    assert found.rows == 2
    assert found.loss == pytest.approx((-np.log(p[0]) - 2 * np.log1p(-p[1])) / 3)
    assert found.without["a"] == pytest.approx((-np.log(q[0]) - 2 * np.log1p(-q[1])) / 3)
    assert found.calibration == pytest.approx(1.0 / (p[0] + 2 * p[1]))
    assert figures_in(found.as_metrics()) == found
    assert figures_in({"loss": 1.0}) is None
    normal = Predicted(y, np.ones(4), shared, {}, {})
    loss = 0.5 * np.mean((y - shared) ** 2) / 0.5
    assert figures_of(normal, Outcome.NORMAL, 0.5).loss == pytest.approx(loss)
    loss = np.mean(np.exp(shared) - y * shared)
    assert figures_of(normal, Outcome.POISSON).loss == pytest.approx(loss)
    nothing = Predicted(y[:0], y[:0], y[:0], {}, {})
    assert figures_of(nothing, Outcome.NORMAL) is None


def test_drift_is_said_in_words_and_nothing_is_said_of_chance():
    then = figures_of(predicted(), Outcome.BERNOULLI)
    again = figures_of(predicted(), Outcome.BERNOULLI)
    assert drift_between(again, then, DriftSettings()) == ()
    gone = figures_of(predicted(effect=0.0), Outcome.BERNOULLI)
    words = drift_between(gone, then, DriftSettings())
    assert [sentence.split()[0] for sentence in words] == ["loss", "per-user"]
    assert f"at the last refit {then.loss:.4f}" in words[0]
    off = Figures(100, then.loss, then.calibration + 0.2, then.without)
    assert drift_between(off, then, DriftSettings())[0].startswith("observed / expected")


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"drift\.least_rows: expected 1 to drift\.rows, 5, got 6"):
        DriftSettings(rows=5, least_rows=6)
    with pytest.raises(ConfigError, match=r"drift\.loss"):
        DriftSettings(loss=0.0)


def append(log, model, rows: int, *, right: bool, begin: int, generation: int = 1) -> None:
    """Rows in which per-user says what comes, or the contrary."""
    route = route_of(model, log.partitions)
    made = []
    for i in range(begin, begin + rows):
        says = 2.0 if i % 2 else -2.0
        event = Impression(
            f"i{i}",
            i,
            {"user": f"u{i % 7}", "film": f"f{i % 5}"},
            contributions={"per-user": (says if right else -says, 0.1)},
            generation=generation,
        )
        record = encode_event(event)
        made.append(JoinedExample(record, float(i % 2), 1.0, i + 5, Kind.LEARN, route(event)))
    for partition, encoded in rows_by_partition(made).items():
        log.append(encoded, partition)


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_watch_looks_at_the_last_rows_that_the_live_generation_served(partitions):
    model = trained()[0]
    store, log = MemoryStore(partitions_of, partitions=partitions), MemoryLog(partitions=partitions)
    store.create(model, created_ms=0)
    then = Figures(100, 0.15, 1.0, {"per-user": 0.7, "per-film": 0.15})
    store.mark(1, Status.CANDIDATE, metrics=then.as_metrics())
    store.switch(1)
    said, started, clock = [], [], ManualClock()
    alarm = DriftAlarm(
        DriftWatch(log, store, SETTINGS), clock, said.append, lambda: started.append(1), every_ms=10
    )
    assert alarm.turn().now is None
    append(log, model, 99, right=True, begin=0)
    append(log, model, 500, right=False, begin=99, generation=7)
    assert alarm.turn() is None
    clock.advance(10)
    assert alarm.turn().now is None
    append(log, model, 350, right=True, begin=600)
    clock.advance(10)
    drift = alarm.turn()
    assert (drift.now.rows, drift.words, said) == (300, (), [])
    assert drift == DriftWatch(log, store, SETTINGS).look()
    append(log, model, 290, right=False, begin=1000)
    for _ in range(3):
        clock.advance(10)
        drift = alarm.turn()
    assert len(drift.words) == 2
    assert drift.now.loss > 1.5
    assert len(said) == 1
    assert said[0].startswith("drift: generation 1: loss ")
    assert started == [1]
