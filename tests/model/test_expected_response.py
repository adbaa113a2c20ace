"""The expected response against integration on a fine grid."""

import numpy as np
import pytest
from scipy.special import expit

from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome


def integrated(linear, variance):
    z = np.linspace(-12.0, 12.0, 100_001)
    density = np.exp(-(z**2) / 2.0)
    return float(np.sum(density * expit(linear + np.sqrt(variance) * z)) / density.sum())


@pytest.mark.parametrize("variance", [0.0, 0.1, 1.0, 1.0001, 4.0, 25.0, 400.0])
@pytest.mark.parametrize("linear", [-6.0, -0.5, 0.0, 2.0, 9.0])
def test_a_probability_is_averaged_over_its_uncertainty(linear, variance):
    found = expected_response(Outcome.BERNOULLI, np.array([linear]), np.array([variance]))
    assert found[0] == pytest.approx(integrated(linear, variance), abs=5e-9)


def test_without_uncertainty_even_a_tiny_probability_is_exact():
    linear = np.array([-40.0, -30.0, 30.0])
    np.testing.assert_allclose(
        expected_response(Outcome.BERNOULLI, linear, np.zeros(3)), expit(linear), rtol=1e-12
    )


def test_counts_and_real_values_have_closed_forms():
    linear, variance = np.array([0.5, -1.0]), np.array([0.3, 2.0])
    np.testing.assert_array_equal(expected_response(Outcome.NORMAL, linear, variance), linear)
    np.testing.assert_allclose(
        expected_response(Outcome.POISSON, linear, variance), np.exp(linear + variance / 2.0), rtol=1e-14
    )


def test_no_probability_is_above_one():
    linear, variance = np.meshgrid([30.0, 36.0, 40.0, 800.0], [0.0, 0.2, 0.3, 1.0, 1.1, 50.0])
    found = expected_response(Outcome.BERNOULLI, linear.ravel(), variance.ravel())
    assert found.max() <= 1.0
