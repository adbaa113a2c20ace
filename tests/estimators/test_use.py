"""Weights, offsets, learning in parts, and life among the other tools of scikit-learn."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nearline.estimators import EntityEffect, GameClassifier, GameRegressor

QUICK: dict[str, Any] = {"sweeps": 2}
GIVEN = EntityEffect("user", features=("age",), prior_variance=1.0)


def test_a_weight_of_two_is_the_row_twice(world: Any) -> None:
    weight = np.random.default_rng(1).integers(0, 3, len(world.frame))
    repeated = np.repeat(np.arange(len(weight)), weight)
    model = GameClassifier({"user": ["age"]}, **QUICK)
    weighted = model.fit(world.frame, world.label, sample_weight=weight).predict_proba(world.frame)
    model.fit(world.frame.iloc[repeated], world.label[repeated])
    np.testing.assert_allclose(weighted, model.predict_proba(world.frame), rtol=1e-8)


def test_an_offset_is_part_of_the_linear_predictor(world: Any) -> None:
    offset = np.random.default_rng(1).normal(size=len(world.frame))
    model = GameClassifier("user", **QUICK).fit(world.frame, world.label, offset=offset)
    plain = model.decision_function(world.frame)
    np.testing.assert_allclose(
        model.decision_function(world.frame, offset=offset), plain + offset, atol=1e-12
    )
    with pytest.raises(ValueError, match="offset: expected 1800 numbers"):
        model.predict(world.frame, offset=offset[:5])


def test_a_shared_model_given_as_offset_is_as_good_as_features_of_ones_own(world: Any) -> None:
    regressor = GameRegressor("user", fixed_features=(), **QUICK)
    offset = world.linear
    regressor.fit(world.frame, world.number, offset=offset)
    error = regressor.predict(world.frame, offset=offset) - world.linear
    assert np.sqrt(np.mean(error**2)) < 0.2


def test_parts_are_as_good_as_the_whole_when_prior_noise_and_fixed_effect_are_given(world: Any) -> None:
    model = GameRegressor(GIVEN, noise_variance=1.0, refit_fixed=False).fit(
        world.frame[:300], world.number[:300]
    )
    once = copy.deepcopy(model).partial_fit(world.frame[300:], world.number[300:])
    for part in (slice(300, 900), slice(900, 1800)):
        model.partial_fit(world.frame[part], world.number[part])
    np.testing.assert_allclose(model.predict(world.frame), once.predict(world.frame), rtol=1e-9, atol=1e-10)
    of_parts, of_once = (each.predict(world.frame, return_std=True)[1] for each in (model, once))
    np.testing.assert_allclose(of_parts, of_once, rtol=1e-10)


def test_two_halves_come_within_a_tenth_of_the_noise_of_the_whole(world: Any) -> None:
    whole = GameRegressor(GIVEN).fit(world.frame, world.number)
    order = np.random.default_rng(0).permutation(len(world.frame))
    halves = GameRegressor(GIVEN)
    for half in (order[:900], order[900:]):
        halves.partial_fit(world.frame.iloc[half], world.number[half])
    mean, std = whole.predict(world.frame, return_std=True)
    mean_of_halves, std_of_halves = halves.predict(world.frame, return_std=True)
    assert np.sqrt(np.mean((mean_of_halves - mean) ** 2)) < 0.1
    np.testing.assert_allclose(std_of_halves, std, rtol=0.05)


def test_learning_on_brings_new_users_and_new_cities_and_forgets_none(world: Any) -> None:
    model = GameClassifier({"user": ["age", "city"]}, **QUICK)
    first = world.frame["city"] != "Rome"
    model.partial_fit(world.frame[first], world.label[first], classes=[0, 1])
    before = model.entity_coefficients("user", "u3").to_pydict()
    newcomers = world.frame[~first].assign(user="new-" + world.frame["user"])
    model.partial_fit(newcomers, world.label[~first])
    after = model.entity_coefficients("user", "u3").to_pydict()
    assert after["mean"][: len(before["mean"])] == pytest.approx(before["mean"])
    assert "city=Rome" in model.coef_names_
    assert model.model_.effect("user").entities == newcomers["user"].nunique() + 60
    assert "Rome" in model.entity_coefficients("user", "new-u3").to_pydict()["term"]


def test_learning_row_by_row_keeps_the_noise_where_it_is(world: Any) -> None:
    model = GameRegressor(GIVEN).fit(world.frame[:600], world.number[:600])
    for row in range(600, 620):
        model.partial_fit(world.frame[row : row + 1], world.number[row : row + 1])
    assert model.model_.noise_variance == pytest.approx(1.0, abs=0.2)


def test_classes_are_asked_for_at_the_first_part_and_kept(world: Any) -> None:
    model = GameClassifier(**QUICK)
    x = world.frame[["age", "price"]]
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(x, world.label)
    model.partial_fit(x[:5], np.zeros(5, int), classes=[0, 1])
    model.partial_fit(x, world.label, classes=[0, 1])
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(x, world.label, classes=[0, 2])
    with pytest.raises(ValueError, match="labels out of"):
        model.partial_fit(x, world.label + 1)


def test_more_than_two_classes_are_refused_with_the_remedy_which_works(world: Any) -> None:
    x = world.frame[["age", "price"]].to_numpy()
    y = np.digitize(world.linear, [-1.0, 1.0])
    with pytest.raises(ValueError, match="OneVsRestClassifier"):
        GameClassifier().fit(x, y)
    assert OneVsRestClassifier(GameClassifier(**QUICK)).fit(x, y).score(x, y) > 0.4


def test_labels_can_be_strings(world: Any) -> None:
    names = np.where(world.label == 1, "click", "a miss")
    model = GameClassifier("user", **QUICK).fit(world.frame, names)
    assert model.classes_.tolist() == ["a miss", "click"]
    assert set(model.predict(world.frame)) == {"a miss", "click"}


def test_an_estimator_works_in_pipelines_and_searches(world: Any) -> None:
    x = world.frame[["age", "price"]]
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), GameClassifier(**QUICK))
    scores = cross_val_score(pipeline, x, world.label, cv=3, scoring="roc_auc")
    assert scores.min() > 0.6
    effects = [None, "user", EntityEffect("user", features=("age",))]
    grid = {"random_effects": effects, "fixed_features": [("age", "price", "city")]}
    search = GridSearchCV(GameClassifier(**QUICK), grid, cv=3, scoring="neg_log_loss")
    search.fit(world.frame, world.label)
    assert search.best_params_["random_effects"] == effects[2]


def test_a_fitted_estimator_survives_pickling_and_goes_on_learning(world: Any) -> None:
    model = GameClassifier({"user": ["age", "city"]}, **QUICK).fit(world.frame[:900], world.label[:900])
    copied = pickle.loads(pickle.dumps(model))  # noqa: S301
    for each in (model, copied):
        each.partial_fit(world.frame[900:], world.label[900:])
    np.testing.assert_array_equal(copied.predict_proba(world.frame), model.predict_proba(world.frame))


def test_what_is_learned_is_not_there_before_fitting() -> None:
    for name in ("coef_", "intercept_", "coef_names_"):
        with pytest.raises(NotFittedError):
            getattr(GameRegressor(), name)
    with pytest.raises(NotFittedError):
        GameClassifier("user").entity_coefficients("user", "u1")


def test_without_scikit_learn_the_error_is_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from nearline.errors import MissingExtraError\n"
        "try:\n    import nearline.estimators\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert "pip install 'nearline[sklearn]'" in found.stdout
