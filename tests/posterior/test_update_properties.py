"""What holds of every update, whatever the data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    Problem,
    assert_identical,
    assert_same,
    brief,
    draw,
    fit,
    methods,
    outcomes,
    problems,
    sparse,
    untidy,
)

from nearline.kernels import _posterior
from nearline.posterior import FeatureRows, Gaussian, Outcome, group_rows, update_many
from nearline.posterior.blocks import Blocks, share
from nearline.posterior.update import Labels, Method, Update

always_full = st.just(True)
INSTRUCTION_SETS = _posterior.available_instruction_sets()


@brief
@given(problems())
def test_evidence_never_lowers_certainty(problem: Problem) -> None:
    before, after = problem.belief, fit(problem)
    gained = after.precision - before.precision
    smallest = gained.min() if before.is_diagonal else np.linalg.eigvalsh(gained).min()
    assert smallest >= -1e-12 * np.abs(after.precision).max()


@brief
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(problem: Problem, random: object) -> None:
    order = np.random.default_rng(problem.n).permutation(problem.n)
    assert_same(fit(problem.rows(order)), fit(problem), 1e-10)


@brief
@given(problems())
def test_weight_two_is_the_row_twice(problem: Problem) -> None:
    twice = problem.rows(np.repeat(np.arange(problem.n), 2))
    assert_same(fit(replace(problem, weight=2.0 * problem.weight)), fit(twice), 1e-10)


@brief
@given(problems(outcome=st.just(Outcome.NORMAL), full=always_full))
def test_a_batch_is_its_rows_one_by_one_for_normal_outcomes(problem: Problem) -> None:
    belief = problem.belief
    for i in range(problem.n):
        belief = fit(problem.rows(slice(i, i + 1)).after(belief))
    assert_same(belief, fit(problem), 1e-9)


@brief
@given(problems(rows=(2, 40), outcome=st.just(Outcome.BERNOULLI), full=always_full))
def test_a_batch_is_near_its_rows_one_by_one_for_bernoulli_outcomes(problem: Problem) -> None:
    belief = problem.belief
    for i in range(problem.n):
        belief = fit(problem.rows(slice(i, i + 1)).after(belief))
    batch = fit(problem)
    away = belief.mean - batch.mean
    # A curvature is frozen when its row is learned: the drift is a part of what the rows taught, in either measure.
    learned = batch.mean - problem.belief.mean
    assert away @ batch.precision @ away <= 0.5 * learned @ batch.precision @ learned + 0.05 * problem.n
    assert np.abs(np.linalg.slogdet(belief.precision)[1] - np.linalg.slogdet(batch.precision)[1]) <= problem.d


@brief
@given(problems(), st.integers(0, 40))
def test_a_row_of_weight_zero_changes_nothing(problem: Problem, where: int) -> None:
    at = where % (problem.n + 1)
    more = Problem(
        problem.belief,
        np.insert(problem.x, at, 7.0, axis=0),
        np.insert(problem.y, at, 1.0),
        np.insert(problem.weight, at, 0.0),
        np.insert(problem.offset, at, 3.0),
        problem.outcome,
    )
    assert_same(fit(more), fit(problem), 1e-11)


@brief
@given(problems())
def test_rows_of_weight_zero_alone_leave_the_belief_bitwise(problem: Problem) -> None:
    assert_identical(fit(replace(problem, weight=np.zeros(problem.n))), problem.belief)


@brief
@given(problems(), methods)
def test_all_methods_agree(problem: Problem, method: Method) -> None:
    assert_same(fit(problem, method=method), fit(problem, method=Method.PRIMAL), 1e-9)
    assert_same(fit(problem, features=sparse(problem.x), method=method), fit(problem), 1e-9)


@brief
@given(problems(), methods, st.integers(0, 1000))
def test_sparse_rows_with_doubles_zeros_and_disorder_are_the_dense_rows(
    problem: Problem, method: Method, seed: int
) -> None:
    assert_same(fit(problem, features=untidy(problem.x, seed), method=method), fit(problem), 1e-9)


@brief
@given(problems())
def test_features_in_single_precision_are_the_same_values_in_double(problem: Problem) -> None:
    single = problem.x.astype(np.float32)
    double = replace(problem, x=single.astype(np.float64))
    labels = Labels(problem.y, problem.weight, problem.offset)
    prior = share(problem.belief)
    full = not problem.belief.is_diagonal
    fits = [
        update_many(group_rows(x), labels, prior, problem.outcome, full=full).beliefs.belief(0)
        for x in (single, double.x)
    ]
    assert_identical(fits[0], fits[1])


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@brief
@given(problem=problems(), method=methods)
def test_all_instruction_sets_agree(name: str, problem: Problem, method: Method) -> None:
    kept = _posterior.instruction_set()
    try:
        _posterior.use_instruction_set("portable")
        portable = fit(problem, method=method)
        _posterior.use_instruction_set(name)
        assert_same(fit(problem, method=method), portable, 1e-12)
    finally:
        _posterior.use_instruction_set(kept)


def ragged(
    seed: int, outcome: Outcome, *, full: bool, is_sparse: bool, entities: int = 60
) -> tuple[FeatureRows, Labels, Blocks]:
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, entities, size=6 * entities) ** 2 // entities
    problem = draw(seed, len(entity), 9, outcome, full=full)
    features = sparse(problem.x * (rng.random(problem.x.shape) < 0.5)) if is_sparse else problem.x
    labels = Labels(problem.y, problem.weight, problem.offset)
    return group_rows(features, entity, entities), labels, share(problem.belief)


def assert_updates_identical(a: Update, b: Update) -> None:
    for field in ("mean", "precision", "start"):
        np.testing.assert_array_equal(getattr(a.beliefs, field), getattr(b.beliefs, field))
    for field in ("status", "steps", "row_learned"):
        np.testing.assert_array_equal(getattr(a.report, field), getattr(b.report, field))


@pytest.mark.parametrize("threads", [2, 3, 8, 1000])
@brief
@given(seed=st.integers(0, 1000), outcome=outcomes, full=st.booleans(), is_sparse=st.booleans())
def test_any_number_of_threads_gives_the_same_bits(
    threads: int, seed: int, outcome: Outcome, full: bool, is_sparse: bool
) -> None:
    rows, labels, prior = ragged(seed, outcome, full=full, is_sparse=is_sparse)
    many = update_many(rows, labels, prior, outcome, full=full, threads=threads)
    assert_updates_identical(many, update_many(rows, labels, prior, outcome, full=full))


@brief
@given(seed=st.integers(0, 1000), outcome=outcomes, full=st.booleans())
def test_an_entity_among_many_is_the_entity_alone(seed: int, outcome: Outcome, full: bool) -> None:
    rows, labels, prior = ragged(seed, outcome, full=full, is_sparse=False)
    many = update_many(rows, labels, prior, outcome, full=full)
    assert rows.dense is not None
    assert labels.weight is not None
    assert labels.offset is not None
    for e in range(rows.entities):
        own = slice(*rows.row_start[e : e + 2])
        at = np.arange(rows.count)[own] if rows.row is None else rows.row[own]
        alone = Problem(
            prior.belief(0), rows.dense[at], labels.y[at], labels.weight[at], labels.offset[at], outcome
        )
        assert_identical(many.beliefs.belief(e), fit(alone))


@brief
@given(seed=st.integers(0, 1000), outcome=outcomes, full=st.booleans(), is_sparse=st.booleans())
def test_where_newton_begins_does_not_change_where_it_ends(
    seed: int, outcome: Outcome, full: bool, is_sparse: bool
) -> None:
    rows, labels, prior = ragged(seed, outcome, full=full, is_sparse=is_sparse)
    cold = update_many(rows, labels, prior, outcome, full=full)
    start = cold.beliefs.mean + np.random.default_rng(seed).normal(size=len(cold.beliefs.mean))
    start[::7] = np.nan  # of these entities the prior mean is taken instead
    warm = update_many(rows, labels, prior, outcome, full=full, start=start)
    np.testing.assert_array_equal(warm.report.status, cold.report.status)
    np.testing.assert_allclose(warm.beliefs.mean, cold.beliefs.mean, rtol=0.0, atol=1e-8)


@brief
@given(problems(full=st.just(False)))
def test_a_diagonal_prior_can_grow_correlations(problem: Problem) -> None:
    labels = Labels(problem.y, problem.weight, problem.offset)
    grown = update_many(group_rows(problem.x), labels, share(problem.belief), problem.outcome, full=True)
    full = replace(problem, belief=Gaussian(problem.belief.mean, np.diag(problem.belief.precision)))
    assert_same(grown.beliefs.belief(0), fit(full), 1e-9)
    sparse_rows = update_many(
        group_rows(sparse(problem.x)), labels, share(problem.belief), problem.outcome, full=True
    )
    assert_same(sparse_rows.beliefs.belief(0), fit(full), 1e-9)


@pytest.mark.parametrize("d", [*range(1, 18), 24, 31, 32, 33])
def test_one_belief_as_a_square_is_the_packed_one_bit_for_bit(d: int) -> None:
    for outcome in Outcome:
        for full in (True, False):
            problem = draw(d, 9, d, outcome, full=full)
            before = replace(
                problem.belief, mean=problem.belief.mean.copy(), precision=problem.belief.precision.copy()
            )
            labels = Labels(problem.y, problem.weight, problem.offset)
            many = update_many(group_rows(problem.x), labels, share(problem.belief), outcome, full=full)
            one = fit(problem)
            assert_identical(one, many.beliefs.belief(0))
            np.testing.assert_array_equal(one.precision, one.precision.T)
            assert_identical(problem.belief, before)  # read where it lies, and left as it was
