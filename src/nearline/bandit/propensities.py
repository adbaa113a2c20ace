"""The probability that a policy puts a candidate at a position, in closed form or counted.

All are marginal: over the policy's chance alone, and over what else it may have put at the other positions.
"""

import math

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.bandit.candidates import Candidates
from nearline.bandit.ranking import top_of_each
from nearline.errors import DataError


def of_epsilon_greedy(rank: int, positions: int, candidates: int, epsilon: float) -> Floats:
    """Return the probability of each position 0 to `positions` - 1 for the candidate of that rank, float64[positions].

    `rank` 0 has the highest score of all `candidates`. Positions are filled in turn without replacement, each by the
    best candidate left or, with probability `epsilon`, by any of those left with the same chance. How many better
    candidates are left is then a Markov chain; of n left, g of them better, with probability::

        this one:   epsilon / n + (1 - epsilon) [g = 0]
        a better:   epsilon g / n + (1 - epsilon) [g > 0]
        a worse:    epsilon (n - 1 - g) / n
    """
    better = np.arange(max(rank - positions + 1, 0), rank + 1)  # g, as far as it can fall
    state = (better == rank).astype(np.float64)  # probability of g better left and this one too
    found = np.zeros(min(positions, candidates))
    for i in range(len(found)):
        left = candidates - i
        greedy = np.where(better == 0, 0.0, 1.0 - epsilon)
        found[i] = state @ (epsilon / left + (1.0 - epsilon) * (better == 0))
        down = state * (epsilon * better / left + greedy)
        state = state * epsilon * (left - 1 - better) / left
        state[:-1] += down[1:]
    return found


def counted(draws: Floats, shown: Ints) -> tuple[Floats, Floats]:
    """Return how often each shown candidate was at its position, and the standard errors, float64[k] each.

    `draws` float64[n, C] are draws of the scores other than the one that was shown. With N of them that put the
    candidate there::

        propensity = (N + 1) / (n + 1),    standard error = sqrt(propensity (1 - propensity) / (n + 1))

    The draw that was shown counts too, so a propensity is never 0. That is also what makes its inverse right: over
    what is shown, 1 / propensity of a candidate of probability p has the expectation (1 - (1 - p)^(n + 1)) / p, so that
    an inverse-propensity estimate misses only the share (1 - p)^(n + 1), which no count could have seen.
    """
    share = ((top_of_each(draws, len(shown)) == shown).sum(axis=0) + 1.0) / (len(draws) + 1.0)
    return share, np.sqrt(share * (1.0 - share) / (len(draws) + 1.0))


def of_two(candidates: Candidates) -> Floats:
    """Return the probability that a draw scores each of two candidates above the other, float64[2].

    The difference of the scores is Gaussian: Phi(mean / std) of the first. Of equal scores the first goes first.
    """
    if len(candidates) != 2:
        raise DataError(f"expected two candidates, got {len(candidates)}")
    mean, variance = candidates.difference()
    if variance == 0.0:
        return np.array([mean >= 0.0, mean < 0.0], dtype=np.float64)
    by = mean / math.sqrt(2.0 * variance)
    return np.array([math.erfc(-by), math.erfc(by)]) / 2.0
