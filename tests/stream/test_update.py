"""Learning a stream: order and batches do not matter, other effects are integrated out, evidence ages."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from nearline.arrays import Floats, Ints
from nearline.posterior.blocks import Blocks, FeatureRows, active_layout, group_rows
from nearline.posterior.evidence import complete, extract_evidence, layout_for, select_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.update import Labels, Status, update_many
from nearline.stream.given_others import Observed, given_others
from nearline.stream.update import NEVER, Known, Learned, Rule, learn, scaled_rows, score

brief = settings(max_examples=25)
seeds = st.integers(0, 10**6)
DAY = 86_400_000


class Stream:
    """Sparse rows of a few entities with what was served beside them, drawn at random."""

    def __init__(
        self, seed: int, outcome: Outcome, *, n: int = 40, d: int = 6, full_prior: bool = True
    ) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.6)
        self.x[:, 0] = 1.0
        self.entity = rng.integers(0, 4, n)
        self.time_ms = np.sort(rng.integers(0, 30 * DAY, n))
        eta = rng.normal(size=n)
        y = {
            Outcome.BERNOULLI: (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
            Outcome.NORMAL: eta,
            Outcome.POISSON: rng.poisson(np.exp(eta)).astype(float),
        }[outcome]
        self.observed = Observed(
            y,
            rng.uniform(0.5, 2.0, n),
            rng.normal(size=n),
            rng.exponential(1.0, n),
            self.time_ms,
            rng.normal(size=n),
        )
        factor = rng.normal(size=(d, d)) / np.sqrt(d)
        precision = factor @ factor.T + np.eye(d) if full_prior else rng.uniform(0.5, 3.0, d)
        forgetting = Forgetting(time_constant_ms=10.0 * DAY)
        self.rule = Rule(Gaussian(0.3 * rng.normal(size=d), precision), outcome, 0.7, forgetting)

    @property
    def n(self) -> int:
        return len(self.entity)

    def rows(self, at: NDArray[Any]) -> FeatureRows:
        return group_rows(csr_array(self.x[at]), self.entity[at], 4)

    def learn(self, known: Known, at: NDArray[Any], rule: Rule | None = None) -> Learned:
        return learn(known, self.rows(at), take(self.observed, at), rule or self.rule)

    def beliefs(self, known: Known, at_ms: int) -> list[Gaussian]:
        d = self.x.shape[1]
        every = np.tile(np.arange(d, dtype=np.int32), 4)
        keep = self.rule.forgetting.keep_of_belief(known.as_of_ms, np.full(4, at_ms))
        blocks = complete(known.evidence, self.rule.prior, (np.arange(5) * d, every), keep=keep)
        return [blocks.belief(e) for e in range(4)]


def take(observed: Observed, at: NDArray[Any]) -> Observed:
    own = None if observed.own is None else observed.own[at]
    return Observed(
        observed.y[at],
        observed.weight[at],
        observed.offset[at],
        observed.variance[at],
        observed.time_ms[at],
        own,
    )


def nothing(*, full: bool = True) -> Known:
    return Known.nothing(4, full=full)


def assert_beliefs_close(a: list[Gaussian], b: list[Gaussian], tolerance: float) -> None:
    for one, other in zip(a, b, strict=True):
        size = np.abs(other.precision).max()
        np.testing.assert_allclose(one.precision / size, other.precision / size, atol=tolerance)
        np.testing.assert_allclose(one.mean, other.mean, atol=tolerance, rtol=tolerance)


@brief
@given(seed=seeds, cuts=st.lists(st.integers(1, 39), max_size=8, unique=True), full_prior=st.booleans())
def test_any_order_and_any_mini_batches_give_the_same_beliefs_for_normal_outcomes(
    seed: int, cuts: list[int], full_prior: bool
) -> None:
    stream = Stream(seed, Outcome.NORMAL, full_prior=full_prior)
    at_once = stream.learn(nothing(), np.arange(stream.n)).known
    order = np.random.default_rng(seed).permutation(stream.n)
    known = nothing()
    for part in np.split(order, sorted(cuts)):
        known = stream.learn(known, part).known
    np.testing.assert_array_equal(known.as_of_ms, at_once.as_of_ms)
    end = 40 * DAY
    assert_beliefs_close(stream.beliefs(known, end), stream.beliefs(at_once, end), 1e-9)


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome), full=st.booleans())
def test_a_weight_of_two_is_the_row_twice(seed: int, outcome: Outcome, full: bool) -> None:
    stream = Stream(seed, outcome, full_prior=False)
    doubled = replace(stream.observed, weight=2.0 * stream.observed.weight)
    heavy = learn(nothing(full=full), stream.rows(np.arange(stream.n)), doubled, stream.rule).known
    twice = stream.learn(nothing(full=full), np.tile(np.arange(stream.n), 2)).known
    assert_beliefs_close(stream.beliefs(heavy, 30 * DAY), stream.beliefs(twice, 30 * DAY), 1e-9)


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome))
def test_entities_without_rows_come_back_bit_for_bit(seed: int, outcome: Outcome) -> None:
    stream = Stream(seed, outcome)
    known = stream.learn(nothing(), np.arange(stream.n)).known
    again = stream.learn(known, np.zeros(0, dtype=np.int64))
    np.testing.assert_array_equal(again.known.evidence.mean, known.evidence.mean)
    np.testing.assert_array_equal(again.known.evidence.precision, known.evidence.precision)
    np.testing.assert_array_equal(again.known.as_of_ms, known.as_of_ms)
    assert again.report.count(Status.NO_ROWS) == 4
    only = np.flatnonzero(stream.entity == 2)
    after = stream.learn(known, only).known
    for e in (0, 1, 3):
        one, other = (select_evidence(k.evidence, np.array([e])) for k in (after, known))
        np.testing.assert_array_equal(one.mean, other.mean)
        np.testing.assert_array_equal(one.precision, other.precision)


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome), full_prior=st.booleans())
def test_forgetting_everything_gives_the_prior(seed: int, outcome: Outcome, full_prior: bool) -> None:
    stream = Stream(seed, outcome, full_prior=full_prior)
    known = stream.learn(nothing(), np.arange(stream.n)).known
    prior = stream.rule.prior
    dense = Gaussian(prior.mean, np.diag(prior.precision) if prior.is_diagonal else prior.precision)
    assert_beliefs_close(stream.beliefs(known, 10_000 * DAY), [dense] * 4, 1e-9)
    rows = stream.rows(np.arange(stream.n))
    mean, variance = score(known, rows, stream.rule, 10_000 * DAY)
    np.testing.assert_allclose(mean, stream.x @ prior.mean, atol=1e-9)
    np.testing.assert_allclose(variance, np.sum(stream.x @ dense.covariance * stream.x, axis=1), rtol=1e-9)


@brief
@given(seed=seeds)
def test_one_row_of_two_effects_is_the_block_diagonal_part_of_the_exact_joint_update(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise, y, offset = 0.8, rng.normal(), rng.normal()
    x = [rng.normal(size=3), rng.normal(size=5)]
    prior = []
    for part in x:
        factor = rng.normal(size=(len(part), len(part)))
        prior.append(Gaussian(rng.normal(size=len(part)), factor @ factor.T + 0.5 * np.eye(len(part))))
    joint_x, joint_mean = np.concatenate(x), np.concatenate([p.mean for p in prior])
    covariance = np.zeros((8, 8))
    covariance[:3, :3], covariance[3:, 3:] = prior[0].covariance, prior[1].covariance
    gain = covariance @ joint_x / (noise + joint_x @ covariance @ joint_x)
    mean = joint_mean + gain * (y - offset - joint_x @ joint_mean)
    covariance = covariance - np.outer(gain, joint_x @ covariance)
    for own, here in ((0, slice(0, 3)), (1, slice(3, 8))):
        other = 1 - own
        served = float(x[other] @ prior[other].mean), float(x[other] @ prior[other].covariance @ x[other])
        observed = Observed(
            np.array([y]),
            np.ones(1),
            np.array([offset + served[0]]),
            np.array([served[1]]),
            np.zeros(1, np.int64),
        )
        rule = Rule(prior[own], Outcome.NORMAL, noise)
        known = learn(Known.nothing(1, full=True), group_rows(x[own][None, :]), observed, rule).known
        layout = (np.array([0, len(x[own])]), np.arange(len(x[own]), dtype=np.int32))
        belief = complete(known.evidence, prior[own], layout).belief(0)
        np.testing.assert_allclose(belief.mean, mean[here], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(belief.covariance, covariance[here, here], rtol=1e-8, atol=1e-9)


@brief
@given(seed=seeds, outcome=st.sampled_from(Outcome), full=st.booleans(), full_prior=st.booleans())
def test_learning_is_completing_updating_and_extracting(
    seed: int, outcome: Outcome, full: bool, full_prior: bool
) -> None:
    full |= full_prior
    stream = Stream(seed, outcome, full_prior=full_prior)
    plain = replace(stream.rule, forgetting=Forgetting(keep_per_batch=0.8))
    known = nothing(full=full)
    for part in np.array_split(np.arange(stream.n), 3):
        rows, observed = stream.rows(part), take(stream.observed, part)
        layout = layout_for(rows, known.evidence, plain.prior)
        before = complete(known.evidence, plain.prior, layout, keep=np.full(4, 0.8))
        terms = given_others(observed, outcome, plain.noise_variance)
        scaled = rows if terms.scale is None else scaled_rows(rows, terms.scale)
        update = update_many(
            scaled, Labels(observed.y, terms.weight, terms.offset), before, outcome, full=full
        )
        expected = extract_evidence(update.beliefs, plain.prior, active_layout(rows, known.evidence))
        done = learn(known, rows, observed, plain)
        busy = np.repeat(rows.rows_per_entity > 0, np.diff(expected.start))
        np.testing.assert_array_equal(done.known.evidence.column, expected.column)
        scale = max(1.0, float(np.abs(expected.precision).max()))
        np.testing.assert_allclose(
            done.known.evidence.mean[busy], expected.mean[busy], atol=1e-8 * scale, rtol=1e-8
        )
        for e in np.flatnonzero(rows.rows_per_entity > 0):
            one, other = (k.belief(int(e)).precision for k in (done.known.evidence, expected))
            np.testing.assert_allclose(one, other, atol=1e-8 * scale)
        np.testing.assert_array_equal(done.report.status, update.report.status)
        known = done.known


@brief
@given(
    seed=seeds,
    outcome=st.sampled_from(Outcome),
    form=st.sampled_from([(True, True), (True, False), (False, False)]),
    forgetting=st.sampled_from(
        [Forgetting(), Forgetting(time_constant_ms=3.0 * DAY), Forgetting(keep_per_batch=0.5)]
    ),
    size=st.integers(1, 5),
)
def test_mini_batches_in_one_call_are_as_many_calls_bit_for_bit(
    seed: int, outcome: Outcome, form: tuple[bool, bool], forgetting: Forgetting, size: int
) -> None:
    stream = Stream(seed, outcome, full_prior=form[1])
    stream.observed.y[3] = np.nan  # a mini-batch of it alone has nothing to learn
    rule = replace(stream.rule, forgetting=forgetting)
    batches = [
        np.flatnonzero(stream.entity == e)[begin : begin + size]
        for e in range(4)
        for begin in range(0, int(np.count_nonzero(stream.entity == e)), size)
    ]
    of_entity = np.array([stream.entity[batch[0]] for batch in batches])
    start = np.concatenate([[0], np.cumsum([len(batch) for batch in batches])])
    batch_start = np.searchsorted(of_entity, np.arange(5))
    order = np.concatenate(batches)
    rows = replace(group_rows(csr_array(stream.x)), row_start=start, row=order)
    at_once = learn(nothing(full=form[0]), rows, stream.observed, rule, batch_start=batch_start, threads=2)
    known = nothing(full=form[0])
    status = []
    for batch, entity in zip(batches, of_entity, strict=True):
        done = stream.learn(known, batch, rule)
        known = done.known
        status.append(done.report.status[entity])
    np.testing.assert_array_equal(at_once.report.status, status)
    np.testing.assert_array_equal(at_once.known.as_of_ms, known.as_of_ms)
    np.testing.assert_array_equal(at_once.known.evidence.column, known.evidence.column)
    np.testing.assert_array_equal(at_once.known.evidence.mean, known.evidence.mean)
    np.testing.assert_array_equal(at_once.known.evidence.precision, known.evidence.precision)


def test_a_row_that_cannot_be_learned_spoils_neither_its_batch_nor_its_entity() -> None:
    stream = Stream(3, Outcome.BERNOULLI)
    good = np.arange(stream.n) != 7
    for name, value in (("y", np.nan), ("offset", np.inf), ("variance", np.nan), ("weight", -1.0)):
        array = getattr(stream.observed, name).copy()
        array[7] = value
        observed = replace(stream.observed, **{name: array})
        spoiled = learn(nothing(), stream.rows(np.arange(stream.n)), observed, stream.rule)
        np.testing.assert_array_equal(np.flatnonzero(spoiled.set_aside), [7])
        clean = stream.learn(nothing(), np.flatnonzero(good)).known
        assert_beliefs_close(stream.beliefs(spoiled.known, 30 * DAY), stream.beliefs(clean, 30 * DAY), 1e-9)


def test_more_uncertainty_of_the_others_teaches_less() -> None:
    for outcome in Outcome:
        stream = Stream(5, outcome, n=30)
        spreads = []
        for variance in (0.0, 1.0, 10.0):
            observed = replace(stream.observed, variance=np.full(stream.n, variance))
            known = learn(nothing(), stream.rows(np.arange(stream.n)), observed, stream.rule).known
            spreads.append(score(known, stream.rows(np.arange(stream.n)), stream.rule, 30 * DAY)[1])
        if outcome is Outcome.POISSON:  # the rate grows with the variance, but not for long
            spreads = spreads[1:]
        assert np.all(np.diff(np.sum(spreads, axis=1)) > 0.0), outcome


def test_keep_per_batch_discounts_once_a_mini_batch() -> None:
    stream = Stream(11, Outcome.NORMAL)
    rule = replace(stream.rule, forgetting=Forgetting(keep_per_batch=0.5))
    first, second = np.arange(20), np.arange(20, 40)
    known = stream.learn(stream.learn(nothing(), first, rule).known, second, rule).known
    weight = stream.observed.weight * np.where(np.arange(40) < 20, 0.5, 1.0)
    plain = replace(stream.rule, forgetting=Forgetting())
    halved = learn(
        nothing(), stream.rows(np.arange(40)), replace(stream.observed, weight=weight), plain
    ).known
    np.testing.assert_allclose(known.evidence.mean, halved.evidence.mean, atol=1e-9)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing_bit_for_bit(threads: int) -> None:
    stream = Stream(1, Outcome.BERNOULLI)
    rows = stream.rows(np.arange(stream.n))
    one, many = (learn(nothing(), rows, stream.observed, stream.rule, threads=t).known for t in (1, threads))
    np.testing.assert_array_equal(one.evidence.precision, many.evidence.precision)
    np.testing.assert_array_equal(one.evidence.mean, many.evidence.mean)


def test_an_entity_that_has_learned_nothing_is_as_of_never() -> None:
    known: Ints = nothing().as_of_ms
    assert np.all(known == NEVER)
    kept: Floats = Forgetting(time_constant_ms=1.0).keep_of_belief(known, np.full(4, 1 << 42))
    assert np.all(kept == 0.0)
    assert isinstance(nothing().evidence, Blocks)


MINI_BATCH_BOUND = 0.06
"""How far apart, in posterior standard deviations, mini-batches of 1, 8 and 64 may leave a Bernoulli score."""


@brief
@given(seed=seeds)
def test_bernoulli_mini_batches_of_1_8_and_64_differ_by_little(seed: int) -> None:
    stream = Stream(seed, Outcome.BERNOULLI, n=128)
    stream.x *= 0.5
    scores = []
    for size in (1, 8, 64):
        known = nothing()
        for part in np.split(np.arange(stream.n), range(size, stream.n, size)):
            known = stream.learn(known, part).known
        scores.append(score(known, stream.rows(np.arange(stream.n)), stream.rule, 30 * DAY))
    std = np.sqrt(scores[2][1])
    for mean, variance in scores[:2]:
        assert np.median(np.abs(mean - scores[2][0]) / std) < 3 * MINI_BATCH_BOUND
        np.testing.assert_allclose(np.median(np.sqrt(variance) / std), 1.0, atol=MINI_BATCH_BOUND)
