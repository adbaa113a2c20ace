"""Faults of other systems at the level of whole models; `test_faults.py` has those of single beliefs.

Each test also computes what the faulty variant would say, to show that it would be caught.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nearline.batch.descent import fit_game
from nearline.model.saved import load_model, save_model
from nearline.posterior.blocks import unpack
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
