"""Candidates and a request's id to a ranking: what to show, and with what probability it was shown.

A policy is a value. Whatever it leaves to chance is seeded by the request's id, so that a retry has the same ranking.
"""

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from nearline.arrays import Floats
from nearline.bandit import propensities
from nearline.bandit.candidates import Candidates
from nearline.bandit.keys import request_key
from nearline.bandit.ranking import Ranking, top, top_of_each
from nearline.errors import DataError


class Policy(Protocol):
    """Chooses what to show.

    Promises: `rank` is a function of its arguments alone; its candidates are distinct; its propensities are those that
    `probabilities` gives them, exactly or within the standard error, and none is 0.
    """

    @property
    def name(self) -> str:
        """What impressions say of which policy chose them."""
        ...

    def rank(self, candidates: Candidates, request: str, positions: int) -> Ranking:
        """Return the candidates to show at so many positions, or all of them if they are fewer."""
        ...

    def probabilities(self, candidates: Candidates, request: str, positions: int) -> Floats:
        """Return the probability of each candidate at each position, float64[positions, C].

        Rows sum to 1 and columns to at most 1. Of a policy that counts, what was never drawn has 0.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class Greedy:
    """The highest mean scores. Explores nothing: every propensity is 1."""

    name: str = "greedy"

    def rank(self, candidates: Candidates, request: str, positions: int) -> Ranking:  # noqa: ARG002 - no chance
        """Return the candidates of the highest means."""
        return _certain(candidates.mean(), positions)

    def probabilities(self, candidates: Candidates, request: str, positions: int) -> Floats:
        """Return 1 for the candidate at each position and 0 for the others."""
        return _certainty(self.rank(candidates, request, positions), len(candidates))


@final
@dataclass(frozen=True, slots=True)
class UpperConfidenceBound:
    """The highest mean + width * standard deviation. Explores without chance: every propensity is 1.

    So its logs can only say how a policy that does the same would have done.
    """

    width: float = 1.0
    name: str = "ucb"

    def __post_init__(self) -> None:
        if not 0.0 <= self.width < np.inf:
            raise DataError(f"width: expected a number from 0, got {self.width}")

    def rank(self, candidates: Candidates, request: str, positions: int) -> Ranking:  # noqa: ARG002 - no chance
        """Return the candidates of the highest bounds."""
        mean, variance = candidates.mean_and_variance()
        return _certain(mean + self.width * np.sqrt(variance), positions)

    def probabilities(self, candidates: Candidates, request: str, positions: int) -> Floats:
        """Return 1 for the candidate at each position and 0 for the others."""
        return _certainty(self.rank(candidates, request, positions), len(candidates))


@final
@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """At each position the highest mean left or, with probability epsilon, any candidate left with the same chance.

    Propensities are exact.
    """

    epsilon: float = 0.1
    name: str = "epsilon-greedy"

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise DataError(f"epsilon: expected a number from 0 to 1, got {self.epsilon}")

    def rank(self, candidates: Candidates, request: str, positions: int) -> Ranking:
        """Return the ranking that the request's chance makes of the means."""
        scores = candidates.mean()
        order = top(scores, len(scores))
        k = min(positions, len(order))
        chance = _uniforms(request_key(request), 2 * k).reshape(k, 2)
        left, places = list(range(len(order))), []
        for explore, which in chance:
            places.append(left.pop(int(which * len(left)) if explore < self.epsilon else 0))
        found = [
            propensities.of_epsilon_greedy(r, i + 1, len(order), self.epsilon)[i]
            for i, r in enumerate(places)
        ]
        shown = order[places]
        return Ranking(shown, scores[shown], np.array(found), np.zeros(k))

    def probabilities(self, candidates: Candidates, request: str, positions: int) -> Floats:  # noqa: ARG002 - as above
        """Return the exact probabilities."""
        order = top(candidates.mean(), len(candidates))
        found = np.empty((min(positions, len(order)), len(order)))
        for rank, place in enumerate(order):
            found[:, place] = propensities.of_epsilon_greedy(rank, positions, len(order), self.epsilon)
        return found


@final
@dataclass(frozen=True, slots=True)
class ThompsonSampling:
    """The highest scores of one draw from the posterior (Thompson 1933; Chapelle and Li, NIPS 2011).

    In a draw each entity has one joint draw of its coefficients, which all candidates share that it scores.

    Attributes
    ----------
    draws : how many further draws propensities are counted in. They are exact for two candidates.
    """

    draws: int = 200
    name: str = "thompson"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise DataError(f"draws: expected at least 1, got {self.draws}")

    def rank(self, candidates: Candidates, request: str, positions: int) -> Ranking:
        """Return the ranking of draw 0 of the request."""
        key = request_key(request)
        scores = candidates.draws(key)[0]
        shown = top(scores, positions)
        if len(candidates) == 2 and len(shown) > 0:
            chance = self.probabilities(candidates, request, len(shown))
            share, error = chance[np.arange(len(shown)), shown], np.zeros(len(shown))
        else:
            share, error = propensities.counted(candidates.draws(key, self.draws, first=1), shown)
        return Ranking(shown, scores[shown], share, error)

    def probabilities(self, candidates: Candidates, request: str, positions: int) -> Floats:
        """Return the share of the further draws that put each candidate at each position; exact for two."""
        k = min(positions, len(candidates))
        if len(candidates) == 2:
            first = propensities.of_two(candidates)
            return np.stack([first, first[::-1]])[:k]
        order = top_of_each(candidates.draws(request_key(request), self.draws, first=1), k)
        return np.array([np.bincount(at, minlength=len(candidates)) for at in order.T]) / self.draws


def _certain(scores: Floats, positions: int) -> Ranking:
    shown = top(scores, positions)
    return Ranking(shown, scores[shown], np.ones(len(shown)), np.zeros(len(shown)))


def _certainty(ranking: Ranking, candidates: int) -> Floats:
    found = np.zeros((len(ranking.candidates), candidates))
    found[np.arange(len(found)), ranking.candidates] = 1.0
    return found


def _uniforms(key: int, count: int) -> Floats:
    """Uniform numbers in [0, 1) of a request, apart from the draws of its entities, float64[count]."""
    words = np.random.Philox(key=np.array([key, 0], dtype=np.uint64), counter=1 << 128).random_raw(count)
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53, dtype=np.float64)
