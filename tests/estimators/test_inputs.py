"""X in all its forms means the same."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.errors import ConfigError
from nearline.estimators import EntityEffect, GameClassifier, GameRegressor
from nearline.estimators.effects import entity_effects

QUICK: dict[str, Any] = {"sweeps": 2}


def test_the_functional_interface_learns_the_same_bits(world: Any) -> None:
    ours = GameClassifier({"user": ["age"]}, **QUICK).fit(world.frame, world.label)
    table = pa.Table.from_pandas(world.frame.assign(y=world.label), preserve_index=False)
    bags = {"all": ("age", "price", "city"), "own": ("age",)}
    examples = examples_from_table(table, TableMapping("y", entities={"user": "user"}, bags=bags))
    settings = TrainingSettings(
        fixed=FixedSettings(bags=("all",)),
        random=(RandomSettings("user", "user", ("own",)),),
        sweeps=2,
        threads=2,
    )
    model = fit_game(examples, settings).model
    scores = model.score(examples)
    np.testing.assert_array_equal(ours.decision_function(world.frame), scores.linear)
    np.testing.assert_array_equal(ours.predict_proba(world.frame)[:, 1], scores.mean)


@pytest.mark.parametrize(
    "convert",
    [pl.from_pandas, lambda frame: pa.Table.from_pandas(frame, preserve_index=False)],
    ids=["polars", "pyarrow"],
)
def test_data_frames_of_all_libraries_are_read_alike(world: Any, convert: Any) -> None:
    of_pandas = GameRegressor({"user": "all"}, **QUICK).fit(world.frame, world.number)
    frame = convert(world.frame)
    other = GameRegressor({"user": "all"}, **QUICK).fit(frame, world.number)
    assert list(other.feature_names_in_) == list(of_pandas.feature_names_in_) == list(world.frame.columns)
    np.testing.assert_array_equal(other.predict(frame), of_pandas.predict(world.frame))
    np.testing.assert_array_equal(of_pandas.predict(frame), of_pandas.predict(world.frame))


def test_arrays_sparse_matrices_and_frames_of_numbers_are_read_alike(world: Any) -> None:
    frame = world.frame.assign(
        user=world.frame["user"].str[1:].astype(int), city=(world.frame["city"] == "Rome").astype(float)
    ).sample(frac=1.0, random_state=0)
    y = world.number[frame.index]
    frame.columns = ["x0", "x1", "x2", "x3"]
    dense = frame.to_numpy()
    model = GameRegressor(EntityEffect(0, features=(1, 3)), **QUICK)
    expected = model.fit(frame, y).predict(frame)
    table = model.entity_coefficients("x0", 7)
    for x in (dense, dense.tolist(), csr_array(dense), frame.astype(float)):
        np.testing.assert_array_equal(model.fit(x, y).predict(x), expected)
        assert model.entity_coefficients(0, 7.0).equals(table)


def test_the_index_of_a_frame_is_no_feature(world: Any) -> None:
    shuffled = world.frame.sample(frac=1.0, random_state=0)
    model = GameRegressor("user", **QUICK).fit(shuffled, world.number[shuffled.index])
    assert model.coef_names_[:2] == ["age", "price"]
    assert len(model.coef_names_) == 5


def test_a_row_without_an_entity_has_the_population_prior(world: Any) -> None:
    model = GameClassifier("user", **QUICK).fit(world.frame, world.label)
    without, unseen = world.frame.assign(user=None), world.frame.assign(user="nobody")
    np.testing.assert_array_equal(model.predict_proba(without), model.predict_proba(unseen))


@pytest.mark.parametrize("column", ["age", "city"])
def test_missing_features_are_refused_in_fit_and_in_predict(world: Any, column: str) -> None:
    hole = world.frame.iloc[:50].copy()
    hole.loc[3, column] = None
    model = GameClassifier("user", **QUICK)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(hole, world.label[:50])
    model.fit(world.frame, world.label)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(hole)


def test_a_column_that_is_only_zeros_has_the_coefficient_zero() -> None:
    x = np.column_stack([np.arange(6.0), np.zeros(6), np.ones(6)])
    model = GameRegressor().fit(x, np.arange(6.0))
    assert model.coef_.shape == (3,)
    assert model.coef_names_ == ["x0", "x1", "x2"]
    assert model.coef_[1] == 0.0


def test_random_effects_can_be_given_in_several_forms() -> None:
    assert entity_effects(None) == ()
    assert entity_effects("user") == entity_effects(["user"]) == entity_effects({"user": None})
    assert entity_effects({"user": ["age"], 2: "all"}) == (
        EntityEffect("user", ("age",)),
        EntityEffect(2, "all"),
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"random_effects": "usr"}, "random_effects: no column 'usr' in X"),
        ({"random_effects": 9}, "random_effects: no column at position 9 in X, which has 4"),
        ({"random_effects": 1.5}, "random_effects: expected a column"),
        ({"random_effects": ["user", 0]}, "two for one column"),
        ({"random_effects": {"user": "age"}}, r"random_effects\['user'\]: expected None"),
        ({"random_effects": {"user": ["user"]}}, "holds entities"),
        ({"random_effects": EntityEffect("user", prior_variance=0.0)}, "random_effects.user.prior_variance"),
        (
            {"random_effects": "user", "fixed_features": ["user"]},
            "fixed_features: column 'user' holds entities",
        ),
        ({"fixed_features": "age"}, 'fixed_features: expected "all" or a list'),
        ({"fixed_features": ["age", "age"]}, "expected each column once"),
        ({"l2": -1.0}, "fixed_effect.l2"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"outcome": "gamma"}, "outcome: expected one of normal, poisson"),
        ({"noise_variance": 0.0}, "noise_variance: expected a number above 0"),
    ],
)
def test_parameters_that_cannot_be_used_are_named(world: Any, parameters: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GameRegressor(**parameters).fit(world.frame, world.number)


def test_threads_do_not_change_the_result(world: Any) -> None:
    one = GameClassifier({"user": "all"}, n_jobs=1, **QUICK).fit(world.frame, world.label)
    all_ = GameClassifier({"user": "all"}, n_jobs=-1, **QUICK).fit(world.frame, world.label)
    np.testing.assert_array_equal(one.predict_proba(world.frame), all_.predict_proba(world.frame))
