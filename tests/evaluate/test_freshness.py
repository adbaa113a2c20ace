"""Levels of freshness on small streams: against slow loops, and without a look at labels that are not known yet."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.batch.descent import fit_game
from nearline.batch.tables import examples_from_table
from nearline.clock import duration_ms
from nearline.errors import ConfigError, DataError
from nearline.evaluate import freshness
from nearline.evaluate.batch_levels import BatchLevel
from nearline.evaluate.freshness import ReplaySettings, first_judged, replay_levels, walk_with_refits
from nearline.evaluate.freshness_measures import labels_known, measure
from nearline.evaluate.freshness_report import ReplayReport, replay_renderer
from nearline.evaluate.levels import LEVELS
from nearline.evaluate.metrics import auc, log_loss
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Stream, replay, steps_in_time
from nearline.evaluate.spans import Span
from nearline.evaluate.waiting import Waiting
from nearline.model.examples import Examples
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome
from simulated import MAPPING, SETTINGS, table

QUICK = replace(SETTINGS, sweeps=1, prior_steps=1)
brief = settings(max_examples=15)


def stream_of(rows: int = 120, *, ties: int = 1, delay: int = 0, seed: int = 0, **changed) -> Stream:
    """Simulated rows, `ties` of them at each time, with labels known up to `delay` times later."""
    made = table(rows, seed=seed, outcome=changed.pop("outcome", Outcome.BERNOULLI), **changed)
    examples = examples_from_table(made, MAPPING, source="rows")
    time_ms = np.arange(rows, dtype=np.int64) // ties * 1000
    later = np.random.default_rng(seed).integers(0, delay + 1, rows) * 1000
    return Stream.of(replace(examples, time_ms=time_ms), time_ms + later)


def fitted(stream: Stream, rows) -> object:
    return fit_game(stream.examples.take(np.asarray(rows)), QUICK)


@pytest.mark.parametrize("window", [None, Span.parse("1/4"), Span.parse("20s")])
def test_a_level_with_refits_is_the_obvious_loop(window) -> None:
    stream = stream_of(ties=3, delay=9)
    begin, n = first_judged(stream, 0.5), len(stream)
    marks = Span.parse("1/10").marks(stream, begin)
    known = [row for row in range(n) if stream.known_ms[row] < stream.time_ms[begin]]
    first = model = fit_game(stream.examples.take(np.array(known)), QUICK).model
    level = BatchLevel(
        "level 1", stream, first, trained_at=begin, settings=QUICK, refit_at=marks, window=window
    )
    predicted = replay(stream, [level], begin=begin)["level 1"]
    for row in range(begin, n):
        if row in marks:
            known = [other for other in range(n) if stream.known_ms[other] < stream.time_ms[row]]
            if window is not None and window.share is not None:
                known = [other for other in known if other >= row - n / 4]
            elif window is not None:
                known = [other for other in known if stream.time_ms[other] >= stream.time_ms[row] - 20_000]
            model = fit_game(stream.examples.take(np.array(known)), QUICK, start=model).model
        expected = model.score(stream.examples.take(np.array([row]))).mean[0]
        assert predicted[row - begin] == pytest.approx(expected, abs=1e-12)


def test_level_3_in_mini_batches_of_one_learns_row_by_row() -> None:
    stream = stream_of()
    model = fitted(stream, range(60)).model
    together = replay(stream, [OnlineLevel(stream, model, OnlineSettings(mini_batch=1))])["level 3"]
    level, one_by_one = OnlineLevel(stream, model), []
    for row in range(len(stream)):
        one_by_one.append(level.score(np.array([row]))[0])
        level.learn(np.array([row]))
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


@brief
@given(size=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_a_mini_batch_is_due_when_enough_rows_of_its_entity_wait(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    entity, waiting, seen = rng.integers(-1, 4, 60), Waiting(size), dict.fromkeys(range(4), 0)
    done: list[int] = []
    for row in range(60):
        due = waiting.due(np.array([row]), entity[row : row + 1]).tolist()
        if size == 1:
            assert due == [row]
            continue
        seen[int(entity[row])] = seen.get(int(entity[row]), 0) + 1
        own = [other for other in range(row + 1) if entity[other] == entity[row]]
        full = entity[row] >= 0 and len(own) % size == 0
        assert due == (own[-size:] if full else [])
        done += due
    assert len(done) == len(set(done))


def test_refits_by_the_same_model_change_level_3_little_and_normal_outcomes_not_at_all() -> None:
    stream = stream_of(outcome=Outcome.NORMAL)
    normal = replace(QUICK, outcome=Outcome.NORMAL)
    model = fit_game(stream.examples.take(np.arange(60)), normal).model
    settings_ = OnlineSettings({"per-user": Forgetting(time_constant_ms=50_000.0)})
    plain = replay(stream, [OnlineLevel(stream, model, settings_)])["level 3"][60:]
    level = OnlineLevel(stream, model, settings_)
    replay(stream, [level], end=60)
    refitted = walk_with_refits(stream, level, {60: model, 80: model, 100: model}, begin=60)
    np.testing.assert_allclose(refitted, plain, rtol=1e-7, atol=1e-9)


@brief
@given(seed=st.integers(0, 10**6))
def test_labels_known_of_an_entity_are_counted_as_by_hand(seed: int) -> None:
    stream = stream_of(40, ties=2, delay=5, seed=seed)
    codes = stream.examples.entities["user"].codes
    for row, count in enumerate(labels_known(stream, "user")):
        assert count == np.sum((codes == codes[row]) & (stream.known_ms < stream.time_ms[row]))


def noise(n: int, seed: int) -> Stream:
    """Labels that nothing foretells but themselves, each known some time after its row."""
    rng = np.random.default_rng([seed, 1])  # not the generator of the features
    made = table(n, users=5, seed=seed, y=rng.integers(0, 2, n).astype(float), offset=np.zeros(n))
    examples = examples_from_table(made, MAPPING, source="noise")
    time_ms = np.arange(n, dtype=np.int64) // 4
    return Stream.of(replace(examples, time_ms=time_ms), time_ms + rng.integers(0, 30, n))


def test_pure_noise_is_foretold_by_no_level() -> None:
    stream = noise(1600, seed=3)
    short = ReplaySettings(sensitivity=False, ideal_every=Span.parse("1/20"))
    replayed = replay_levels(stream, QUICK, short, OnlineSettings())
    y = stream.examples.response[replayed.begin :]
    assert [run.name for run in replayed.runs] == list(LEVELS)
    for run in replayed.runs:  # the standard error of an AUC of 800 rows is 0.02
        assert abs(auc(y, run.predicted) - 0.5) < 0.07, run.name
        assert log_loss(y, run.predicted) > 0.685


@settings(max_examples=4)
@given(seed=st.integers(0, 10**6))
def test_a_label_changes_no_prediction_of_any_level_before_it_is_known(seed: int) -> None:
    stream = stream_of(60, ties=2, delay=12, seed=seed)
    row = int(np.random.default_rng(seed).integers(60))
    y = stream.examples.response.copy()
    y[row] = 1.0 - y[row]
    other = Stream.of(replace(stream.examples, response=y), stream.known_ms)
    how = ReplaySettings(sensitivity=False, ideal_every=Span.parse("1/10"))
    one, two = (replay_levels(each, QUICK, how, OnlineSettings()) for each in (stream, other))
    before = (stream.time_ms <= stream.known_ms[row])[one.begin :]
    for mine, theirs in zip(one.runs, two.runs, strict=True):
        np.testing.assert_array_equal(mine.predicted[before], theirs.predicted[before], mine.name)


def test_every_row_is_judged_once_whatever_the_ties() -> None:
    stream = stream_of(ties=7)
    begin = first_judged(stream, 0.5)
    assert stream.time_ms[begin - 1] < stream.time_ms[begin]
    level = BatchLevel("level 0", stream, fitted(stream, range(begin)).model, trained_at=begin)
    assert sum(len(step.score) for step in level.plan(stream, begin, len(stream))) == len(stream) - begin
    for mark in Span.parse("1/10").marks(stream, begin):
        assert stream.time_ms[mark - 1] < stream.time_ms[mark]
    assert len(steps_in_time(stream, begin, len(stream))) == len(np.unique(stream.time_ms[begin:])) + 1


@pytest.mark.parametrize(
    "kind", ["two rows", "one entity", "constant labels", "no effects", "counts", "plain"]
)
def test_the_page_is_drawn_of_whatever_there_is(kind: str) -> None:
    outcome = Outcome.POISSON if kind == "counts" else Outcome.BERNOULLI
    rows = 2 if kind == "two rows" else 60
    extra = {"y": np.ones(rows)} if kind == "constant labels" else {}
    stream = stream_of(rows, users=1 if kind == "one entity" else 6, outcome=outcome, **extra)
    training = replace(QUICK, outcome=outcome)
    if kind == "no effects":
        training = replace(training, random=())
    how = ReplaySettings(ideal_every=Span.parse("1/5"), sensitivity=kind == "plain")
    replayed = replay_levels(
        stream, training, how, OnlineSettings(), choose=[e.name for e in training.random]
    )
    found = measure(replayed, resamples=10)
    page = replay_renderer()(ReplayReport("<b>", replayed, found, ("about & so on",)))
    assert "&lt;b&gt;" in page
    assert "about &amp; so on" in page
    assert ("Mini-batches, forgetting, precision" in page) == (kind == "plain")
    for level in LEVELS:
        assert level in page
    assert page == replay_renderer()(ReplayReport("<b>", replayed, found, ("about & so on",)))


def test_only_the_levels_asked_for_are_there_and_level_3_always() -> None:
    stream = stream_of(60)
    for asked, there in ((("window",), ("window", "level 3")), (("level 3 + refits",), LEVELS[4:6])):
        how = ReplaySettings(levels=asked, sensitivity=False)
        assert tuple(run.name for run in replay_levels(stream, QUICK, how, OnlineSettings()).runs) == there


def test_the_model_at_the_end_scores_as_level_3_does() -> None:
    stream = stream_of()
    rule = OnlineSettings({"per-user": Forgetting(time_constant_ms=30_000.0)})
    first = fitted(stream, range(60)).model
    level = OnlineLevel(stream, first, rule)
    replay(stream, [level])
    rows = np.arange(100, 120)
    now = stream.until_ms(len(stream)) - 1
    late = replace(stream.examples.take(rows), time_ms=np.full(20, now))
    other = OnlineLevel(
        Stream.of(replace(stream.examples, time_ms=np.maximum(stream.time_ms, 0))), first, rule
    )
    replay(stream, [other])
    other._stream = Stream.of(replace(stream.examples, time_ms=np.full(len(stream), now)))
    np.testing.assert_allclose(level.model(now).score(late).mean, other.score(rows), rtol=1e-9)


@pytest.mark.parametrize("text", ["", "0", "2", "1/0", "x", "-1d", "0d", "7 years", "nan"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a part"):
        Span.parse(text)


def test_lengths_are_read() -> None:
    assert Span.parse("1/4").share == 0.25
    assert Span.parse("1.5h").ms == duration_ms("90min") == 5_400_000.0
    stream = stream_of(50, ties=5)
    assert Span.parse("2s").marks(stream, 25).tolist() == [35, 45]
    assert Span.parse("2s").begins_before(stream, 25) == 15
    assert Span.parse("0.2").marks(stream, 25).tolist() == [35, 45]


def test_streams_that_cannot_be_divided_are_refused() -> None:
    stream = stream_of(20, ties=20)
    with pytest.raises(DataError, match="all rows have the same time"):
        first_judged(stream, 0.5)
    with pytest.raises(DataError, match="at least two rows"):
        first_judged(stream_of(1), 0.5)
    late = Stream.of(stream_of(20).examples, np.full(20, 10**9))
    with pytest.raises(DataError, match="no label is known"):
        replay_levels(late, QUICK, ReplaySettings(), OnlineSettings())
    assert freshness.first_judged(stream_of(2), 0.01) == 1
    assert isinstance(stream.examples, Examples)
