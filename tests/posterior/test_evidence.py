"""Evidence, forgetting and growth: natural parameters add, and nothing is lost in between."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Problem, assert_same, brief, draw, fit, outcomes, problems, sparse

from nearline.arrays import Ints
from nearline.errors import ConfigError, DataError, ModelError
from nearline.posterior import Forgetting, Gaussian, Outcome, discount, group_rows, reference, update_many
from nearline.posterior.blocks import Blocks, active_layout, share, stack, whole_layout
from nearline.posterior.evidence import (
    complete,
    extract_evidence,
    layout_for,
    no_evidence,
    select_evidence,
)
from nearline.posterior.update import Labels


def learned(
    seed: int, outcome: Outcome, *, full: bool, entities: int = 12, columns: int = 11
) -> tuple[Blocks, Gaussian]:
    """Beliefs of ragged sparse entities and the diagonal prior they grew from."""
    rng = np.random.default_rng(seed)
    problem = draw(seed, 5 * entities, columns, outcome, full=False)
    x = problem.x * (rng.random(problem.x.shape) < 0.3)
    rows = group_rows(sparse(x), rng.integers(0, entities, len(x)), entities)
    labels = Labels(problem.y, problem.weight, problem.offset)
    return update_many(rows, labels, share(problem.belief), outcome, full=full).beliefs, problem.belief


def assert_blocks_close(a: Blocks, b: Blocks, tolerance: float) -> None:
    np.testing.assert_array_equal(a.start, b.start)
    for e in range(a.entities):
        np.testing.assert_array_equal(a.columns_of(e), b.columns_of(e))
        assert_same(a.belief(e), b.belief(e), tolerance)


@brief
@given(seed=st.integers(0, 10**6), outcome=outcomes, full=st.booleans(), threads=st.integers(1, 4))
def test_completing_what_was_extracted_gives_the_belief_back(
    seed: int, outcome: Outcome, full: bool, threads: int
) -> None:
    beliefs, prior = learned(seed, outcome, full=full)
    layout = (beliefs.start, beliefs.column)
    evidence = extract_evidence(beliefs, prior, layout, threads=threads)
    assert_blocks_close(complete(evidence, prior, layout, threads=threads), beliefs, 1e-10)


@brief
@given(problem=problems(full=st.just(True)))
def test_completing_what_was_extracted_gives_the_belief_back_under_a_full_prior(problem: Problem) -> None:
    belief = fit(problem)
    layout = (whole_layout(1, problem.d), np.arange(problem.d, dtype=np.int32))
    evidence = extract_evidence(stack([belief], [layout[1]]), problem.belief, layout)
    assert_same(complete(evidence, problem.belief, layout).belief(0), belief, 1e-10)


@brief
@given(seed=st.integers(0, 10**6), outcome=outcomes, full=st.booleans())
def test_forgetting_everything_returns_the_prior(seed: int, outcome: Outcome, full: bool) -> None:
    beliefs, prior = learned(seed, outcome, full=full)
    layout = (beliefs.start, beliefs.column)
    evidence = extract_evidence(beliefs, prior, layout)
    gone = complete(evidence, prior, layout, keep=np.zeros(beliefs.entities))
    for e in range(beliefs.entities):
        columns = gone.columns_of(e)
        np.testing.assert_allclose(gone.belief(e).mean, prior.mean[columns], rtol=1e-13)
        own = gone.belief(e).precision
        np.testing.assert_array_equal(own if own.ndim == 1 else np.diag(own), prior.precision[columns])


@brief
@given(problem=problems(), keep=st.floats(0.0, 1.0))
def test_discounting_evidence_is_discounting_the_belief(problem: Problem, keep: float) -> None:
    belief = fit(problem)
    layout = (whole_layout(1, problem.d), np.arange(problem.d, dtype=np.int32))
    evidence = extract_evidence(stack([belief], [layout[1]]), problem.belief, layout)
    aged = complete(evidence, problem.belief, layout, keep=np.array([keep])).belief(0)
    assert_same(aged, discount(belief, keep, problem.belief), 1e-9)


def test_discount_keeps_all_or_nothing_at_its_ends() -> None:
    problem = draw(1, 9, 4, Outcome.NORMAL)
    belief = fit(problem)
    assert discount(belief, 1.0, problem.belief) is belief
    assert_same(discount(belief, 0.0, problem.belief), problem.belief, 1e-14)
    for keep in (-0.1, 1.1, np.nan):
        with pytest.raises(DataError, match="0 to 1"):
            discount(belief, keep, problem.belief)


@brief
@given(seed=st.integers(0, 10**6), outcome=outcomes, full=st.booleans())
def test_a_block_that_grows_is_as_if_it_had_had_the_columns_from_the_start(
    seed: int, outcome: Outcome, full: bool
) -> None:
    rng = np.random.default_rng(seed)
    problem = draw(seed, 40, 9, outcome, full=False)
    x = problem.x * (rng.random(problem.x.shape) < 0.3)
    entity = rng.integers(0, 4, 40)
    labels = Labels(problem.y, problem.weight, problem.offset)
    rows = group_rows(sparse(x), entity, 4)
    prior = share(problem.belief)
    small = update_many(rows, labels, prior, outcome, full=full).beliefs
    everything = (whole_layout(4, 9), np.tile(np.arange(9, dtype=np.int32), 4))
    large = update_many(rows, labels, prior, outcome, full=full, layout=everything).beliefs
    evidence = extract_evidence(small, problem.belief, (small.start, small.column))
    assert_blocks_close(complete(evidence, problem.belief, everything), large, 1e-10)


@brief
@given(seed=st.integers(0, 10**6))
def test_what_an_unseen_feature_is_believed_to_be_follows_a_full_prior(seed: int) -> None:
    # Column 3 is never seen; under the correlations of the prior the rows still teach something about it.
    problem = draw(seed, 12, 4, Outcome.NORMAL)
    x = problem.x.copy()
    x[:, 3] = 0.0
    whole = fit(replace(problem, x=x))
    seen = np.arange(3, dtype=np.int32)
    layout = (whole_layout(1, 4), np.arange(4, dtype=np.int32))
    evidence = extract_evidence(
        stack([whole], [layout[1]]), problem.belief, (np.array([0, 3], np.int64), seen)
    )
    assert_same(complete(evidence, problem.belief, layout).belief(0), whole, 1e-10)


def learn_stream(problem: Problem, time_ms: Ints, cuts: list[int], forgetting: Forgetting) -> Gaussian:
    """Evidence carried from mini-batch to mini-batch, each cut at an index of the rows."""
    layout = (whole_layout(1, problem.d), np.arange(problem.d, dtype=np.int32))
    evidence, since = no_evidence(1, full=True), np.array([0])
    for begin, end in zip([0, *cuts], [*cuts, problem.n], strict=True):
        if begin == end:
            continue
        now = time_ms[end - 1 : end]
        belief = complete(evidence, problem.belief, layout, keep=forgetting.keep_of_belief(since, now))
        aged = forgetting.keep_of_rows(time_ms[begin:end], np.repeat(now, end - begin))
        part = problem.rows(slice(begin, end)).after(belief.belief(0))
        belief = stack([fit(replace(part, weight=part.weight * aged))], [layout[1]])
        evidence, since = extract_evidence(belief, problem.belief, layout), now
    return complete(evidence, problem.belief, layout).belief(0)


@brief
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 25),
    d=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 25), max_size=6),
    time_constant_ms=st.floats(50.0, 1e7),
)
def test_how_a_stream_is_cut_into_mini_batches_makes_no_difference_when_forgetting_by_time(
    seed: int, n: int, d: int, cuts: list[int], time_constant_ms: float
) -> None:
    problem = replace(draw(seed, n, d, Outcome.NORMAL), weight=np.ones(n), offset=np.zeros(n))
    time_ms = np.cumsum(np.random.default_rng(seed).integers(0, 100, n))
    forgetting = Forgetting(time_constant_ms=time_constant_ms)
    slow = reference.update_one_by_one(
        problem.belief, problem.belief, problem.x, problem.y, time_ms, 0, time_constant_ms, Outcome.NORMAL
    )
    cut = learn_stream(problem, time_ms, sorted(min(c, n) for c in cuts), forgetting)
    assert_same(cut, slow, 1e-9)


def test_forgetting_per_mini_batch_depends_on_how_the_stream_is_cut() -> None:
    problem = draw(1, 20, 3, Outcome.NORMAL)
    time_ms, rule = np.arange(20), Forgetting(keep_per_batch=0.9)
    once, often = (learn_stream(problem, time_ms, cuts, rule) for cuts in ([], [5, 10, 15]))
    assert np.abs(once.mean - often.mean).max() > 1e-3


@given(st.floats(1.0, 1e9), st.integers(0, 10**12), st.integers(0, 10**9), st.integers(0, 10**9))
def test_time_forgets_in_steps_as_at_once(constant: float, start: int, first: int, second: int) -> None:
    rule = Forgetting(time_constant_ms=constant)
    a, b, c = (np.array([t]) for t in (start, start + first, start + first + second))
    np.testing.assert_allclose(
        rule.keep_of_belief(a, b) * rule.keep_of_rows(b, c), rule.keep_of_belief(a, c), rtol=1e-9
    )
    assert rule.keep_of_belief(c, a)[0] == 1.0  # a clock that goes back forgets nothing and invents nothing


def test_a_forgetting_rule_that_cannot_be_is_refused() -> None:
    for wrong in (
        {"time_constant_ms": 0.0},
        {"time_constant_ms": np.nan},
        {"keep_per_batch": -0.1},
        {"keep_per_batch": 1.1},
        {"keep_per_batch": np.nan},
        {"time_constant_ms": 1.0, "keep_per_batch": 0.5},
    ):
        with pytest.raises(ConfigError, match="forgetting"):
            Forgetting(**wrong)


@brief
@given(seed=st.integers(0, 10**6), full=st.booleans(), picks=st.lists(st.integers(-1, 11), max_size=20))
def test_selected_evidence_is_that_of_the_entities_listed(seed: int, full: bool, picks: list[int]) -> None:
    beliefs, prior = learned(seed, Outcome.NORMAL, full=full)
    evidence = extract_evidence(beliefs, prior, (beliefs.start, beliefs.column))
    chosen = select_evidence(evidence, np.array(picks, np.int64))
    assert chosen.entities == len(picks)
    for at, e in enumerate(picks):
        if e == -1:
            assert len(chosen.columns_of(at)) == 0
            continue
        np.testing.assert_array_equal(chosen.columns_of(at), evidence.columns_of(e))
        np.testing.assert_array_equal(chosen.belief(at).mean, evidence.belief(e).mean)
        np.testing.assert_array_equal(chosen.belief(at).precision, evidence.belief(e).precision)


def test_a_layout_holds_the_columns_of_rows_and_evidence() -> None:
    rows = group_rows(sparse(np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])), np.array([0, 1]), 2)
    start, column = active_layout(rows)
    assert (start.tolist(), column.tolist() if column is not None else None) == ([0, 1, 2], [1, 3])
    evidence = stack(
        [Gaussian(np.zeros(2), np.ones(2)), Gaussian(np.zeros(0), np.zeros(0))],
        [np.array([0, 1], np.int32), np.zeros(0, np.int32)],
    )
    diagonal = Gaussian(np.zeros(4), np.ones(4))
    start, column = layout_for(rows, evidence, diagonal)
    assert (start.tolist(), column.tolist() if column is not None else None) == ([0, 2, 3], [0, 1, 3])
    start, column = layout_for(rows, no_evidence(2, full=False), diagonal)
    assert start.tolist() == [0, 1, 2]
    start, column = layout_for(rows, evidence, Gaussian(np.zeros(4), np.eye(4)))
    assert start.tolist() == [0, 4, 8]


@pytest.mark.parametrize("full", [True, False], ids=["full", "diagonal"])
def test_evidence_that_does_not_fit_the_prior_is_refused(full: bool) -> None:
    strong = Gaussian(np.zeros(3), np.full(3, 5.0))
    beliefs = stack([Gaussian(np.ones(3), np.eye(3) if full else np.ones(3))], [np.arange(3, dtype=np.int32)])
    layout = (whole_layout(1, 3), np.arange(3, dtype=np.int32))
    evidence = extract_evidence(beliefs, strong, layout)  # less certain than its prior: minus 4
    with pytest.raises(ModelError, match="entity 0"):
        complete(evidence, Gaussian(np.zeros(3), np.ones(3)), layout)
    with pytest.raises(ModelError, match="entity 0"):
        complete(evidence, strong, (np.array([0, 2], np.int64), np.array([0, 2], np.int32)))
