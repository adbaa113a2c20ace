"""Scores and sums over entities against slow versions in numpy; the estimated prior against the likelihood itself."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, brief, draw, draw_precision, outcomes, sparse

from nearline.arrays import Floats
from nearline.errors import ModelError
from nearline.kernels import _posterior
from nearline.posterior import (
    FeatureRows,
    Gaussian,
    Outcome,
    group_rows,
    reference,
    update_many,
)
from nearline.posterior import outcomes as families
from nearline.posterior.blocks import Blocks, share, stack
from nearline.posterior.prior import Moments, initial_prior, maximise, moments
from nearline.posterior.score import mean_of_blocks, score_blocks
from nearline.posterior.update import Labels


def batch(
    seed: int, outcome: Outcome, *, full: bool, is_sparse: bool, entities: int = 20, columns: int = 6
) -> tuple[Problem, np.ndarray, FeatureRows, Labels, Blocks]:
    """Rows of ragged entities and their beliefs, whole or (sparse) over the columns they touch."""
    rng = np.random.default_rng(seed)
    problem = draw(seed, 4 * entities, columns, outcome, full=full and not is_sparse)
    if is_sparse:
        problem = replace(problem, x=problem.x * (rng.random(problem.x.shape) < 0.5))
    entity = rng.integers(0, entities, problem.n)
    rows = group_rows(sparse(problem.x) if is_sparse else problem.x, entity, entities)
    labels = Labels(problem.y, problem.weight, problem.offset)
    done = update_many(rows, labels, share(problem.belief), outcome, full=full)
    return problem, entity, rows, labels, done.beliefs


cases = {
    "seed": st.integers(0, 10**6),
    "outcome": outcomes,
    "full": st.booleans(),
    "is_sparse": st.booleans(),
    "threads": st.integers(1, 4),
}


@brief
@given(**cases)
def test_scores_are_the_mean_and_variance_of_each_predictor(
    seed: int, outcome: Outcome, full: bool, is_sparse: bool, threads: int
) -> None:
    problem, entity, rows, _, beliefs = batch(seed, outcome, full=full, is_sparse=is_sparse)
    mean, variance = score_blocks(rows, beliefs, threads=threads)
    for i in range(problem.n):
        belief, x = beliefs.belief(entity[i]), problem.x[i, beliefs.columns_of(entity[i])]
        np.testing.assert_allclose(mean[i], x @ belief.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(variance[i], x @ belief.covariance @ x, rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(mean_of_blocks(rows, beliefs, threads=threads), mean)


@pytest.mark.parametrize("name", _posterior.available_instruction_sets())
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_row_has_the_same_score_to_the_bit_whatever_rows_are_beside_it(name: str, kind: type) -> None:
    chosen, rng = _posterior.instruction_set(), np.random.default_rng(8)
    _posterior.use_instruction_set(name)
    try:
        for d in (1, 7, 8, 21, 64):
            x, prior = rng.normal(size=(19, d)).astype(kind), share(Gaussian(rng.normal(size=d), np.ones(d)))
            together = mean_of_blocks(group_rows(x), prior)
            apart = [mean_of_blocks(group_rows(x[i : i + 1]), prior)[0] for i in range(19)]
            np.testing.assert_array_equal(together, apart)
            shuffled = mean_of_blocks(group_rows(x, np.arange(19) % 3, 3), prior)
            np.testing.assert_array_equal(together, shuffled)
            np.testing.assert_allclose(together, x @ prior.mean, rtol=1e-12, atol=1e-12)
    finally:
        _posterior.use_instruction_set(chosen)


def test_rows_score_under_a_shared_prior_and_rows_of_nobody_score_zero() -> None:
    problem = draw(3, 5, 4, Outcome.NORMAL)
    rows = group_rows(problem.x, np.array([0, 1, -1, 1, 0]), 2)
    mean, variance = score_blocks(rows, share(problem.belief))
    known = np.array([True, True, False, True, True])
    np.testing.assert_allclose(mean, np.where(known, problem.x @ problem.belief.mean, 0.0), atol=1e-14)
    wanted = np.einsum("ij,jk,ik->i", problem.x, problem.belief.covariance, problem.x)
    np.testing.assert_allclose(variance, np.where(known, wanted, 0.0), rtol=1e-12)


def test_beliefs_that_cannot_score_their_rows_are_named() -> None:
    narrow = stack([Gaussian(np.zeros(1), np.ones(1))] * 2, [np.array([1], np.int32)] * 2)
    with pytest.raises(ModelError, match="entity 1"):
        score_blocks(group_rows(sparse(np.array([[0.0, 1.0], [1.0, 1.0]])), np.array([0, 1]), 2), narrow)
    indefinite = stack([Gaussian(np.zeros(2), np.eye(2)), Gaussian(np.zeros(2), -np.eye(2))])
    with pytest.raises(ModelError, match="entity 1"):
        score_blocks(group_rows(np.ones((2, 2)), np.array([0, 1]), 2), indefinite)


def slow_moments(
    problem: Problem, entity: np.ndarray, beliefs: Blocks, center: Floats, other: Floats
) -> Moments:
    """The sums of posterior/prior.py by its formulas."""
    columns = problem.d
    covariance, square = np.zeros((columns, columns)), np.zeros((columns, columns))
    mean, count, logdet = np.zeros(columns), np.zeros(columns), np.zeros(beliefs.entities)
    leverage, pull = np.zeros(problem.n), np.zeros(problem.n)
    for e in range(beliefs.entities):
        belief, at, own = beliefs.belief(e), beliefs.columns_of(e), entity == e
        x, v, c = problem.x[own][:, at], belief.covariance, belief.mean - center[at]
        eta = problem.offset[own] + x @ belief.mean
        leverage[own] = np.einsum("ij,jk,ik->i", x, v, x)
        third = families.slope_of_curvature(problem.outcome, eta)
        vt = v @ (x.T @ (problem.weight[own] * third * leverage[own]))
        pull[own] = x @ vt
        vt = vt + v @ (x.T @ (problem.weight[own] * third * other[own]))
        covariance[np.ix_(at, at)] += v
        square[np.ix_(at, at)] += np.outer(c, c) - (np.outer(vt, c) + np.outer(c, vt)) / 2.0
        mean[at] += belief.mean - vt / 2.0
        count[at] += 1.0
        logdet[e] = -np.linalg.slogdet(v)[1]
    return Moments(covariance, square, mean, count, leverage, pull, logdet)


def assert_moments_close(a: Moments, b: Moments) -> None:
    for name in Moments.__slots__:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-10, atol=1e-11, err_msg=name)


@brief
@given(**cases)
def test_moments_are_the_sums_they_are_said_to_be(
    seed: int, outcome: Outcome, full: bool, is_sparse: bool, threads: int
) -> None:
    problem, entity, rows, labels, beliefs = batch(seed, outcome, full=full, is_sparse=is_sparse)
    center = np.random.default_rng(seed).normal(size=problem.d)
    other = np.random.default_rng(seed + 1).gamma(1.0, size=problem.n)
    slow = slow_moments(problem, entity, beliefs, center, other)
    if not full:
        slow = replace(slow, covariance=np.diag(slow.covariance), square=np.diag(slow.square))
    fast = moments(rows, labels, beliefs, center, outcome, other_variance=other, threads=threads)
    assert_moments_close(fast, slow)
    one_thread = moments(rows, labels, beliefs, center, outcome, other_variance=other)
    for name in Moments.__slots__:
        np.testing.assert_array_equal(getattr(fast, name), getattr(one_thread, name))


@brief
@given(
    seed=st.integers(0, 10**6),
    outcome=outcomes,
    is_sparse=st.booleans(),
    field=st.sampled_from(["x", "y", "weight", "offset"]),
)
def test_rows_that_an_update_sets_aside_are_no_part_of_the_moments(
    seed: int, outcome: Outcome, is_sparse: bool, field: str
) -> None:
    problem, entity, _, _, beliefs = batch(seed, outcome, full=True, is_sparse=False)
    bad = np.arange(problem.n) % 5 == 0
    spoilt = getattr(problem, field).copy()
    spoilt[bad] = np.nan
    spoilt = replace(problem, **{field: spoilt})
    beliefs = replace(beliefs, column=np.tile(np.arange(problem.d, dtype=np.int32), beliefs.entities))
    if not is_sparse:
        beliefs = replace(beliefs, column=None)

    def of(part: Problem, entity: np.ndarray) -> Moments:
        rows = group_rows(sparse(part.x) if is_sparse else part.x, entity, beliefs.entities)
        labels = Labels(part.y, part.weight, part.offset)
        return moments(rows, labels, beliefs, np.zeros(part.d), outcome)

    whole, rest = of(spoilt, entity), of(problem.rows(~bad), entity[~bad])
    for name in ("covariance", "square", "mean", "log_determinant"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(rest, name))
    np.testing.assert_array_equal(whole.leverage, np.where(bad, 0.0, whole.leverage))
    np.testing.assert_array_equal(whole.leverage[~bad], rest.leverage)
    np.testing.assert_array_equal(whole.pull[~bad], rest.pull)


def test_moments_name_the_entity_whose_block_does_not_fit() -> None:
    narrow = stack([Gaussian(np.zeros(1), np.eye(1))], [np.array([0], np.int32)])
    with pytest.raises(ModelError, match="entity 0"):
        moments(group_rows(sparse(np.eye(2))), Labels(np.ones(2)), narrow, np.zeros(2), Outcome.NORMAL)


def minus_twice_log_likelihood(
    problem: Problem, entity: np.ndarray, mean: Floats, covariance: Floats
) -> float:
    """Laplace's approximation by its definition, entity by entity."""
    prior = Gaussian(mean, np.linalg.inv(covariance))
    total = 0.0
    for e in np.unique(entity):
        own = problem.rows(entity == e)
        data = (own.x, own.y, own.weight, own.offset, own.outcome)
        mode = reference.update(prior, own.x, own.y, own.outcome, own.weight, own.offset)
        total += 2.0 * reference.objective(mode.mean, prior, *data)
        total += np.linalg.slogdet(mode.precision)[1] + np.linalg.slogdet(covariance)[1]
    return total


@pytest.mark.parametrize("outcome", list(Outcome))
def test_at_the_fixed_point_the_likelihood_is_flat_in_the_prior(outcome: Outcome) -> None:
    rng = np.random.default_rng(11)
    entities, each, d = 12, 25, 2
    truth = rng.normal(size=(entities, d)) @ np.array([[1.0, 0.4], [0.0, 0.8]]) + [0.5, -0.3]
    entity = np.repeat(np.arange(entities), each)
    x = np.stack([np.ones(len(entity)), rng.normal(size=len(entity))], axis=1)
    eta = np.einsum("ij,ij->i", x, truth[entity])
    y = {
        Outcome.BERNOULLI: (rng.random(len(eta)) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
        Outcome.NORMAL: eta + rng.normal(size=len(eta)),
        Outcome.POISSON: rng.poisson(np.exp(eta)).astype(float),
    }[outcome]
    weight, offset = rng.uniform(0.5, 2.0, len(eta)), 0.1 * rng.normal(size=len(eta))
    rows, labels = group_rows(x, entity, entities), Labels(y, weight, offset)
    prior = initial_prior(rows)
    for _ in range(3000):
        beliefs = update_many(rows, labels, share(prior), outcome, tolerance=1e-20).beliefs
        last, prior = (
            prior,
            maximise(moments(rows, labels, beliefs, prior.mean, outcome), prior, estimate_mean=True),
        )
        if np.abs(prior.covariance - last.covariance).max() < 1e-13:
            break
    problem = Problem(prior, x, y, weight, offset, outcome)
    best = minus_twice_log_likelihood(problem, entity, prior.mean, prior.covariance)
    h = 1e-4
    for i in range(d):
        step = h * np.eye(d)[i]
        up, down = (
            minus_twice_log_likelihood(problem, entity, prior.mean + s, prior.covariance)
            for s in (step, -step)
        )
        assert abs(up - down) / (2.0 * h) < 1e-5
        assert min(up, down) > best
        for j in range(i, d):
            change = np.zeros((d, d))
            change[i, j] = change[j, i] = h
            up, down = (
                minus_twice_log_likelihood(problem, entity, prior.mean, prior.covariance + s)
                for s in (change, -change)
            )
            assert abs(up - down) / (2.0 * h) < 1e-5
            assert min(up, down) > best


def test_leaving_out_the_skewness_would_miss_the_fixed_point() -> None:
    # The check above can fail: without the term in t_e the moments differ by far more than it lets pass.
    problem, _, rows, labels, beliefs = batch(5, Outcome.POISSON, full=True, is_sparse=False)
    m = moments(rows, labels, beliefs, problem.belief.mean, Outcome.POISSON)
    c = np.stack([beliefs.belief(e).mean for e in range(beliefs.entities)]) - problem.belief.mean
    assert np.abs(m.square - c.T @ c).max() > 0.1


@brief
@given(seed=st.integers(0, 10**6), full=st.booleans())
def test_one_entity_without_rows_calls_for_the_prior_it_has(seed: int, full: bool) -> None:
    rng = np.random.default_rng(seed)
    prior = Gaussian(rng.normal(size=4), draw_precision(rng, 4) if full else rng.uniform(0.5, 2.0, 4))
    rows = group_rows(np.zeros((0, 4)), np.zeros(0, np.int64), 3)
    labels = Labels(np.zeros(0))
    beliefs = update_many(rows, labels, share(prior), Outcome.NORMAL, full=full).beliefs
    called = maximise(moments(rows, labels, beliefs, prior.mean, Outcome.NORMAL), prior, estimate_mean=True)
    np.testing.assert_allclose(called.mean, prior.mean, rtol=1e-12)
    np.testing.assert_allclose(called.precision, prior.precision, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_no_entities_leave_the_prior_as_it_was(full: bool) -> None:
    prior = Gaussian(np.ones(3), 2.0 * np.eye(3) if full else np.full(3, 2.0))
    rows, labels = group_rows(np.zeros((0, 3)), np.zeros(0, np.int64), 0), Labels(np.zeros(0))
    beliefs = update_many(rows, labels, share(prior), Outcome.NORMAL, full=full).beliefs
    called = maximise(moments(rows, labels, beliefs, prior.mean, Outcome.NORMAL), prior, estimate_mean=True)
    np.testing.assert_array_equal(called.mean, prior.mean)
    np.testing.assert_array_equal(called.precision, prior.precision)


@brief
@given(seed=st.integers(0, 10**6), outcome=outcomes)
def test_a_column_an_entity_lacks_is_its_prior_in_that_column(seed: int, outcome: Outcome) -> None:
    # So under a diagonal prior leaving it out, as is done, has the same fixed point as having it.
    problem, _, rows, labels, partial = batch(seed, outcome, full=False, is_sparse=True)
    entities, columns, prior = partial.entities, problem.d, problem.belief
    layout = (
        np.arange(entities + 1, dtype=np.int64) * columns,
        np.tile(np.arange(columns, dtype=np.int32), entities),
    )
    whole = update_many(rows, labels, share(prior), outcome, full=False, layout=layout).beliefs
    few = moments(rows, labels, partial, prior.mean, outcome)
    every = moments(rows, labels, whole, prior.mean, outcome)
    lacking = entities - few.count
    np.testing.assert_allclose(every.covariance, few.covariance + lacking / prior.precision, rtol=1e-10)
    np.testing.assert_allclose(every.square, few.square, rtol=1e-10)
    np.testing.assert_allclose(every.mean, few.mean + lacking * prior.mean, rtol=1e-10, atol=1e-10)


def test_the_first_prior_is_weak_and_blind_to_the_labels() -> None:
    x = np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    for features in (x, x.astype(np.float32)):
        prior = initial_prior(group_rows(features))
        np.testing.assert_allclose(prior.precision, np.diag([2.0, 4.0, 2.0]))
        np.testing.assert_array_equal(prior.mean, np.zeros(3))
    # Of sparse rows the size is that of the entries there are.
    np.testing.assert_allclose(initial_prior(group_rows(sparse(x))).precision, np.diag([2.0, 8.0, 2.0]))
    assert initial_prior(group_rows(np.ones((2, 65)))).is_diagonal
