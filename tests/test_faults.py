"""Faults of earlier systems that must be impossible here, each with the figures that show it.

Every test holds the right figure and the figure of the fault, computed by a small faulty version, so that it is seen
to tell the two apart. Saving itself is tested with the model format; here is what is saved.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from nearline.arrays import Floats, Ints
from nearline.posterior import (
    Forgetting,
    Gaussian,
    Outcome,
    Status,
    group_rows,
    reference,
    update_many,
    update_one,
)
from nearline.posterior.blocks import Blocks, share, stack, whole_layout
from nearline.posterior.evidence import (
    complete,
    extract_evidence,
    layout_for,
    no_evidence,
    select_evidence,
)
from nearline.posterior.score import score_blocks
from nearline.posterior.update import Labels, Method

TINY = Gaussian(np.zeros(1), np.full(1, 1e-9))


def learn(
    belief: Gaussian,
    x: Floats,
    y: Floats,
    outcome: Outcome,
    *,
    weight: Floats | None = None,
    offset: Floats | None = None,
) -> Gaussian:
    """One update that must succeed, by every method."""
    found = []
    for method in Method:
        after, status = update_one(belief, x, y, outcome, weight=weight, offset=offset, method=method)
        assert status is Status.LEARNED
        found.append(after)
    for other in found[1:]:
        np.testing.assert_allclose(other.mean, found[0].mean, atol=1e-8)
        np.testing.assert_allclose(other.precision, found[0].precision, rtol=1e-8)
    return found[0]


def test_square_loss_heeds_the_weights() -> None:
    y, weight, ones = np.array([0.0, 10.0]), np.array([1.0, 99.0]), np.ones((2, 1))
    mean = learn(TINY, ones, y, Outcome.NORMAL, weight=weight).mean
    faulty = reference.update(TINY, ones, y, Outcome.NORMAL).mean  # the weights left out
    np.testing.assert_allclose(faulty, 5.0, atol=1e-6)
    np.testing.assert_allclose(mean, 9.9, atol=1e-6)


def test_the_precision_heeds_the_weights() -> None:
    # 10 rows of weight 100 teach what 1,000 rows do: 1 + 1,000 / 4.
    belief, x = Gaussian(np.zeros(1), np.ones((1, 1))), np.ones((10, 1))
    y = np.full(10, 0.5)
    precision = learn(belief, x, y, Outcome.BERNOULLI, weight=np.full(10, 100.0)).precision
    faulty = 1.0 + 10 * 0.25
    assert faulty == 3.5
    np.testing.assert_allclose(precision, 251.0, rtol=1e-12)
    thousand = learn(belief, np.ones((1000, 1)), np.full(1000, 0.5), Outcome.BERNOULLI)
    np.testing.assert_allclose(precision, thousand.precision, rtol=1e-12)


def test_square_loss_has_its_own_curvature_and_keeps_the_penalty() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)) * [2.0, 1.0]
    y = np.random.default_rng(1).normal(size=60)
    precision = learn(Gaussian(np.zeros(2), 10.0 * np.eye(2)), x, y, Outcome.NORMAL).precision
    probability = 1.0 / (1.0 + np.exp(-y))
    faulty = (x.T * (probability * (1.0 - probability))) @ x  # logistic curvature, no penalty
    right = x.T @ x + 10.0 * np.eye(2)
    assert np.abs(faulty - right).max() > 10.0
    np.testing.assert_allclose(precision, right, rtol=1e-12)


def test_labels_of_a_regression_are_learned_as_they_are() -> None:
    y = np.array([5.0, 3.5, 0.0, 1.0])
    belief = Gaussian(np.zeros(4), np.full((4,), 1e-9))
    mean = learn(belief, np.eye(4), y, Outcome.NORMAL).mean
    faulty = np.where(y == 1.0, 1.0, -1.0)
    assert faulty.tolist() == [-1.0, -1.0, -1.0, 1.0]
    np.testing.assert_allclose(mean, y, atol=1e-7)


@pytest.mark.parametrize("offset", [800.0, -800.0])
def test_a_margin_of_800_is_finite(offset: float) -> None:
    belief, x, y = Gaussian(np.zeros(1), np.ones((1, 1))), np.ones((1, 1)), np.array([float(offset < 0.0)])
    with np.errstate(over="ignore"):
        faulty = np.log1p(np.exp((1.0 - 2.0 * y[0]) * np.float64(offset)))
    assert np.isinf(faulty)
    after = learn(belief, x, y, Outcome.BERNOULLI, offset=np.array([offset]))
    np.testing.assert_allclose(after.mean, -np.sign(offset), rtol=1e-12)  # the whole residual over the prior
    np.testing.assert_allclose(after.precision, 1.0, rtol=1e-12)


def test_one_row_that_is_not_a_number_is_set_aside_and_counted() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 2)), (rng.random(10) < 0.5).astype(float)
    x[3, 1] = np.nan
    prior = Gaussian(np.zeros(2), np.eye(2))
    done = update_many(group_rows(x), Labels(y), share(prior), Outcome.BERNOULLI)
    assert done.report.status[0] == Status.LEARNED
    assert np.flatnonzero(done.set_aside).tolist() == [3]
    rest = reference.update(prior, np.delete(x, 3, 0), np.delete(y, 3), Outcome.BERNOULLI)
    np.testing.assert_allclose(done.beliefs.belief(0).mean, rest.mean, atol=1e-10)
    assert np.abs(rest.mean - prior.mean).max() > 0.1  # dropping the whole mini-batch would leave 0


def test_what_is_kept_of_a_belief_keeps_its_correlations_and_variances() -> None:
    # Two strongly correlated features: a record of 1 / diag(H) claims too little variance and forgets which way.
    rng = np.random.default_rng(2)
    common = rng.normal(size=40)
    x = np.stack([common, common + 0.1 * rng.normal(size=40)], axis=1)
    y = x @ [1.0, -0.5] + rng.normal(size=40)
    prior = Gaussian(np.zeros(2), 0.1 * np.eye(2))
    batch = learn(prior, x, y, Outcome.NORMAL)
    first = learn(prior, x[:20], y[:20], Outcome.NORMAL)
    layout = (whole_layout(1, 2), np.arange(2, dtype=np.int32))
    kept = complete(extract_evidence(stack([first], [layout[1]]), prior, layout), prior, layout).belief(0)
    np.testing.assert_allclose(kept.std, first.std, rtol=1e-10)
    again = learn(kept, x[20:], y[20:], Outcome.NORMAL)
    np.testing.assert_allclose(again.mean, batch.mean, atol=1e-9)
    np.testing.assert_allclose(again.precision, batch.precision, rtol=1e-9)
    faulty = Gaussian(first.mean, np.diag(first.precision).copy())
    assert np.max(first.std / faulty.std) ** 2 > 10.0
    assert np.abs(learn(faulty, x[20:], y[20:], Outcome.NORMAL).mean - batch.mean).max() > 0.1


def test_a_feature_never_seen_has_the_mean_and_variance_of_the_prior_and_the_block_grows() -> None:
    prior = Gaussian(np.array([0.0, 0.3, -0.7]), np.array([1.0, 4.0, 2.0]))
    labels, rows = (
        Labels(np.array([1.0, 0.0])),
        group_rows(csr_array(np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))),
    )
    beliefs = update_many(rows, labels, share(prior), Outcome.BERNOULLI).beliefs
    assert beliefs.columns_of(0).tolist() == [0, 1]
    evidence = extract_evidence(beliefs, prior, (beliefs.start, beliefs.column))
    new = group_rows(csr_array(np.array([[0.0, 0.0, 3.0]])))
    grown = complete(evidence, prior, layout_for(new, evidence, prior))
    assert grown.columns_of(0).tolist() == [0, 1, 2]
    mean, variance = score_blocks(new, grown)
    np.testing.assert_allclose((mean[0], variance[0]), (3.0 * -0.7, 9.0 / 2.0), rtol=1e-12)
    faulty = beliefs.mean  # a block that cannot grow has no such index
    with pytest.raises(IndexError):
        faulty[2]
    np.testing.assert_allclose(grown.belief(0).mean[:2], beliefs.belief(0).mean, atol=1e-12)
    after = update_many(new, Labels(np.array([1.0])), grown, Outcome.BERNOULLI).beliefs.belief(0)
    assert after.mean[2] > -0.7
    assert after.precision[2, 2] > 2.0


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_two_rows_do_not_erase_the_old_model(full: bool) -> None:
    rng = np.random.default_rng(3)
    truth = np.array([0.178, -0.4, 0.9])
    population = Gaussian(np.zeros(3), np.eye(3) if full else np.ones(3))
    x = rng.normal(size=(2000, 3))
    y = x @ truth + rng.normal(size=2000)
    old = learn(population, x, y, Outcome.NORMAL)
    two, labels = 0.01 * rng.normal(size=(2, 3)), np.array([0.0, 0.0])
    warm = learn(old, two, labels, Outcome.NORMAL)
    np.testing.assert_allclose(warm.mean, old.mean, atol=1e-3)
    faulty = learn(population, two, labels, Outcome.NORMAL)  # the old model as a starting point only
    assert np.abs(faulty.mean).max() < 0.01
    assert np.all(
        (warm.precision - old.precision if not full else np.diag(warm.precision - old.precision)) >= 0.0
    )


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_features_of_the_old_model_that_the_new_rows_lack_are_kept(full: bool) -> None:
    prior = Gaussian(np.zeros(4), np.ones(4))
    old = update_many(
        group_rows(csr_array(np.array([[1.0, 2.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]))),
        Labels(np.array([3.0, 0.0])),
        share(prior),
        Outcome.NORMAL,
        full=full,
    ).beliefs
    evidence = extract_evidence(old, prior, (old.start, old.column))
    rows = group_rows(csr_array(np.array([[0.0, 0.0, 0.0, 1.0]])))
    layout = layout_for(rows, evidence, prior)
    new = update_many(
        rows, Labels(np.array([1.0])), complete(evidence, prior, layout), Outcome.NORMAL, full=full
    ).beliefs
    assert new.columns_of(0).tolist() == [0, 1, 3]
    faulty = update_many(rows, Labels(np.array([1.0])), share(prior), Outcome.NORMAL, full=full).beliefs
    assert faulty.columns_of(0).tolist() == [3]
    np.testing.assert_allclose(new.belief(0).mean[:2], old.belief(0).mean, rtol=1e-12)
    before, after = old.belief(0).precision, new.belief(0).precision
    np.testing.assert_allclose(after[:2, :2] if full else after[:2], before, rtol=1e-12)


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_a_precision_of_10000_is_kept_exactly(full: bool) -> None:
    penalty = 1.0
    sure = Gaussian(np.array([0.25, 0.5]), np.diag([10_000.0, 2.0]) if full else np.array([10_000.0, 2.0]))
    prior = Gaussian(np.zeros(2), np.full(2, penalty))
    layout = (whole_layout(1, 2), np.arange(2, dtype=np.int32))
    evidence = extract_evidence(stack([sure], [layout[1]]), prior, layout)
    kept = complete(select_evidence(evidence, np.array([0])), prior, layout).belief(0)
    np.testing.assert_array_equal(kept.precision, sure.precision)
    np.testing.assert_allclose(kept.mean, sure.mean, rtol=1e-15)
    variance = sure.std**2
    faulty = np.where(
        variance < 1e-4 * (1.0 + 1e-12), penalty, 1.0 / variance
    )  # dropped, so back at the penalty
    assert faulty[0] == penalty


@pytest.mark.parametrize("offset", [800.0, 1e5])
@pytest.mark.parametrize("method", list(Method))
def test_poisson_margins_do_not_overflow(offset: float, method: Method) -> None:
    with np.errstate(over="ignore"):
        faulty = np.exp(offset)
    assert np.isinf(faulty)
    belief = Gaussian(np.zeros(2), np.eye(2))
    x, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([2.0, 3.0])
    after, status = update_one(
        belief, x, y, Outcome.POISSON, offset=np.array([offset, offset]), method=method
    )
    assert np.isfinite(after.mean).all()
    assert np.isfinite(after.precision).all()
    assert status is Status.LEARNED or after is belief
    # One such row among sound ones is learned too: it pulls its own coefficient far down.
    after, status = update_one(
        belief, np.eye(2), y, Outcome.POISSON, offset=np.array([0.0, 50.0]), method=method
    )
    assert status is Status.LEARNED
    np.testing.assert_allclose(after.mean[1], 3.0 - np.exp(50.0 + after.mean[1]), rtol=1e-6)


def stream(population: Gaussian, x: Floats, y: Floats, time_ms: Ints, cuts: int, rule: Forgetting) -> Blocks:
    """The rows learned as so many mini-batches; the belief as of the last row."""
    layout = (whole_layout(1, x.shape[1]), np.arange(x.shape[1], dtype=np.int32))
    evidence, since = no_evidence(1, full=True), np.zeros(1, np.int64)
    for part in np.array_split(np.arange(len(y)), cuts):
        now = time_ms[part[-1:]]
        belief = complete(evidence, population, layout, keep=rule.keep_of_belief(since, now))
        weight = rule.keep_of_rows(time_ms[part], np.repeat(now, len(part)))
        rows = group_rows(csr_array(x[part]))
        done = update_many(rows, Labels(y[part], weight), belief, Outcome.NORMAL)
        evidence, since = extract_evidence(done.beliefs, population, layout), now
    return complete(evidence, population, layout)


def test_fifty_rows_teach_the_same_as_one_mini_batch_or_fifty() -> None:
    rng = np.random.default_rng(4)
    x, y, time_ms = rng.normal(size=(50, 3)), rng.normal(size=50), 1000 * np.arange(1, 51)
    population = Gaussian(np.full(3, 0.5), 2.0 * np.eye(3))
    by_time, by_batch = Forgetting(time_constant_ms=20_000.0), Forgetting(keep_per_batch=0.95)
    once, often = (stream(population, x, y, time_ms, cuts, by_time).belief(0) for cuts in (1, 50))
    np.testing.assert_allclose(once.mean, often.mean, atol=1e-9)
    np.testing.assert_allclose(once.precision, often.precision, rtol=1e-9)
    faulty = [stream(population, x, y, time_ms, cuts, by_batch).belief(0).mean for cuts in (1, 50)]
    assert np.abs(faulty[0] - faulty[1]).max() > 0.01


def test_a_feature_that_is_absent_keeps_its_evidence_apart_from_its_age() -> None:
    # Nothing decays for want of being mentioned: no time goes by, so nothing is forgotten.
    population = Gaussian(np.zeros(2), np.eye(2))
    x = np.array([[0.0, 1.0]] + [[1.0, 0.0]] * 20)
    y = np.array([2.0] + [0.0] * 20)
    same_time = np.full(21, 5000)
    kept = stream(population, x, y, same_time, 21, Forgetting(time_constant_ms=1000.0)).belief(0)
    np.testing.assert_allclose(kept.mean[1], 1.0, rtol=1e-9)
    faulty = stream(population, x, y, same_time, 21, Forgetting(keep_per_batch=0.8)).belief(0)
    assert faulty.mean[1] < 0.1


def test_samples_would_spread_like_the_covariance_not_the_precision() -> None:
    # Thompson sampling itself comes with the policies; the spread it draws from is this one.
    belief = Gaussian(np.zeros(1), np.array([10_000.0]))
    faulty = np.sqrt(belief.precision[0])
    assert faulty == 100.0
    np.testing.assert_allclose(belief.std, 0.01)
    rows = group_rows(np.ones((1, 1)))
    _, variance = score_blocks(rows, replace(stack([belief]), shared=True))
    np.testing.assert_allclose(np.sqrt(variance), 0.01)
