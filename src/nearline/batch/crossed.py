"""Beliefs that take the other random effects as known -> beliefs that allow for what is not known of them.

The descent fits each effect with the others' modes as its offset. Of the joint precision H of all coefficients that
leaves an effect its own block, H_bb, while the precision of its marginal posterior is the Schur complement::

    H_bb - H_bo H_oo^-1 H_ob.

Beliefs fitted in turn are known to be too sure of themselves, and a correction after the fact is the known remedy
(Giordano, Broderick and Jordan 2018, "Covariances, Robustness, and Variational Bayes"). With two effects H_oo is
block diagonal, one block for each entity, and where two entities meet in one row at most, the diagonal blocks of the
Schur complement are those of H_bb with another weight for each row. Instead of w, its weight times the curvature of
its loss, it counts as ::

    w (1 - w v) = w / (1 + w v_without),    v = x_o' V_o x_o,    v_without = v / (1 - w v),

with V_o the covariance of the other entity's belief, and v_without what v would be had that entity not learned the
row. With more effects their v_without are added. The modes stay: they are those of the joint posterior.

So a belief is the exact one given the other entities of its own effect and the fixed effect. What is not known of
these, and the common cause of several rows in which the same two entities meet, are left out: there beliefs remain too
sure. The corrected precision lies between that of the prior and the uncorrected one.
"""

from collections.abc import Sequence

import numpy as np

from nearline.arrays import Floats
from nearline.batch.coordinates import RandomCoordinate
from nearline.posterior.blocks import Blocks

_LEAST = 1e-12
"""Least share of an entity's variance that one row leaves; it is above 0, but for rounding."""


def beliefs_together(effects: Sequence[RandomCoordinate], weight: Floats, threads: int) -> list[Blocks]:
    """The belief of every entity of each effect; `weight` float64[n] of each row, times the curvature of its loss."""
    if len(effects) < 2:
        return [effect.beliefs for effect in effects]
    counted = [effect.counted(weight) for effect in effects]
    variance = [effect.variance(threads) for effect in effects]
    reduced = reduced_weights(counted, variance)
    return [effect.reweighed(w, threads) for effect, w in zip(effects, reduced, strict=True)]


def reduced_weights(weight: Sequence[Floats], variance: Sequence[Floats]) -> list[Floats]:
    """What each row counts for in each effect, the others not being known exactly: float64[n] each.

    `weight` float64[n] of each effect: what the row counted for in its beliefs, 0 where it was not learned.
    `variance` float64[n] of each effect: of the row's part, from those beliefs.
    """
    before = [v / np.maximum(1.0 - w * v, _LEAST) for w, v in zip(weight, variance, strict=True)]
    return [w / (1.0 + w * _sum_but(before, k)) for k, w in enumerate(weight)]


def _sum_but(values: Sequence[Floats], left_out: int) -> Floats:
    some = [v for k, v in enumerate(values) if k != left_out]
    return np.asarray(np.sum(some, axis=0), dtype=np.float64)
