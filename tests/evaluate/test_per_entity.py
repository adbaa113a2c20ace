"""Metrics within entities against loops over entities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from nearline import evaluate as ev
from nearline.errors import DataError


def rows_of_entities(seed, rows=300, entities=40, levels=12):
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.4).astype(np.float64)
    score = rng.integers(0, levels, rows).astype(np.float64)
    return y, score, rng.uniform(0.5, 2.0, rows), rng.integers(0, entities, rows) * 7 - 3


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_per_entity_auc_is_the_weighted_mean_of_the_auc_of_each_entity_with_both_classes(seed):
    y, score, weight, codes = rows_of_entities(seed)
    values, weights = [], []
    for code in np.unique(codes):
        own = codes == code
        if np.unique(y[own]).size == 2:
            values.append(roc_auc_score(y[own], score[own], sample_weight=weight[own]))
            weights.append(weight[own].sum())
    found = ev.per_entity_auc(y, score, weight, codes)
    assert found.entities == len(values)
    assert found.value == pytest.approx(np.average(values, weights=weights))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_precision_at_k_is_the_mean_share_of_positives_in_the_first_k_places(seed, k):
    y, _, _, codes = rows_of_entities(seed)
    score = np.random.default_rng(seed + 1).permutation(y.size).astype(np.float64)
    shares = []
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        if own.size >= k:
            shares.append(y[own[np.argsort(-score[own])][:k]].mean())
    found = ev.precision_at_k(y, score, codes, k)
    assert found.entities == len(shares)
    if shares:
        assert found.value == pytest.approx(np.mean(shares))
    else:
        assert np.isnan(found.value)


def test_rows_tied_at_the_last_place_share_it():
    y, score = np.array([1.0, 1.0, 0.0, 0.0]), np.array([3.0, 2.0, 2.0, 1.0])
    assert ev.precision_at_k(y, score, np.zeros(4, dtype=np.int64), 2).value == pytest.approx(0.75)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter_within_entities(seed):
    y, score, weight, codes = rows_of_entities(seed)
    mixed = np.random.default_rng(seed).permutation(y.size)
    found = ev.per_entity_auc(y[mixed], score[mixed], weight[mixed], codes[mixed])
    assert found.value == pytest.approx(ev.per_entity_auc(y, score, weight, codes).value)
    precision = ev.precision_at_k(y[mixed], score[mixed], codes[mixed], 3)
    assert precision.value == pytest.approx(ev.precision_at_k(y, score, codes, 3).value)


def test_an_effect_of_the_entity_changes_the_auc_but_not_the_auc_within_entities():
    y, score, weight, codes = rows_of_entities(1)
    shifted = score + 50.0 * np.sin(codes)
    assert ev.per_entity_auc(y, shifted, weight, codes).value == pytest.approx(
        ev.per_entity_auc(y, score, weight, codes).value
    )
    assert abs(ev.auc(y, shifted, weight) - ev.auc(y, score, weight)) > 1e-3


def test_no_entity_with_both_classes_gives_nan_and_a_count_of_zero():
    found = ev.per_entity_auc(np.array([0.0, 1.0]), np.array([0.1, 0.2]), None, np.array([4, 9]))
    assert np.isnan(found.value)
    assert found.entities == 0


def test_wrong_codes_and_places_are_named():
    y, score = np.array([0.0, 1.0]), np.array([0.1, 0.2])
    with pytest.raises(DataError, match="entity codes"):
        ev.per_entity_auc(y, score, None, np.array([1]))
    with pytest.raises(DataError, match="k: expected 1 or more"):
        ev.precision_at_k(y, score, np.array([1, 1]), 0)
