"""Ranking metrics of many weightings at once: those of one weighting at a time, and arguments that do not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from nearline.evaluate.ranked import Ranked, in_equal_mass_bins
from nearline.kernels import _ranking


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 60),
    scores=st.integers(1, 40),
    bins=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_weighting_is_measured_as_if_it_were_the_only_one(rows, scores, bins, seed):
    rng = np.random.default_rng(seed)
    y, score = rng.integers(0, 2, rows).astype(np.float64), rng.integers(0, scores, rows) / scores
    y[:2] = 0.0, 1.0
    weight = rng.integers(0, 4, (5, rows)).astype(
        np.float64
    )  # resamples leave rows out, often those at an end
    weight[:, :2] += 1.0
    ranked = Ranked.of(y, score)
    found = ranked.measures(weight, bins)
    for one, (auc, precision, error) in zip(weight, found, strict=True):
        assert auc == pytest.approx(oracle.roc_auc_score(y, score, sample_weight=one))
        assert precision == pytest.approx(oracle.average_precision_score(y, score, sample_weight=one))
        order = np.argsort(score, kind="stable")[::-1]
        ends = np.flatnonzero(np.r_[np.diff(score[order]) != 0.0, True])
        gaps = (one * (score - y))[order].cumsum()[ends]
        in_bins = in_equal_mass_bins(one[order].cumsum()[ends], gaps, bins)
        assert error == pytest.approx(np.abs(in_bins).sum() / one.sum(), abs=1e-12)


def test_metrics_that_are_not_defined_are_nan():
    ranked = Ranked.of(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.4, 0.4]))
    weight = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.array_equal(
        np.isnan(ranked.measures(weight, 2)), [[True, False, False], [True, True, False], [True, True, True]]
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"weight": np.ones((2, 2))}, "one value a row"),
        ({"y": np.ones(4)}, "one value a row"),
        ({"score": np.ones(3)}, "one value for each of ends"),
        ({"order": np.array([0, 1, 3])}, "order must hold rows"),
        ({"order": np.array([0, -1, 1])}, "order must hold rows"),
        ({"ends": np.array([0, 1])}, "ends ascend to the last"),
        ({"ends": np.array([2, 2])}, "ends ascend to the last"),
        ({"ends": np.array([-1, 2])}, "ends ascend to the last"),
        ({"bins": 0}, "bins must be 1 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changed, why):
    good = {
        "weight": np.ones((2, 3)),
        "order": np.array([2, 0, 1]),
        "ends": np.array([0, 2]),
        "y": np.array([1.0, 0.0, 1.0]),
        "score": np.array([0.9, 0.1]),
        "bins": 2,
    }
    assert _ranking.ranking_measures(**good).shape == (2, 3)
    with pytest.raises(ValueError, match=why):
        _ranking.ranking_measures(**(good | changed))
