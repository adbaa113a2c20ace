"""Faults of other systems at the level of whole models; `test_faults.py` has those of single beliefs.

Each test also computes what the faulty variant would say, to show that it would be caught.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nearline.bandit import Candidates, EffectTerm, ThompsonSampling, entity_keys, request_key
from nearline.batch.descent import fit_game
from nearline.model.saved import load_model, save_model
from nearline.posterior import Gaussian, group_rows
from nearline.posterior.blocks import stack, unpack
from simulated import FILM, NORMAL, SETTINGS, USER, evidence_of, examples, trained

OFTEN = replace(SETTINGS, random=(replace(USER, prior_variance=1.0),), sweeps=5)


def two_rows():
    return examples(2, user=pa.array(["u1", "u1"]), seed=3)


def coefficients(model):
    belief, _ = model.random[0].belief("u1")
    return belief.mean


def test_two_new_rows_do_not_erase_the_old_model():
    start, _ = trained(400, OFTEN)
    new = replace(two_rows(), response=np.array([0.0, 1.0]))
    model = fit_game(new, OFTEN, start=start, incremental=True).model
    erased = fit_game(new, OFTEN, start=start).model  # a warm start that is only a place to begin
    moved = np.linalg.norm(coefficients(model) - coefficients(start))
    assert moved < 0.5
    assert np.linalg.norm(coefficients(erased) - coefficients(start)) > 1.0
    assert np.abs(model.fixed.coefficients - start.fixed.coefficients).max() < 0.05
    assert np.abs(erased.fixed.coefficients - start.fixed.coefficients).max() > 0.2


def test_features_and_entities_of_the_old_model_that_new_rows_lack_are_kept():
    start, _ = trained(400, OFTEN)
    new = examples(5, user=pa.array(["u1"] * 5), genre=pa.array(["never seen"] * 5), seed=3)
    model = fit_game(new, OFTEN, start=start, incremental=True).model
    assert model.random[0].names.to_pylist() == start.random[0].names.to_pylist()
    for column in evidence_of(start.random[0], "u1")[0]:
        assert column in evidence_of(model.random[0], "u1")[0]
    genres = [start.fixed.registry.column("b", "genre", f"g{i}") for i in range(3)]
    np.testing.assert_allclose(model.fixed.coefficients[genres], start.fixed.coefficients[genres], atol=0.1)
    lost = fit_game(new, OFTEN).model
    assert lost.random[0].entities == 1
    assert lost.random[0].registry.column("b", "genre", "g0") is None


def test_the_surest_coefficients_are_as_sure_after_saving(tmp_path):
    weight = np.full(200, 1e4)
    start, rows = trained(
        200, replace(OFTEN, random=(replace(USER, prior_variance=1.0, precision="diagonal"),))
    )
    sure = fit_game(
        replace(rows, weight=weight), replace(OFTEN, random=(replace(USER, prior_variance=1.0),))
    ).model
    variance = sure.score(rows).variance
    assert variance.min() < 1e-4
    save_model(sure, tmp_path / "m")
    np.testing.assert_array_equal(load_model(tmp_path / "m")[0].score(rows).variance, variance)
    dropped = np.where(variance < 1e-4, 1.0, variance)  # their restart at the penalty
    assert (dropped / variance).max() > 1e3
    assert start.score(rows).variance.max() < 1.0 + 10.0


def test_correlations_survive_saving_so_that_the_next_update_is_that_of_all_rows(tmp_path):
    how = replace(NORMAL, random=(replace(USER, prior_variance=1.0),), noise_variance=0.25, sweeps=1)
    how = replace(how, fixed=replace(how.fixed, locked=True))
    both = examples(60, user=pa.array(["u1"] * 60), x=np.abs(np.random.default_rng(1).normal(size=60)) + 1.0)
    first, second = both.take(np.arange(40)), both.take(np.arange(40, 60))
    whole = fit_game(both, how).model
    save_model(fit_game(first, how).model, tmp_path / "m")
    kept, _ = load_model(tmp_path / "m")
    half = fit_game(second, how, start=kept, incremental=True).model
    np.testing.assert_allclose(coefficients(half), coefficients(whole), atol=1e-9)
    effect = kept.random[0]
    precision = unpack(effect.evidence.precision, 5)
    variances = 1.0 / np.diag(np.eye(5) + precision)  # their 1 / diag(H) in place of the covariance
    true = np.diag(np.linalg.inv(np.eye(5) + precision))
    assert (true / variances).max() > 2.0


@pytest.mark.parametrize("precision", ["full", "diagonal"])
def test_an_unseen_feature_is_scored_by_the_prior_and_then_learned(precision):
    how = replace(OFTEN, random=(replace(USER, prior_variance=0.5, precision=precision), FILM))
    start, _ = trained(200, how)
    row = examples(1, user=pa.array(["u1"]), genre=pa.array(["never seen"]))
    plain = examples(1, user=pa.array(["u1"]), genre=pa.array([None], pa.string()))
    np.testing.assert_array_equal(start.score(row).linear, start.score(plain).linear)
    grown = fit_game(row, how, start=start, incremental=True).model
    unseen = grown.random[0].registry.column("b", "genre", "never seen")
    assert unseen == len(start.random[0].registry)
    belief, columns = grown.random[0].belief("u1")
    at = list(columns).index(unseen)
    assert 0.0 < belief.std[at] < np.sqrt(0.5)
    other, columns = grown.random[0].belief("u2")
    if unseen in columns:
        np.testing.assert_allclose(other.std[list(columns).index(unseen)], np.sqrt(0.5))


def of_one_coefficient(precision, items):
    """Candidates that are items with one coefficient each, of mean 0."""
    keys = entity_keys("per-item", [f"i{i}" for i in range(items)])
    beliefs = stack([Gaussian(np.zeros(1), np.full(1, precision))] * items)
    rows = group_rows(np.ones((items, 1)), np.arange(items), items)
    return Candidates(np.zeros(items), (EffectTerm("per-item", rows, beliefs, keys),))


@pytest.mark.parametrize("precision", [0.01, 1.0, 10_000.0])
def test_what_is_known_best_is_explored_least(precision):
    candidates = of_one_coefficient(precision, 200)
    spread = candidates.draws(request_key("r1"), 100).std()
    assert spread == pytest.approx(1.0 / np.sqrt(precision), rel=0.03)
    inverted = np.random.default_rng(1).normal(scale=np.sqrt(precision), size=20_000).std()  # as a variance
    assert bool(abs(inverted * np.sqrt(precision) - 1.0) > 0.9) is (precision != 1.0)


def test_each_request_has_a_draw_of_its_own_and_a_retry_has_it_again():
    candidates = of_one_coefficient(1.0, 3)
    # One draw for all: three equal scores, whatever the number of candidates; and another at each call.
    rng = np.random.default_rng()
    shared = [np.ones(3) * rng.normal() for _ in range(2)]
    assert len(np.unique(shared[0])) == 1
    assert not np.array_equal(*shared)
    first, again = (candidates.draws(request_key("r1")) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == 3
    requests = [candidates.draws(request_key(f"r{i}"))[0] for i in range(500)]
    assert len(np.unique(requests)) == 1500
    # Over many requests the three are apart: the share of any two scores' variance that they share is none.
    assert np.abs(np.corrcoef(np.array(requests).T) - np.eye(3)).max() < 5.0 / np.sqrt(500)
    ranked = {ThompsonSampling(1).rank(candidates, f"r{i}", 1).candidates[0] for i in range(50)}
    assert ranked == {0, 1, 2}
