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
    low = -scores
    first: Ints = low.argsort(kind="stable")[: max(k, 0)]
    if len(first) == 0 or low[first[-1]] < np.inf:
        return first
    return np.where(np.isnan(low), np.inf, low).argsort(kind="stable")[: len(first)]  # NaN is sorted last


def top_of_each(scores: Floats, k: int) -> Ints:
    """Return the same for each row of `scores` float64[n, C], int64[n, min(k, C)]."""
    low = np.where(np.isnan(scores), np.inf, -scores)
    k = max(k, 0)
    if k == 0 or k >= low.shape[1]:
        return np.argsort(low, axis=1, kind="stable")[:, :k]
    some = np.sort(np.argpartition(low, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(low, some, axis=1)
    found: Ints = np.take_along_axis(some, np.argsort(values, axis=1, kind="stable"), axis=1)
    # Where more than k are as high as the last of them, the partition took any of those that are equal.
    tied = np.flatnonzero(np.count_nonzero(low <= values.max(axis=1, keepdims=True), axis=1) > k)
    found[tied] = np.argsort(low[tied], axis=1, kind="stable")[:, :k]
    return found
