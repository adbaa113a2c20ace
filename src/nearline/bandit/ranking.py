"""Scores to what is shown, first to last."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.kernels import _top


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
    first: Ints = top_of_each(scores[None, :], k)[0]
    return first


def top_of_each(scores: Floats, k: int) -> Ints:
    """Return the same for each row of `scores` float64[n, C], int64[n, min(k, C)]."""
    found = np.empty((scores.shape[0], min(max(k, 0), scores.shape[1])), dtype=np.int64)
    _top.top(scores, found)
    return found
