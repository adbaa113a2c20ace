"""What estimators learn of simulated users, and how sure they are of it."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.metrics import roc_auc_score

from nearline.estimators import EntityEffect, GameClassifier, GameRegressor

EFFECT = EntityEffect("user", features=("age",))
TRAIN, TEST = slice(0, 1400), slice(1400, None)


@pytest.fixture(scope="module")
def classifier(world: Any) -> GameClassifier:
    return GameClassifier(EFFECT).fit(world.frame[TRAIN], world.label[TRAIN])


@pytest.fixture(scope="module")
def regressor(world: Any) -> GameRegressor:
    return GameRegressor(EFFECT).fit(world.frame[TRAIN], world.number[TRAIN])


def test_effects_of_users_raise_the_area_under_the_curve(world: Any, classifier: GameClassifier) -> None:
    shared = GameClassifier().fit(world.frame[TRAIN].drop(columns="user"), world.label[TRAIN])
    with_users = roc_auc_score(world.label[TEST], classifier.predict_proba(world.frame[TEST])[:, 1])
    without = roc_auc_score(
        world.label[TEST], shared.predict_proba(world.frame[TEST].drop(columns="user"))[:, 1]
    )
    best = roc_auc_score(world.label[TEST], world.linear[TEST])
    assert with_users > without + 0.08
    assert with_users > best - 0.05


def test_the_regressor_comes_near_the_noise(world: Any, regressor: GameRegressor) -> None:
    predicted, std = regressor.predict(world.frame[TEST], return_std=True)
    error = predicted - world.number[TEST]
    assert np.sqrt(np.mean(error**2)) < 1.15
    assert 0.85 < np.mean((error / std) ** 2) < 1.2
    assert regressor.score(world.frame[TEST], world.number[TEST]) > 0.6


def test_predictions_are_surer_of_a_user_with_more_rows(world: Any) -> None:
    row = world.frame.iloc[[0]]
    rows_of_user = np.flatnonzero(world.frame["user"] == row["user"].iloc[0])
    others = np.flatnonzero(world.frame["user"] != row["user"].iloc[0])
    stds = []
    for count in (2, 8, 20):
        learned = np.concatenate([others, rows_of_user[:count]])
        model = GameRegressor(EFFECT, noise_variance=1.0).fit(
            world.frame.iloc[learned], world.number[learned]
        )
        stds.append(model.predict(row, return_std=True)[1][0])
    assert stds[0] > stds[1] > stds[2] > 1.0


def test_an_unseen_user_has_the_population_prior_and_the_widest_std(
    world: Any, regressor: GameRegressor
) -> None:
    known = world.frame.iloc[:50]
    unseen = known.assign(user="nobody")
    prior = regressor.model_.effect("user").prior
    mean, std = regressor.predict(unseen, return_std=True)
    x = np.column_stack([np.ones(50), unseen["age"]])
    variance = np.einsum("ij,jk,ik->i", x, prior.covariance, x)
    np.testing.assert_allclose(std, np.sqrt(variance + regressor.model_.noise_variance), rtol=1e-9)
    assert np.all(std > regressor.predict(known, return_std=True)[1])
    fixed = regressor.model_.fixed.coefficients[0] + known["age"].to_numpy() * regressor.coef_[0]
    assert np.corrcoef(mean, fixed)[0, 1] > 0.7


def test_an_unseen_user_has_probabilities_nearer_to_a_half(world: Any, classifier: GameClassifier) -> None:
    unseen = world.frame.assign(user="nobody")
    log_odds, std = classifier.decision_function(unseen, return_std=True)
    probability = classifier.predict_proba(unseen)[:, 1]
    assert np.all(std > classifier.decision_function(world.frame, return_std=True)[1])
    assert np.all(np.abs(probability - 0.5) <= np.abs(1.0 / (1.0 + np.exp(-log_odds)) - 0.5) + 1e-12)


def test_coefficients_of_a_user_come_with_their_std(classifier: GameClassifier) -> None:
    table = classifier.entity_coefficients("user", "u3").to_pydict()
    assert table["feature"] == ["(intercept)", "age"]
    prior = classifier.entity_coefficients("user", "nobody").to_pydict()
    np.testing.assert_allclose(prior["mean"], 0.0)
    np.testing.assert_allclose(prior["std"], classifier.model_.effect("user").prior.std)
    assert all(mine < any_ for mine, any_ in zip(table["std"], prior["std"], strict=True))


def test_a_column_of_strings_has_a_coefficient_for_each_string(classifier: GameClassifier) -> None:
    assert classifier.coef_.shape == (1, 5)
    assert sorted(classifier.coef_names_) == ["age", "city=Lima", "city=Oslo", "city=Rome", "price"]
    weight = dict(zip(classifier.coef_names_, classifier.coef_[0], strict=True))
    assert weight["city=Rome"] - weight["city=Oslo"] == pytest.approx(1.0, abs=0.35)


def test_without_entities_they_are_the_linear_models_of_scikit_learn(world: Any) -> None:
    x = world.frame[["age", "price"]].to_numpy()
    ours, theirs = GameClassifier(l2=2.0).fit(x, world.label), LogisticRegression(C=0.5, tol=1e-10)
    np.testing.assert_allclose(ours.coef_, theirs.fit(x, world.label).coef_, rtol=1e-5)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-5)
    normal = GameRegressor(l2=3.0).fit(x, world.number)
    ridge = Ridge(alpha=3.0 * normal.model_.noise_variance).fit(x, world.number)
    np.testing.assert_allclose(normal.coef_, ridge.coef_, rtol=1e-6)
    count = np.random.default_rng(1).poisson(np.exp(0.5 * x[:, 0]))
    poisson = PoissonRegressor(alpha=1.0 / len(x), tol=1e-10).fit(x, count)
    np.testing.assert_allclose(GameRegressor(outcome="poisson").fit(x, count).coef_, poisson.coef_, rtol=1e-4)


def test_the_std_of_a_count_holds_its_noise_and_what_is_not_known_of_the_rate(world: Any) -> None:
    count = np.random.default_rng(1).poisson(np.exp(0.3 * world.linear))
    model = GameRegressor("user", outcome="poisson", fixed_features=("age",)).fit(world.frame, count)
    rows = world.frame.iloc[:20].assign(user="nobody")
    mean, std = model.predict(rows, return_std=True)
    variance = model.model_.effect("user").prior.covariance[0, 0]
    centre = np.log(mean) - variance / 2.0
    rate = np.exp(centre[:, None] + np.sqrt(variance) * np.random.default_rng(2).normal(size=(1, 200_000)))
    np.testing.assert_allclose(mean, rate.mean(axis=1), rtol=0.01)
    np.testing.assert_allclose(std**2, rate.mean(axis=1) + rate.var(axis=1), rtol=0.03)
