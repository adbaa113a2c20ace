"""Scoring: parts that add up, and what is said of entities and features nobody knows."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit

from nearline.batch.tables import examples_from_table
from nearline.errors import DataError, ModelError
from nearline.model.game import GameModel, expected_response
from nearline.posterior.outcomes import Outcome
from simulated import FILM, MAPPING, SETTINGS, USER, examples, table, trained

MODELS = {
    (outcome, precision): trained(
        settings=replace(
            SETTINGS,
            outcome=outcome,
            random=(
                replace(USER, precision=precision, estimate_prior_mean=True),
                replace(FILM, precision=precision),
            ),
        )
    )[0]
    for outcome in Outcome
    for precision in ("full", "diagonal")
}
any_model = st.sampled_from(sorted(MODELS, key=str)).map(MODELS.get)


def dense_score(model, effect, features, name):
    """Mean and variance of x . b by the belief of one entity, all columns: slow and obvious."""
    belief, columns = effect.belief(name)
    mean, covariance = effect.prior.mean.copy(), effect.prior.covariance
    mean[columns] = belief.mean
    covariance[np.ix_(columns, columns)] = belief.covariance
    x = np.zeros(len(mean))
    for (bag, feature, term), value in features.items():
        column = effect.registry.column(bag, feature, term)
        if column is not None:
            x[column] += value
    return x @ mean, x @ covariance @ x


@given(any_model, st.integers(0, 30), st.integers(0, 3))
def test_contributions_sum_to_the_linear_predictor(model, rows, seed):
    scores = model.score(examples(rows, seed=seed, users=20))
    assert list(scores.contributions) == ["offset", "fixed", "per-user", "per-film"]
    np.testing.assert_allclose(sum(scores.contributions.values()), scores.linear, atol=1e-12)


@given(
    any_model,
    st.sampled_from(["u1", "u5", "nobody", "", None]),
    st.sampled_from(["g0", "g2", "never seen", None]),
    st.floats(-3, 3),
)
def test_a_row_is_scored_by_the_belief_of_its_entity_or_else_by_the_population_prior(model, user, genre, x):
    rows = examples_from_table(
        table(1, user=pa.array([user], pa.string()), genre=pa.array([genre], pa.string()), x=np.array([x])),
        MAPPING,
    )
    scores = model.score(rows)
    features = {("", "(intercept)", ""): 1.0, ("b", "x", ""): x}
    if genre is not None:
        features["b", "genre", genre] = 1.0
    film = rows.entities["film"].names[0].as_py()
    mean, variance = dense_score(model, model.effect("per-user"), features, user or "nobody")
    _, other = dense_score(model, model.effect("per-film"), features, film)
    np.testing.assert_allclose(scores.contributions["per-user"], [mean], atol=1e-9)
    np.testing.assert_allclose(scores.variance, [variance + other], rtol=1e-9)


@given(any_model, st.permutations(range(12)))
@settings(max_examples=10)
def test_a_row_scores_the_same_whatever_is_scored_with_it(model, order):
    rows = examples(12, users=15, seed=4)
    alone = [model.score(rows.take(np.array([row]))) for row in order]
    together = model.score(rows.take(np.array(order)))
    np.testing.assert_allclose(together.linear, [one.linear[0] for one in alone], rtol=1e-12)
    np.testing.assert_allclose(together.variance, [one.variance[0] for one in alone], rtol=1e-12)


def test_any_number_of_threads_scores_bitwise_the_same():
    model, rows = trained()
    one, four = model.score(rows, threads=1), model.score(rows, threads=4)
    np.testing.assert_array_equal(one.linear, four.linear)
    np.testing.assert_array_equal(one.variance, four.variance)


@given(st.floats(-20, 20), st.floats(0, 4))
def test_the_expected_response_is_the_mean_over_what_is_not_known(linear, variance):
    std = np.sqrt(variance)

    def probability(z):
        return expit(linear + std * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    expected = quad(probability, -12, 12, epsabs=1e-12)[0]
    one = expected_response(Outcome.BERNOULLI, np.array([linear]), np.array([variance]))
    np.testing.assert_allclose(one, [expected], atol=1e-6)
    rate = expected_response(Outcome.POISSON, np.array([linear]), np.array([variance]))
    np.testing.assert_allclose(rate, [np.exp(linear + variance / 2)])


@pytest.mark.parametrize("std", [0.0, 0.2, 0.5, 0.501, 0.8, 1.0])
def test_the_expected_response_of_a_narrow_predictor_is_exact_far_into_the_tails(std):
    linear, z = np.linspace(-40.0, 8.0, 49), np.linspace(-12.0, 12.0, 4001)
    density = np.exp(-z * z / 2)
    expected = np.sum(expit(linear[:, None] + std * z) * density, axis=1) / density.sum()
    found = expected_response(Outcome.BERNOULLI, linear, np.full(linear.shape, std**2))
    np.testing.assert_allclose(found, expected, rtol=2e-11)


def test_a_normal_prediction_spreads_by_the_noise_as_well():
    model = MODELS[Outcome.NORMAL, "full"]
    scores = model.score(examples(5))
    np.testing.assert_allclose(scores.std**2, scores.variance + model.noise_variance)


def test_no_rows_are_scored_as_none():
    assert len(MODELS[Outcome.BERNOULLI, "full"].score(examples(0)).mean) == 0


def test_rows_without_what_the_model_weighs_are_refused_by_name():
    model, rows = MODELS[Outcome.BERNOULLI, "full"], examples(3)
    with pytest.raises(DataError, match=r"no bag 'b': the examples have none"):
        model.score(replace(rows, bags={}))
    with pytest.raises(DataError, match=r"no entities of kind 'film': the examples have \['user'\]"):
        model.score(replace(rows, entities={"user": rows.entities["user"]}))


def test_effects_need_names_of_their_own():
    model = MODELS[Outcome.BERNOULLI, "full"]
    with pytest.raises(ModelError, match="names of their own"):
        GameModel(model.outcome, model.fixed, (model.random[0], model.random[0]))
    with pytest.raises(
        ModelError, match=r"no random effect 'per-item': the model has \['per-user', 'per-film'\]"
    ):
        model.effect("per-item")
