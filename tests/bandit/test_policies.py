"""What every policy promises, and what each does."""

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from bandit.requests import alone, belief, request
from nearline.bandit import (
    Candidates,
    EffectTerm,
    EpsilonGreedy,
    Greedy,
    ThompsonSampling,
    UpperConfidenceBound,
    entity_keys,
    request_key,
    top,
)
from nearline.bandit.propensities import counted, of_epsilon_greedy
from nearline.bandit.ranking import top_of_each
from nearline.errors import DataError
from nearline.kernels import _top
from nearline.posterior import group_rows
from nearline.posterior.blocks import stack

POLICIES = [Greedy(), UpperConfidenceBound(1.5), EpsilonGreedy(0.3), ThompsonSampling(50)]
each_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)


@each_policy
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12), positions=st.integers(0, 14))
def test_a_ranking_is_of_distinct_candidates_with_propensities_above_zero(policy, seed, count, positions):
    ranking = policy.rank(request(np.random.default_rng(seed), count), f"r{seed}", positions)
    assert len(ranking.candidates) == min(count, positions)
    assert len(set(ranking.candidates.tolist())) == len(ranking.candidates)
    assert np.all((ranking.propensities > 0.0) & (ranking.propensities <= 1.0))
    assert np.all((ranking.standard_errors >= 0.0) & (ranking.standard_errors < 0.5))


@each_policy
def test_a_retry_has_the_same_ranking_and_another_request_its_own_chance(policy):
    candidates = request(np.random.default_rng(1), 8)
    first, again = (policy.rank(candidates, "r1", 8) for _ in range(2))
    for name in ("candidates", "scores", "propensities", "standard_errors"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    others = {tuple(policy.rank(candidates, f"r{i}", 8).candidates.tolist()) for i in range(40)}
    assert (len(others) > 10) is (policy.name in {"thompson", "epsilon-greedy"})


@each_policy
def test_propensities_are_frequencies(policy):
    candidates, n = request(np.random.default_rng(3), 5), 1500
    shown = [policy.rank(candidates, f"r{i}", 3) for i in range(n)]
    frequency = np.zeros((3, 5))
    for ranking in shown:
        frequency[np.arange(3), ranking.candidates] += 1.0 / n
    said = np.mean([policy.probabilities(candidates, f"r{i}", 3) for i in range(50)], axis=0)
    np.testing.assert_allclose(said.sum(axis=1), 1.0)
    # Six standard errors of a frequency, and of the counts where the policy counts.
    np.testing.assert_array_less(
        np.abs(frequency - said), 6.0 * np.sqrt(0.25 / n) + 6.0 * np.sqrt(0.25 / 2500) + 1e-12
    )


@each_policy
def test_what_a_ranking_says_of_its_propensity_is_what_probabilities_say(policy):
    candidates = request(np.random.default_rng(5), 6)
    ranking = policy.rank(candidates, "r9", 4)
    chance = policy.probabilities(candidates, "r9", 4)[np.arange(4), ranking.candidates]
    tolerance = (
        0.02 if policy.name == "thompson" else 1e-12
    )  # the draw shown counts too: at most 1 / (50 + 1)
    np.testing.assert_allclose(ranking.propensities, chance, atol=tolerance)


def test_greedy_ranks_by_the_mean_and_the_upper_bound_by_mean_and_deviation():
    candidates = alone(np.array([1.0, 0.9, 0.0]), np.array([0.01, 0.25, 4.0]))
    assert Greedy().rank(candidates, "r", 3).candidates.tolist() == [0, 1, 2]
    assert UpperConfidenceBound(1.0).rank(candidates, "r", 3).candidates.tolist() == [2, 1, 0]
    np.testing.assert_allclose(UpperConfidenceBound(1.0).rank(candidates, "r", 3).scores, [2.0, 1.4, 1.1])
    assert UpperConfidenceBound(0.0).rank(candidates, "r", 3).candidates.tolist() == [0, 1, 2]


def test_equal_scores_keep_their_order_and_a_candidate_without_a_score_goes_last():
    assert top(np.array([1.0, 2.0, 1.0, 2.0]), 4).tolist() == [1, 3, 0, 2]
    assert top(np.array([np.nan, 0.0, -np.inf, np.inf]), 4).tolist() == [3, 1, 0, 2]
    assert top(np.array([1.0]), 3).tolist() == [0]
    rng = np.random.default_rng(4)
    for _ in range(50):  # of many ties, any number of the highest begins the whole order
        scores = np.where(rng.random(30) < 0.2, np.nan, rng.integers(4, size=30).astype(float))
        order = np.argsort(-scores, kind="stable")
        assert all(top(scores, k).tolist() == order[:k].tolist() for k in range(31))


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 4),
    count=st.integers(0, 120),
    k=st.integers(-1, 130),
    values=st.sampled_from([2, 5, 10**6]),
)
def test_the_first_k_of_each_row_begin_its_whole_order(seed, rows, count, k, values):
    rng = np.random.default_rng(seed)
    scores = rng.integers(values, size=(count, rows)).astype(float).T  # not contiguous
    scores[rng.random(scores.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=1, kind="stable")
    np.testing.assert_array_equal(top_of_each(scores, k), order[:, : max(k, 0)])


def test_the_kernel_refuses_more_places_than_scores():
    for places in (np.zeros((2, 4), np.int64), np.zeros((1, 2), np.int64)):
        with pytest.raises(ValueError, match="a row for each"):
            _top.top(np.zeros((2, 3)), places)


def ranking_probabilities(count, positions, epsilon):
    """Every ranking of the ranks 0, 1, ... by enumeration, with its probability."""
    found = np.zeros((positions, count))
    for ranking in permutations(range(count), positions):
        chance, left = 1.0, list(range(count))
        for rank in ranking:
            chance *= epsilon / len(left) + (1.0 - epsilon) * (rank == left[0])
            left.remove(rank)
        found[np.arange(positions), list(ranking)] += chance
    return found


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize(("count", "positions"), [(1, 1), (2, 1), (2, 2), (5, 3), (6, 6)])
def test_propensities_of_epsilon_greedy_are_those_of_all_its_rankings(epsilon, count, positions):
    said = np.array([of_epsilon_greedy(rank, positions, count, epsilon) for rank in range(count)]).T
    np.testing.assert_allclose(said, ranking_probabilities(count, positions, epsilon), atol=1e-15)


def test_of_two_candidates_the_propensity_of_a_draw_is_exact():
    rng = np.random.default_rng(8)
    x = rng.normal(size=4)
    user = EffectTerm(
        "u", group_rows(np.stack([x, 0.9 * x])), stack([belief(rng, 4)]), entity_keys("u", ["u1"])
    )
    candidates = Candidates(np.array([0.0, 0.2]), (user,))
    policy = ThompsonSampling(1)
    ranking = policy.rank(candidates, "r", 2)
    assert np.all(ranking.standard_errors == 0.0)
    draws = candidates.draws(request_key("other"), 4000)
    first = np.mean(draws[:, 0] >= draws[:, 1])
    said = policy.probabilities(candidates, "r", 2)
    np.testing.assert_allclose(said.sum(axis=0), 1.0)
    np.testing.assert_allclose(said[0, 0], first, atol=5.0 * np.sqrt(0.25 / 4000))
    # As if they were independent, though the user's draw is shared: this would be caught.
    mean, variance = candidates.mean_and_variance()
    assert abs(ndtr((mean[0] - mean[1]) / np.sqrt(variance.sum())) - first) > 0.05


def test_a_counted_propensity_is_never_zero_and_its_inverse_is_unbiased():
    # 1 / propensity, over what is shown, has the expectation (1 - (1 - p)^(n + 1)) / p for probability p.
    rng = np.random.default_rng(2)
    p, n, trials = 0.3, 5, 10_000
    sums = np.zeros(2)
    for _ in range(trials):
        draws = np.where(rng.random(n + 1) < p, 1.0, -1.0)
        scores = np.stack([draws, np.zeros(n + 1)], axis=1)
        shown = top(scores[0], 1)
        share, error = counted(scores[1:], shown)
        assert share[0] >= 1.0 / (n + 1)
        assert error[0] <= 0.5 / np.sqrt(n + 1)
        sums[shown[0]] += 1.0 / share[0]
    found = sums / trials
    np.testing.assert_allclose(found, 1.0 - (1.0 - np.array([p, 1.0 - p])) ** (n + 1), atol=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EpsilonGreedy(1.5),
        lambda: EpsilonGreedy(float("nan")),
        lambda: UpperConfidenceBound(-1.0),
        lambda: UpperConfidenceBound(float("inf")),
        lambda: ThompsonSampling(0),
        lambda: Candidates(np.zeros((2, 2))),
        lambda: Candidates(np.zeros(3), request(np.random.default_rng(1), 4).effects),
    ],
)
def test_settings_and_shapes_that_make_no_sense_are_refused(make):
    with pytest.raises(DataError, match=r"expected .* got "):
        make()


def test_keys_are_those_of_other_processes():
    assert request_key("r1") == 18122006024391093537
    assert entity_keys("per-user", ["u1", "用户"]).tolist() == [6702565868814372580, 2875614228243782308]
    program = (
        "from nearline.bandit import *; print(request_key('r1'), entity_keys('per-user', ['u1']).tolist())"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert said.split() == [str(request_key("r1")), str(entity_keys("per-user", ["u1"]).tolist())]
