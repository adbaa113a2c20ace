"""The curves of a report against scikit-learn and slow versions."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from nearline import evaluate as ev
from nearline.posterior.outcomes import Outcome


def rows(size=4000, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 3, size)
    return (rng.random(size) < p).astype(np.float64), p, rng.uniform(0.5, 2.0, size)


def test_the_roc_curve_is_that_of_scikit_learn_with_few_points_and_the_same_area():
    y, p, w = rows()
    drawn = ev.curves(y, p, w, Outcome.BERNOULLI).roc
    x, height, _ = oracle.roc_curve(y, p, sample_weight=w)
    assert drawn.x.size <= 250
    assert (drawn.x[0], drawn.y[0], drawn.x[-1], drawn.y[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.allclose(np.interp(drawn.x, x, height), drawn.y, atol=0.01)
    assert np.trapezoid(drawn.y, drawn.x) == pytest.approx(ev.auc(y, p, w), abs=2e-3)


def test_the_precision_recall_curve_is_that_of_scikit_learn():
    y, p, w = rows()
    drawn = ev.curves(y, p, w, Outcome.BERNOULLI).precision_recall
    precision, recall, _ = oracle.precision_recall_curve(y, p, sample_weight=w)
    for x, height in zip(drawn.x[5:], drawn.y[5:], strict=True):
        nearest = np.abs(recall - x) < 1e-9
        assert np.isclose(precision[nearest], height).any()


def test_calibration_points_are_means_of_equal_masses_with_intervals_around_them():
    y, p, _ = rows()
    found = ev.curves(y, p, None, Outcome.BERNOULLI).calibration
    chunks = np.argsort(p).reshape(10, -1)
    assert found.predicted == pytest.approx(p[chunks].mean(axis=1))
    assert found.observed == pytest.approx(y[chunks].mean(axis=1))
    assert np.all((found.low < found.observed) & (found.observed < found.high))
    assert np.all((found.low >= 0.0) & (found.high <= 1.0))


def test_a_bin_without_positives_still_has_a_wide_interval():
    y, p = np.zeros(100), np.linspace(0.01, 0.1, 100)
    found = ev.curves(y, p, None, Outcome.BERNOULLI)
    assert np.all(found.calibration.high > 0.2)
    assert found.roc is None
    assert found.precision_recall is None


def test_intervals_of_a_normal_outcome_are_two_standard_errors():
    rng = np.random.default_rng(1)
    prediction = rng.normal(size=10_000)
    y = prediction + rng.normal(size=10_000)
    found = ev.curves(y, prediction, None, Outcome.NORMAL)
    assert found.roc is None
    half = (found.calibration.high - found.calibration.low) / 2
    assert half[5] == pytest.approx(1.96 / np.sqrt(1000.0), rel=0.1)


def test_the_histogram_holds_all_the_weight():
    y, p, w = rows()
    found = ev.curves(y, p, w, Outcome.BERNOULLI).histogram
    assert found.share.sum() == pytest.approx(1.0)
    assert (found.edges[0], found.edges[-1]) == (0.0, 1.0)
    assert ev.curves(y, np.full(y.size, 2.0), w, Outcome.POISSON).histogram.share.sum() == pytest.approx(1.0)
