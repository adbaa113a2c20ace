"""Estimates of one policy from the logs of another: unbiased, honest intervals, and what they refuse."""

from functools import partial

import numpy as np
import pytest
from benchmarks.open_bandit import read_logs, thompson_probabilities
from hypothesis import given
from hypothesis import strategies as st

from nearline.bandit.off_policy import (
    Confidence,
    doubly_robust,
    inverse_propensity,
    replay_matching,
    self_normalised,
)
from nearline.errors import DataError

CONTEXTS = np.array([[0.1, 0.3, 0.2], [0.4, 0.1, 0.05]])  # context x action: the chance of a reward
TARGET = np.array([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1]])
LOGGING = np.array([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3]])
TRUTH = float(np.mean((TARGET * CONTEXTS).sum(axis=1)))
MODEL = CONTEXTS + np.array([[0.1, -0.05, 0.0], [0.05, 0.1, -0.02]])  # wrong throughout


def logs(rng, n, logging=LOGGING):
    context = rng.integers(2, size=n)
    action = (rng.random(n)[:, None] > np.cumsum(logging[context], axis=1)).sum(axis=1)
    reward = (rng.random(n) < CONTEXTS[context, action]).astype(float)
    return context, action, reward, logging[context, action]


def estimate(name, rng, n, *, propensity=None, **settings):
    context, action, reward, own = logs(rng, n, np.full((2, 3), 1 / 3) if name == "replay" else LOGGING)
    own = own if propensity is None else np.full(n, propensity)
    target = TARGET[context, action]
    match name:
        case "replay":
            return replay_matching(reward, own, rng.random(n) < target, **settings)
        case "ips":
            return inverse_propensity(reward, own, target, **settings)
        case "snips":
            return self_normalised(reward, own, target, **settings)
        case _:
            expected = (TARGET * MODEL).sum(axis=1)[context]
            return doubly_robust(reward, own, target, MODEL[context, action], expected, **settings)


each_estimator = pytest.mark.parametrize("name", ["replay", "ips", "snips", "dr"])


@each_estimator
@pytest.mark.parametrize("interval", ["normal", "bootstrap"])
def test_intervals_cover_the_truth_as_often_as_they_say(name, interval):
    rng = np.random.default_rng(12)
    runs, level = 400, 0.8
    how = Confidence(interval=interval, level=level, resamples=200)
    found = [estimate(name, rng, 500, confidence=how) for _ in range(runs)]
    covered = np.mean([one.low <= TRUTH <= one.high for one in found])
    # 4 standard errors of a share, and 2 points for intervals that are right only in the limit: under 1 in 10,000
    # runs of a right program fail.
    assert abs(covered - level) < 4.0 * np.sqrt(level * (1.0 - level) / runs) + 0.02
    mean, error = np.mean([one.value for one in found]), np.std([one.value for one in found])
    assert abs(mean - TRUTH) < 4.5 * error / np.sqrt(runs) + 1e-3
    assert np.mean([one.standard_error for one in found]) == pytest.approx(error, rel=0.2)


@pytest.mark.parametrize("name", ["ips", "snips"])
def test_wrong_propensities_are_seen_by_the_same_check(name):
    rng = np.random.default_rng(13)
    found = [estimate(name, rng, 500, propensity=1 / 3) for _ in range(200)]
    assert np.mean([one.low <= TRUTH <= one.high for one in found]) < 0.7


def test_doubly_robust_is_right_with_a_wrong_model_or_with_wrong_propensities_and_varies_less_with_a_good_one():
    rng = np.random.default_rng(14)
    context, action, reward, own = logs(rng, 200_000)
    target = TARGET[context, action]
    expected = (TARGET * CONTEXTS).sum(axis=1)[context]
    right = doubly_robust(reward, np.full(len(own), 1 / 3), target, CONTEXTS[context, action], expected)
    assert abs(right.value - TRUTH) < 4.5 * right.standard_error
    good = doubly_robust(reward, own, target, CONTEXTS[context, action], expected)
    assert good.standard_error < inverse_propensity(reward, own, target).standard_error


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 40),
    policy=st.sampled_from([inverse_propensity, self_normalised]),
)
def test_a_policy_judged_by_its_own_logs_has_their_mean(seed, n, policy):
    rng = np.random.default_rng(seed)
    reward, own = rng.normal(size=n), rng.uniform(0.01, 1.0, n)
    found = policy(reward, own, own)
    assert found.value == pytest.approx(reward.mean())
    assert found.standard_error == pytest.approx(reward.std(ddof=1) / np.sqrt(n))
    assert found.effective_rows == pytest.approx(n)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), clip=st.floats(0.1, 5.0))
def test_clipping_takes_off_what_it_says(seed, n, clip):
    rng = np.random.default_rng(seed)
    reward, own, target = rng.random(n), rng.uniform(0.01, 1.0, n), rng.random(n)
    whole, held = (inverse_propensity(reward, own, target, clip=c) for c in (None, clip))
    assert held.value + held.clipping_bias == pytest.approx(whole.value)
    assert held.clipped == np.mean(target / own > clip)
    assert held.largest_weight == pytest.approx(whole.largest_weight)
    assert held.effective_rows >= whole.effective_rows - 1e-9


def test_rows_of_a_group_count_as_one_piece_of_evidence():
    rng = np.random.default_rng(15)
    reward, own, target = rng.random(50), rng.uniform(0.2, 1.0, 50), rng.random(50)
    once = inverse_propensity(reward, own, target)
    thrice = [np.repeat(values, 3) for values in (reward, own, target)]
    grouped = inverse_propensity(*thrice, confidence=Confidence(group=np.repeat(np.arange(50), 3)))
    assert grouped.value == pytest.approx(once.value)
    assert grouped.standard_error == pytest.approx(once.standard_error)
    assert (grouped.rows, grouped.groups) == (150, 50)
    alone = inverse_propensity(*thrice)  # as if a list of three were three requests
    assert alone.standard_error < 0.6 * once.standard_error


def test_an_estimate_is_the_same_again():
    rng = np.random.default_rng(16)
    columns = rng.random(30), rng.uniform(0.2, 1.0, 30), rng.random(30)
    how = Confidence(interval="bootstrap", resamples=100)
    assert inverse_propensity(*columns, confidence=how) == inverse_propensity(*columns, confidence=how)


ONES = np.ones(3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            partial(inverse_propensity, ONES, np.array([0.5, 0.0, 1.0]), ONES),
            "propensity of row 1: .* got 0.0",
        ),
        (partial(self_normalised, ONES, np.array([0.5, 1.0, 1.5]), ONES), "propensity of row 2: .* got 1.5"),
        (
            partial(inverse_propensity, ONES, np.array([0.5, -0.1, 1.0]), ONES),
            "propensity of row 1: .* got -0.1",
        ),
        (
            partial(inverse_propensity, ONES, np.array([0.5, np.nan, 1.0]), ONES),
            "propensity of row 1: .* got nan",
        ),
        (
            partial(inverse_propensity, ONES, ONES, 2.0 * ONES),
            "target of row 0: expected a probability, got 2.0",
        ),
        (
            partial(inverse_propensity, np.array([1.0, np.inf, 0.0]), ONES, ONES),
            "reward of row 1: .* got inf",
        ),
        (
            partial(inverse_propensity, ONES, np.ones(2), ONES),
            "propensity: expected a value for each of 3 rows",
        ),
        (
            partial(inverse_propensity, np.ones(0), np.ones(0), np.ones(0)),
            "reward: expected one value for each of one",
        ),
        (partial(self_normalised, ONES, ONES, np.zeros(3)), "target: expected it to choose what was shown"),
        (
            partial(replay_matching, ONES, ONES, np.zeros(3, bool)),
            "target: expected it to choose what was shown",
        ),
        (
            partial(replay_matching, ONES, np.array([0.5, 0.2, 0.5]), np.ones(3, bool)),
            "use inverse_propensity",
        ),
        (partial(doubly_robust, ONES, ONES, ONES, np.ones(2), ONES), "predicted: expected a value for each"),
        (partial(inverse_propensity, ONES, ONES, ONES, clip=0.0), "clip: expected a number above 0, got 0.0"),
        (partial(Confidence, level=95.0), "level: expected a number between 0 and 1, got 95"),
        (partial(Confidence, interval="exact"), 'interval: expected "normal" or "bootstrap"'),
        (
            lambda: inverse_propensity(ONES, ONES, ONES, confidence=Confidence(group=np.zeros(2, np.int64))),
            "group: expected a value for each of 3 rows",
        ),
    ],
)
def test_logs_that_cannot_be_right_are_refused_with_the_row(call, says):
    with pytest.raises(DataError, match=says):
        call()


BOTH_WAYS = [
    (inverse_propensity, "bootstrap"),
    (self_normalised, "normal"),
    (self_normalised, "bootstrap"),
]


@pytest.mark.data
@pytest.mark.parametrize(("estimator", "interval"), [(inverse_propensity, "normal"), *BOTH_WAYS])
def test_logs_chosen_at_random_tell_the_click_rate_of_thompson_sampling(data_directory, estimator, interval):
    logged, thompson = read_logs(data_directory, "random"), read_logs(data_directory, "bts")
    target = thompson_probabilities(logged, thompson)
    found = estimator(logged.reward, logged.propensity, target, confidence=Confidence(interval=interval))
    assert thompson.reward.mean() == 0.0069
    assert found.low <= 0.0069 <= found.high
    assert found.high - found.low < 0.0069
    assert 1000 < found.effective_rows < 5000


# The normal interval of inverse_propensity ends at 0.00453: weights up to 178 make it skew, which only the bootstrap
# allows for.
@pytest.mark.data
@pytest.mark.parametrize(("estimator", "interval"), BOTH_WAYS)
def test_logs_of_thompson_sampling_tell_the_click_rate_of_choosing_at_random(
    data_directory, estimator, interval
):
    logged, random = read_logs(data_directory, "bts"), read_logs(data_directory, "random")
    target = np.full(len(logged.reward), 1.0 / 34.0)
    found = estimator(logged.reward, logged.propensity, target, confidence=Confidence(interval=interval))
    assert random.reward.mean() == 0.0046
    assert found.low <= 0.0046 <= found.high
    assert found.high < logged.reward.mean()  # and not merely the click rate of the logs
