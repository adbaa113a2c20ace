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
    """Return the places of the k highest of the last axis, highest first, int64[..., min(k, C)].

    The order is total: of equal scores the earlier place goes first, and NaN, a candidate without a score, goes last.
    """
    k = min(k, scores.shape[-1])
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]
