"""Shared models behind their score, and how uncertain fitted coefficients are."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from nearline.errors import DataError, ModelError
from nearline.fixed.effect import CallableEffect, FixedEffect, LinearFixedEffect, ScoreColumn
from nearline.fixed.linear import fit_linear
from nearline.fixed.variance import laplace_variance
from nearline.posterior.outcomes import Outcome

X = csr_array(np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))


def test_a_linear_effect_scores_rows_with_columns_it_does_not_know_yet():
    effect = LinearFixedEffect(np.array([0.5, 1.0]))
    np.testing.assert_array_equal(effect.score(X), [2.5, 0.5])


def test_a_linear_effect_scores_rows_made_before_its_last_columns():
    effect = LinearFixedEffect(np.array([0.5, 1.0, 2.0, 9.0]))
    np.testing.assert_array_equal(effect.score(X), [2.5, 6.5])


def test_growing_appends_zeros_and_never_shrinks():
    effect = LinearFixedEffect(np.array([0.5, 1.0]))
    np.testing.assert_array_equal(effect.grow(4).coefficients, [0.5, 1.0, 0.0, 0.0])
    assert effect.grow(1) is effect


def test_coefficients_that_are_no_numbers_are_refused():
    with pytest.raises(ModelError, match="finite"):
        LinearFixedEffect(np.array([np.nan]))


def test_all_shared_models_keep_the_same_promise():
    scores = np.array([2.5, 0.5])
    linear: FixedEffect[csr_array] = LinearFixedEffect(np.array([0.5, 1.0]))
    column: FixedEffect[dict] = ScoreColumn("shared")
    function: FixedEffect[csr_array] = CallableEffect(lambda x: x @ np.array([0.5, 1.0, 0.0]))
    for found in (linear.score(X), column.score({"shared": scores}), function.score(X)):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, scores)


def test_scores_that_break_the_promise_are_refused():
    with pytest.raises(DataError, match="shared"):
        ScoreColumn("shared").score({"other": np.zeros(2)})
    with pytest.raises(DataError, match="row 1"):
        ScoreColumn("shared").score({"shared": np.array([0.0, np.inf])})
    with pytest.raises(DataError, match="one score per example"):
        CallableEffect(lambda x: x.toarray()).score(X)


def regression() -> tuple[csr_array, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    x[:, 0] = 1.0
    x[:, 3] += 2.0 * x[:, 2]
    return csr_array(x), x @ np.array([1.0, -1.0, 0.5, 0.0]) + rng.normal(size=200), rng.exponential(size=200)


def test_the_covariance_is_the_inverse_of_the_precision():
    x, y, weight = regression()
    fit = fit_linear(x, y, weight, outcome=Outcome.NORMAL, l2=2.0)
    found = laplace_variance(x, fit.coefficients, weight, outcome=Outcome.NORMAL, l2=2.0, full=True)
    dense = x.toarray()
    expected = np.linalg.inv((dense.T * weight) @ dense + np.diag([0.0, 2.0, 2.0, 2.0]))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_conditional_variances_are_never_above_marginal_ones():
    x, y, weight = regression()
    y = (y > 1.0).astype(float)
    fit = fit_linear(x, y, weight, l2=2.0)
    conditional = laplace_variance(x, fit.coefficients, weight, l2=2.0)
    marginal = np.diag(laplace_variance(x, fit.coefficients, weight, l2=2.0, full=True))
    assert np.all(conditional <= marginal * (1 + 1e-12))
    assert conditional[3] < 0.5 * marginal[3]


def test_coefficients_spread_over_samples_as_their_variance_says():
    rng = np.random.default_rng(1)
    x, _, _ = regression()
    truth = np.array([1.0, -1.0, 0.5, 0.0])
    draws = [
        fit_linear(x, x @ truth + rng.normal(size=200), outcome=Outcome.NORMAL, l2=0.0).coefficients
        for _ in range(400)
    ]
    variance = np.diag(laplace_variance(x, truth, outcome=Outcome.NORMAL, l2=0.0, full=True))
    np.testing.assert_allclose(np.var(draws, axis=0), variance, rtol=0.3)


def test_more_evidence_never_raises_a_variance():
    x, y, weight = regression()
    b = fit_linear(x, y, weight, outcome=Outcome.NORMAL, l2=1.0).coefficients
    less = np.diag(laplace_variance(x, b, weight, outcome=Outcome.NORMAL, l2=1.0, full=True))
    more = np.diag(laplace_variance(x, b, 2 * weight, outcome=Outcome.NORMAL, l2=1.0, full=True))
    assert np.all(more < less)


def test_columns_that_nothing_tells_apart_have_no_variance():
    x = csr_array(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]]))
    with pytest.raises(DataError, match="column 2"):
        laplace_variance(x, np.zeros(3), outcome=Outcome.NORMAL, l2=0.0)
    with pytest.raises(DataError, match="singular"):
        laplace_variance(csr_array(x[:, :2]), np.zeros(2), outcome=Outcome.NORMAL, l2=0.0, full=True)
    np.testing.assert_allclose(
        laplace_variance(x, np.zeros(3), outcome=Outcome.NORMAL, l2=4.0, intercept_column=None)[2], 0.25
    )
