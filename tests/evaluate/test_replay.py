"""Walking a stream: nothing is scored with what was not yet known, and waves come to the same as steps in time."""

from dataclasses import replace
from typing import final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from nearline.arrays import Floats, Ints
from nearline.errors import ConfigError, DataError
from nearline.evaluate.choose import choose_settings
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Step, Stream, replay, steps_in_time
from nearline.model.effects import FixedCoefficients, RandomEffect, design
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag, ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome

brief = settings(max_examples=20)
seeds = st.integers(0, 10**6)


def drawn(seed: int, n: int = 60) -> tuple[Stream, GameModel]:
    """A stream of two crossed effects with ties and delays, some rows without a film, and a model to begin with."""
    rng = np.random.default_rng(seed)
    time_ms = np.sort(rng.integers(0, n // 2, n))
    keys = pa.array(["a", "b"])
    bag = Bag(csr_array(rng.normal(size=(n, 2))), keys, pa.array(["", ""]))
    entities = {
        "user": EntityColumn(rng.integers(0, 6, n).astype(np.int32), pa.array([f"u{i}" for i in range(6)])),
        "film": EntityColumn(rng.integers(-1, 8, n).astype(np.int32), pa.array([f"f{i}" for i in range(8)])),
    }
    y = rng.integers(0, 2, n).astype(float)
    examples = Examples(y, time_ms=time_ms, bags={"x": bag}, entities=entities)
    stream = Stream.of(examples, time_ms + rng.integers(0, 5, n) * rng.integers(0, 2, n))
    random = []
    for kind in ("user", "film"):
        registry = ColumnRegistry(intercept=True)
        columns = design(registry, ("x",), examples, grow=True).shape[1]
        prior = Gaussian(np.zeros(columns), np.eye(columns))
        evidence, none = no_evidence(0, full=True), pa.array([], pa.string())
        random.append(
            RandomEffect(kind, kind, ("x",), registry, prior, evidence, none, np.zeros(0, np.int64))
        )
    fixed = FixedCoefficients((), ColumnRegistry(intercept=True), np.array([0.2]))
    return stream, GameModel(Outcome.BERNOULLI, fixed, tuple(random))


def forgetful() -> OnlineSettings:
    return OnlineSettings({"user": Forgetting(time_constant_ms=20.0)}, {"film": 2.0})


@final
class Recorder:
    """A level that only notes what it is asked."""

    name = "recorder"

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.scored: list[int] = []
        self.learned: list[int] = []

    def plan(self, stream: Stream, begin: int, end: int) -> list[Step]:
        return steps_in_time(stream, begin, end)

    def score(self, rows: Ints) -> Floats:
        now = self.stream.time_ms[rows].min()
        assert np.all(self.stream.known_ms[self.learned] < now)
        waiting = np.setdiff1d(np.arange(len(self.stream)), self.learned)
        assert np.all(self.stream.known_ms[waiting] >= now)
        self.scored += rows.tolist()
        return np.full(len(rows), 0.5)

    def learn(self, rows: Ints) -> None:
        assert set(rows.tolist()) <= set(self.scored)
        self.learned += rows.tolist()


@brief
@given(seed=seeds)
def test_each_row_is_scored_with_all_the_labels_known_before_it_and_no_other(seed: int) -> None:
    stream, _ = drawn(seed)
    level = Recorder(stream)
    replay(stream, [level])
    assert level.scored == list(range(len(stream)))
    assert sorted(level.learned) == list(range(len(stream)))


@final
class InTime:
    """Level 3, walked step by step."""

    name = "in time"

    def __init__(self, level: OnlineLevel) -> None:
        self.score, self.learn = level.score, level.learn

    def plan(self, stream: Stream, begin: int, end: int) -> list[Step]:
        return steps_in_time(stream, begin, end)


@brief
@given(seed=seeds)
def test_a_level_that_has_learned_nothing_scores_as_its_model_does(seed: int) -> None:
    stream, model = drawn(seed)
    film = model.random[1]
    film = replace(film, prior=Gaussian(np.linspace(-1.0, 1.0, len(film.prior.mean)), film.prior.precision))
    model = replace(model, random=(model.random[0], film))
    found = OnlineLevel(stream, model).score(np.arange(len(stream)))
    np.testing.assert_allclose(found, model.score(stream.examples).mean, rtol=1e-12)


@brief
@given(seed=seeds)
def test_waves_predict_what_steps_in_time_do(seed: int) -> None:
    stream, model = drawn(seed)
    waves = OnlineLevel(stream, model, forgetful())
    assert len(waves.plan(stream, 0, len(stream))) <= len(steps_in_time(stream, 0, len(stream)))
    steps = InTime(OnlineLevel(stream, model, forgetful()))
    predicted = replay(stream, [waves])["level 3"]
    np.testing.assert_allclose(predicted, replay(stream, [steps])["in time"], rtol=1e-12)


@brief
@given(seed=seeds, cut=st.integers(0, 60))
def test_walking_in_two_parts_is_walking_through(seed: int, cut: int) -> None:
    stream, model = drawn(seed)
    whole = replay(stream, [OnlineLevel(stream, model, forgetful())])["level 3"]
    level = OnlineLevel(stream, model, forgetful())
    parts = [replay(stream, [level], end=cut)["level 3"], replay(stream, [level], begin=cut)["level 3"]]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)


@brief
@given(seed=seeds)
def test_a_label_changes_no_prediction_made_before_it_was_known(seed: int) -> None:
    stream, model = drawn(seed)
    row = int(np.random.default_rng(seed).integers(len(stream)))
    y = stream.examples.response.copy()
    y[row] = 1.0 - y[row]
    other = Stream.of(
        Examples(
            y,
            time_ms=stream.time_ms,
            bags=dict(stream.examples.bags),
            entities=dict(stream.examples.entities),
        ),
        stream.known_ms,
    )
    one, two = (replay(s, [OnlineLevel(s, model, forgetful())])["level 3"] for s in (stream, other))
    before = stream.time_ms <= stream.known_ms[row]
    np.testing.assert_array_equal(one[before], two[before])


def test_opponents_share_what_is_known_of_them_with_opposite_signs() -> None:
    rng = np.random.default_rng(4)
    n = 400
    strength = np.array([1.5, 0.5, -0.5, -1.5])
    players = np.array([rng.permutation(4)[:2] for _ in range(n)])
    margin = strength[players[:, 0]] - strength[players[:, 1]]
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-margin))).astype(float)
    names = pa.array(["a", "b", "c", "d"])
    entities = {f"p{i}": EntityColumn(players[:, i].astype(np.int32), names) for i in (0, 1)}
    stream = Stream.of(Examples(y, entities=entities))
    random = []
    for kind in ("p0", "p1"):
        prior = Gaussian(np.zeros(1), np.eye(1))
        none = pa.array([], pa.string())
        registry = ColumnRegistry(intercept=True)
        evidence = no_evidence(0, full=True)
        random.append(RandomEffect(kind, kind, (), registry, prior, evidence, none, np.zeros(0, np.int64)))
    fixed = FixedCoefficients((), ColumnRegistry(intercept=True), np.zeros(1))
    model = GameModel(Outcome.BERNOULLI, fixed, tuple(random))
    apart = replay(stream, [OnlineLevel(stream, model)])["level 3"]
    shared = replay(stream, [OnlineLevel(stream, model, OnlineSettings(against={"p1": "p0"}))])["level 3"]
    truth = 1.0 / (1.0 + np.exp(-margin))
    assert np.mean((shared - truth) ** 2) < 0.7 * np.mean((apart - truth) ** 2)


def test_opponents_with_other_features_are_refused() -> None:
    stream, model = drawn(1)
    film = model.random[1]
    bare = RandomEffect(
        "film",
        "film",
        (),
        ColumnRegistry(),
        Gaussian(np.zeros(1), np.eye(1)),
        film.evidence,
        film.names,
        film.row_count,
    )
    other = GameModel(model.outcome, model.fixed, (model.random[0], bare))
    with pytest.raises(ConfigError, match=r"against\.film: expected the features of 'user'"):
        OnlineLevel(stream, other, OnlineSettings(against={"film": "user"}))


def test_settings_are_chosen_without_a_look_at_later_rows() -> None:
    stream, model = drawn(8)
    seen = []
    for labels in (stream.examples.response, np.where(np.arange(60) < 40, stream.examples.response, 1.0)):
        examples = Examples(
            labels,
            time_ms=stream.time_ms,
            bags=dict(stream.examples.bags),
            entities=dict(stream.examples.entities),
        )
        losses: list[float] = []
        chosen = choose_settings(
            Stream.of(examples, stream.known_ms),
            model,
            OnlineSettings(),
            begin=20,
            end=40,
            time_constants_ms=[100.0, 20.0, 5.0],
            spreads=[2.0],
            tried=lambda _, loss, losses=losses: losses.append(loss),  # type: ignore[misc]
        )
        assert len(losses) >= 5
        seen.append((losses, chosen.forgetting, chosen.spread))
    assert seen[0] == seen[1]


def test_a_label_known_before_its_row_is_refused() -> None:
    examples = Examples(np.zeros(2), time_ms=np.array([5, 6]))
    with pytest.raises(DataError, match="row 1: its label is known before it is served"):
        Stream.of(examples, np.array([5, 5]))
    with pytest.raises(DataError, match=r"known_ms: expected int64\[2\]"):
        Stream.of(examples, np.zeros(3, dtype=np.int64))
