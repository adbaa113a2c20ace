"""Taking rows back: exact for Normal outcomes, near for the others, and never at the price of a belief."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_update import DAY, Stream, assert_beliefs_close, brief, nothing, seeds, take

from nearline.posterior.outcomes import Outcome
from nearline.posterior.update import Status
from nearline.stream.take_back import take_back
from nearline.stream.update import learn

SOME = np.arange(5)


@brief
@given(seed=seeds, full=st.booleans(), full_prior=st.booleans())
def test_taking_back_normal_rows_undoes_learning_them(seed: int, full: bool, full_prior: bool) -> None:
    full |= full_prior
    stream = Stream(seed, Outcome.NORMAL, full_prior=full_prior)
    rest = np.arange(5, stream.n)
    both = stream.learn(nothing(full=full), np.arange(stream.n)).known
    undone = take_back(both, stream.rows(SOME), take(stream.observed, SOME), stream.rule)
    assert not undone.set_aside.any()
    without = stream.learn(nothing(full=full), rest).known
    if full:
        assert_beliefs_close(stream.beliefs(undone.known, 40 * DAY), stream.beliefs(without, 40 * DAY), 1e-8)


@brief
@given(seed=seeds, outcome=st.sampled_from([Outcome.BERNOULLI, Outcome.POISSON]))
def test_a_label_that_is_corrected_leaves_nearly_what_the_right_label_would_have(
    seed: int, outcome: Outcome
) -> None:
    stream = Stream(seed, outcome)
    right = stream.observed
    wrong = replace(right, y=right.y.copy())
    wrong.y[SOME] = 1.0 - np.minimum(right.y[SOME], 1.0)
    rows = stream.rows(np.arange(stream.n))
    known = learn(nothing(), rows, wrong, stream.rule).known
    undone = take_back(known, stream.rows(SOME), take(wrong, SOME), stream.rule)
    assert not undone.set_aside.any()
    corrected = stream.learn(undone.known, SOME).known
    never_wrong = stream.learn(nothing(), np.arange(stream.n)).known
    at = 30 * DAY
    pairs = [stream.beliefs(k, at) for k in (known, corrected, never_wrong)]
    errors = [
        sum(float(np.linalg.norm(a.mean - b.mean)) for a, b in zip(p, pairs[2], strict=True)) for p in pairs
    ]
    assert errors[1] < 0.35 * errors[0] + 1e-9


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome), full_prior=st.booleans())
def test_what_was_never_learned_is_refused_and_the_belief_stays(
    seed: int, outcome: Outcome, full_prior: bool
) -> None:
    stream = Stream(seed, outcome, full_prior=full_prior)
    known = stream.learn(nothing(), np.arange(stream.n)).known
    heavy = replace(stream.observed, weight=1e6 * stream.observed.weight)
    refused = take_back(known, stream.rows(SOME), take(heavy, SOME), stream.rule)
    assert refused.set_aside.all()
    touched = np.unique(stream.entity[SOME])
    assert set(refused.report.status[touched]) == {Status.NOT_POSITIVE_DEFINITE}
    np.testing.assert_array_equal(refused.known.evidence.mean, known.evidence.mean)
    np.testing.assert_array_equal(refused.known.evidence.precision, known.evidence.precision)


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome), times=st.integers(1, 30))
def test_whatever_is_taken_back_beliefs_stay_positive_definite(
    seed: int, outcome: Outcome, times: int
) -> None:
    stream = Stream(seed, outcome)
    known = stream.learn(nothing(), np.arange(stream.n)).known
    rng = np.random.default_rng(seed)
    for _ in range(times):
        at = rng.integers(0, stream.n, 3)
        known = take_back(known, stream.rows(at), take(stream.observed, at), stream.rule).known
    for belief in stream.beliefs(known, 30 * DAY):
        assert np.linalg.eigvalsh(belief.precision)[0] > 0.0


def test_a_feature_or_a_label_that_cannot_have_been_learned_is_refused() -> None:
    stream = Stream(2, Outcome.BERNOULLI)
    fresh = take_back(nothing(), stream.rows(SOME), take(stream.observed, SOME), stream.rule)
    assert set(fresh.report.status[np.unique(stream.entity[SOME])]) == {Status.FEATURE_OUTSIDE_BLOCK}
    known = stream.learn(nothing(), np.arange(stream.n)).known
    odd = replace(stream.observed, y=np.full(stream.n, 2.0))
    refused = take_back(known, stream.rows(SOME), take(odd, SOME), stream.rule)
    assert set(refused.report.status[np.unique(stream.entity[SOME])]) == {Status.NOT_FINITE}
