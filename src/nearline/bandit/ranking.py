"""Scores to what is shown, first to last."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What a policy shows: k of C candidates, first to last.

    Attributes
    ----------
    candidates : int64[k], places among the candidates.
    scores : float64[k], what they were ranked by: means, draws or upper bounds, on the link scale.
    propensities : float64[k], above 0 and at most 1: the probability, over the policy's own chance, that this candidate
        is at this position.
    standard_errors : float64[k], of the propensities where they are counted; 0 where they are exact.
    """

    candidates: Ints
    scores: Floats
    propensities: Floats
    standard_errors: Floats


def top(scores: Floats, k: int) -> Ints:
    """Return the places of the k highest scores, highest first, int64[min(k, C)].

    The order is total: of equal scores the earlier place goes first, and a candidate without a score (NaN) counts as
    one of minus infinity.
    """
    low = np.where(np.isnan(scores), np.inf, -scores)
    if k >= len(scores):
        return np.argsort(low, kind="stable")
    if k <= 0:
        return np.zeros(0, dtype=np.int64)
    enough = np.flatnonzero(low <= np.partition(low, k - 1)[k - 1])  # k of them, and ties of the last
    return enough[np.argsort(low[enough], kind="stable")[:k]]


def ranks(scores: Floats, candidates: Ints) -> Ints:
    """Return where each candidate listed is in the order of `top`, 0 the first, int64[n, k].

    For each row of `scores` float64[n, C].
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    found = np.empty((len(scores), len(candidates)), dtype=np.int64)
    for i, c in enumerate(candidates):
        own = scores[:, c, None]
        found[:, i] = np.count_nonzero(scores > own, axis=1) + np.count_nonzero(scores[:, :c] == own, axis=1)
    return found
