"""Learning on top of a model: what new rows move, and what they leave as it was."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import Bag
from nearline.model.game import GameModel
from nearline.posterior.outcomes import Outcome

FIXED = FixedSettings(bags=("x",))
LOCKED = FixedSettings(bags=("x",), locked=True)
USER = RandomSettings("user", "user", ("x",), prior_variance=0.5)


def simulate(rows: int, seed: int, users: int = 7, features: int = 2, first: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    codes = rng.integers(0, users, rows)
    own = np.random.default_rng(0).normal(size=(users, features))
    y = 2.0 + x.sum(axis=1) + np.sum(own[codes] * x, axis=1) + rng.normal(size=rows)
    return examples(x, y, codes.astype(np.int32), users, first)


def examples(x: Any, y: Any, codes: Any, users: int, first: int = 0, weight: Any = None) -> Examples:
    names = pa.array([f"x{i + first}" for i in range(x.shape[1])])
    bag = Bag(csr_array(x), names, pa.array([""] * x.shape[1]))
    entities = EntityColumn(codes, pa.array([f"u{i}" for i in range(users)]))
    weight = np.ones(len(y)) if weight is None else weight
    return Examples(y, weight=weight, bags={"x": bag}, entities={"user": entities})


def settings(fixed: FixedSettings, *random: RandomSettings, noise: float | None = 1.0) -> TrainingSettings:
    return TrainingSettings(Outcome.NORMAL, fixed, random, noise_variance=noise, sweeps=20, threads=1)


def learn(model: GameModel, rows: Examples, asked: TrainingSettings) -> GameModel:
    return fit_game(rows, asked, start=model, incremental=True).model


def test_two_batches_are_as_good_as_one_for_normal_outcomes_under_a_locked_fixed_effect() -> None:
    start = fit_game(simulate(40, 1), settings(FIXED, USER)).model
    rows, asked = simulate(60, 2), settings(LOCKED, USER)
    once = learn(start, rows, asked)
    twice = learn(learn(start, rows.take(np.arange(25)), asked), rows.take(np.arange(25, 60)), asked)
    for user in once.effect("user").names.to_pylist():
        one, two = once.effect("user").belief(user)[0], twice.effect("user").belief(user)[0]
        np.testing.assert_allclose(two.mean, one.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.precision, one.precision, rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(twice.effect("user").row_count, once.effect("user").row_count)
    assert twice.learned_weight == once.learned_weight == 100.0


def test_two_batches_are_as_good_as_one_for_a_fixed_effect_of_orthogonal_features() -> None:
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    x = np.tile(corners, (20, 1))
    y = 3.0 + x @ [1.0, -2.0] + np.random.default_rng(3).normal(size=80)
    rows = examples(x, y, np.zeros(80, np.int32), 1)
    asked = settings(FIXED)
    once = fit_game(rows, asked).model.fixed
    first = fit_game(rows.take(np.arange(20)), asked).model
    twice = learn(first, rows.take(np.arange(20, 80)), asked).fixed
    np.testing.assert_allclose(twice.coefficients, once.coefficients, rtol=1e-9)
    np.testing.assert_allclose(twice.precision, once.precision, rtol=1e-12)


def test_the_noise_variance_is_that_of_old_and_new_rows_together() -> None:
    start = fit_game(simulate(400, 1), settings(FIXED, noise=None)).model
    single = learn(start, simulate(1, 2), settings(FIXED, noise=None))
    assert single.noise_variance == pytest.approx(start.noise_variance, rel=0.05)
    assert fit_game(simulate(50, 1), settings(FIXED, noise=2.5)).model.noise_variance == 2.5


def test_the_noise_variance_follows_the_unit_of_the_response() -> None:
    rows = simulate(80, 1)
    small = Examples(rows.response * 1e-9, bags=rows.bags, entities=rows.entities)
    asked = TrainingSettings(Outcome.NORMAL, FixedSettings(bags=("x",), l2=0.0))
    of_small = fit_game(small, asked).model.noise_variance
    assert of_small == pytest.approx(1e-18 * fit_game(rows, asked).model.noise_variance, rel=1e-6)


def test_a_locked_fixed_effect_keeps_its_coefficients_and_their_precision() -> None:
    start = fit_game(simulate(40, 1), settings(FIXED, USER)).model
    later = learn(start, simulate(40, 2), settings(LOCKED, USER))
    np.testing.assert_array_equal(later.fixed.coefficients, start.fixed.coefficients)
    np.testing.assert_array_equal(later.fixed.precision, start.fixed.precision)


def test_new_features_start_with_the_variance_given_for_the_effect() -> None:
    start = fit_game(simulate(40, 1), settings(FIXED, USER)).model
    later = learn(start, simulate(40, 2, first=2), settings(FIXED, USER))
    assert len(later.effect("user").registry) == 5
    np.testing.assert_allclose(later.effect("user").prior.std ** 2, 0.5)


def test_rows_learned_before_count_towards_the_fewest_rows_an_entity_needs() -> None:
    user = RandomSettings("user", "user", prior_variance=0.5, min_rows=3)
    rows = examples(np.ones((5, 1)), np.arange(5.0), np.array([0, 0, 0, 0, 1], np.int32), 2)
    start = fit_game(rows.take(np.arange(3)), settings(FIXED, user)).model
    later = learn(start, rows.take(np.arange(3, 5)), settings(FIXED, user))
    assert dict(zip(later.effect("user").names.to_pylist(), later.effect("user").row_count, strict=True)) == {
        "u0": 4,
        "u1": 0,
    }


def test_a_row_of_weight_two_is_the_row_twice_when_the_prior_is_estimated_too() -> None:
    rows = simulate(60, 1)
    weight = np.random.default_rng(5).integers(1, 4, 60)
    asked = TrainingSettings(Outcome.NORMAL, FIXED, (RandomSettings("user", "user", ("x",)),), sweeps=4)
    repeated = fit_game(rows.take(np.repeat(np.arange(60), weight)), asked).model
    weighted = Examples(rows.response, weight.astype(np.float64), bags=rows.bags, entities=rows.entities)
    model = fit_game(weighted, asked).model
    np.testing.assert_allclose(model.score(rows).linear, repeated.score(rows).linear, rtol=1e-9)
    np.testing.assert_allclose(model.score(rows).std, repeated.score(rows).std, rtol=1e-9)
