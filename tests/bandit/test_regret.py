"""What right draws are for: the regret of a logistic problem, and the faults of draws that raise it."""

import numpy as np
import pytest

from nearline.bandit import entity_keys
from nearline.posterior import Gaussian, Outcome, group_rows, update_many
from nearline.posterior.blocks import stack
from nearline.posterior.draws import add_draws
from nearline.posterior.update import Labels

PROBLEMS, ARMS, COLUMNS, ROUNDS = 20, 10, 10, 1000
PROBLEM = np.arange(PROBLEMS)


def thompson(x, beliefs, rng, number):
    """The arm of one draw of each problem's coefficients."""
    scores = np.zeros((1, PROBLEMS * ARMS))
    rows = group_rows(x.reshape(-1, COLUMNS), np.repeat(PROBLEM, ARMS), PROBLEMS)
    add_draws(rows, beliefs, entity_keys("arm", [str(p) for p in PROBLEM]), scores, request=number)
    return scores.reshape(PROBLEMS, ARMS).argmax(axis=1)


def inverted(x, beliefs, rng, number):
    """The same with the precision in place of the covariance, as lambda-learner has it."""
    precisions = np.array([beliefs.belief(p).precision for p in PROBLEM])
    noise = np.einsum("pij,pj->pi", np.linalg.cholesky(precisions), rng.normal(size=(PROBLEMS, COLUMNS)))
    drawn = beliefs.mean.reshape(PROBLEMS, COLUMNS) + noise
    return np.einsum("paj,pj->pa", x, drawn).argmax(axis=1)


def at_random(x, beliefs, rng, number):
    return rng.integers(ARMS, size=PROBLEMS)


def mean_regret(policy, rounds=ROUNDS):
    """Sum over the rounds of the best arm's probability less that of the arm chosen, on average over the problems.

    Each round has ten new arms with features from N(0, I) of 10 columns; the coefficients are from the prior N(0, I).
    """
    rng = np.random.default_rng(2026)
    truth = rng.normal(size=(PROBLEMS, COLUMNS))
    beliefs = stack([Gaussian(np.zeros(COLUMNS), np.eye(COLUMNS))] * PROBLEMS)
    regret = 0.0
    for number in range(rounds):
        x = rng.normal(size=(PROBLEMS, ARMS, COLUMNS))
        chance = 1.0 / (1.0 + np.exp(-np.einsum("paj,pj->pa", x, truth)))
        arm = policy(x, beliefs, rng, number)
        regret += float(np.mean(chance.max(axis=1) - chance[PROBLEM, arm]))
        y = (rng.random(PROBLEMS) < chance[PROBLEM, arm]).astype(float)
        shown = group_rows(x[PROBLEM, arm], PROBLEM, PROBLEMS)
        beliefs = update_many(shown, Labels(y), beliefs, Outcome.BERNOULLI).beliefs
    return regret


def test_thompson_sampling_has_little_regret():
    assert mean_regret(thompson) <= 40.0


@pytest.mark.parametrize("policy", [inverted, at_random])
def test_the_check_sees_draws_that_explore_where_most_is_known(policy):
    assert mean_regret(policy, rounds=200) > 60.0  # of 200 rounds: more than right draws have in 1,000
