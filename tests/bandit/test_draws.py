"""Draws of scores: what they are by definition, and that they have the posterior's covariance."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.requests import belief, item_term, sparse_term, user_term
from nearline.bandit import Candidates, EffectTerm, entity_keys, request_key
from nearline.bandit.candidates import feature_row
from nearline.posterior import group_rows
from nearline.posterior.blocks import stack
from nearline.posterior.reference_draws import draw_coefficients, normals

FORMS = ["user", "items", "sparse"]


def term_of(form, rng, count, *, diagonal):
    match form:
        case "user":
            return user_term(rng, count, 5, diagonal=diagonal)
        case "items":
            return item_term(rng, rng.integers(4, size=count), 3, diagonal=diagonal)
        case _:
            return sparse_term(rng, count, 40, diagonal=diagonal)


def by_definition(term, request, draw):
    """x . b of each candidate, b drawn by the slow reference."""
    found = np.zeros(term.rows.count)
    for e in range(term.rows.entities):
        columns = term.beliefs.columns_of(e)
        b = draw_coefficients(term.beliefs.belief(e), columns, request, int(term.keys[e]), draw)
        for i in range(int(term.rows.row_start[e]), int(term.rows.row_start[e + 1])):
            row = i if term.rows.row is None else int(term.rows.row[i])
            found[row] = feature_row(term.rows, row)[columns] @ b
    return found


@given(
    form=st.sampled_from(FORMS),
    diagonal=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 30),
    first=st.integers(0, 2**40),
)
def test_draws_are_those_of_the_definition(form, diagonal, seed, count, first):
    rng = np.random.default_rng(seed)
    term = term_of(form, rng, count, diagonal=diagonal)
    offset = rng.normal(size=count)
    found = Candidates(offset, (term,)).draws(seed, 3, first)
    for i in range(3):
        np.testing.assert_allclose(
            found[i], offset + by_definition(term, seed, first + i), rtol=1e-9, atol=1e-10
        )


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_100_000_draws_have_the_mean_and_covariance_of_the_posterior(diagonal):
    rng = np.random.default_rng(4)
    d, n = 6, 100_000
    about = belief(rng, d, diagonal=diagonal, certainty=5.0)
    term = EffectTerm("e", group_rows(np.eye(d)), stack([about]), entity_keys("e", ["u"]))
    drawn = Candidates(np.zeros(d), (term,)).draws(request_key("r"), n)
    std = about.std
    error = (drawn.mean(axis=0) - about.mean) / std * np.sqrt(n)
    assert np.abs(error).max() < 4.5
    # The variance of an entry of a sample covariance is (s_ii s_jj + s_ij^2) / n.
    truth, found = about.covariance, np.cov(drawn.T)
    spread = np.sqrt((np.outer(std**2, std**2) + truth**2) / n)
    assert np.abs((found - truth) / spread).max() < 4.5
    inverted = np.diag(about.precision) if diagonal else about.precision  # precision used as covariance
    assert np.abs((inverted - truth) / spread).max() > 100.0


def test_an_item_twice_in_a_list_has_one_draw_and_its_place_in_the_list_does_not_matter():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(3, 4))
    beliefs = [belief(rng, 4) for _ in range(3)]

    def scores(items):
        names = [f"i{i}" for i in sorted(set(items))]
        place = np.array([sorted(set(items)).index(i) for i in items])
        rows = group_rows(x[items], place, len(names))
        term = EffectTerm("i", rows, stack([beliefs[i] for i in sorted(set(items))]), entity_keys("i", names))
        return Candidates(np.zeros(len(items)), (term,)).draws(7, 2)

    many = scores([2, 0, 1, 2])
    np.testing.assert_array_equal(many[:, 0], many[:, 3])
    np.testing.assert_allclose(many[:, 0], scores([2])[:, 0], rtol=1e-12)
    np.testing.assert_allclose(many[:, 1], scores([0, 1])[:, 0], rtol=1e-12)
    assert len(np.unique(many[:, :3])) == 6


def test_columns_nobody_knows_anything_of_change_no_draw():
    rng = np.random.default_rng(9)
    term = sparse_term(rng, 5, 40)
    about, columns = term.beliefs.belief(0), term.beliefs.columns_of(0)
    extra = np.sort(np.concatenate([columns, np.setdiff1d(np.arange(40), columns)[:7]])).astype(np.int32)
    at = np.searchsorted(extra, columns)
    mean, precision = np.zeros(len(extra)), np.eye(len(extra))
    mean[at] = about.mean
    precision[np.ix_(at, at)] = about.precision
    wider = replace(term, beliefs=stack([replace(about, mean=mean, precision=precision)], [extra]))
    zero = np.zeros(5)
    np.testing.assert_allclose(
        Candidates(zero, (wider,)).draws(3, 2), Candidates(zero, (term,)).draws(3, 2), rtol=1e-12
    )


def test_normals_are_normal_and_differ_by_request_entity_draw_and_column():
    from scipy.stats import kstest

    columns = np.arange(20_000, dtype=np.int32)
    z = normals(1, 2, 0, columns)
    assert kstest(z, "norm").pvalue > 1e-3
    for other in (
        normals(2, 2, 0, columns),
        normals(1, 3, 0, columns),
        normals(1, 2, 1, columns),
        np.roll(z, 1),
    ):
        assert abs(np.corrcoef(z, other)[0, 1]) < 5.0 / np.sqrt(len(columns))
    np.testing.assert_array_equal(normals(1, 2, 0, columns[[7, 19_999]]), z[[7, 19_999]])


def test_contributions_are_those_of_the_shown_and_add_up():
    rng = np.random.default_rng(10)
    item = rng.integers(4, size=9)
    candidates = Candidates(rng.normal(size=9), (user_term(rng, 9, 3), item_term(rng, item, 2)))
    shown = np.array([7, 0, 3])
    parts = candidates.contributions(shown)
    mean, variance = candidates.mean_and_variance()
    assert list(parts) == ["per-user", "per-item"]
    np.testing.assert_allclose(candidates.offset[shown] + sum(p[0] for p in parts.values()), mean[shown])
    np.testing.assert_allclose(sum(p[1] for p in parts.values()), variance[shown])
