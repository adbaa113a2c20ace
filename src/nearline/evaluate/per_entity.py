"""Rows with the entity each belongs to, to metrics of one entity at a time and their mean over entities.

These say how well the rows of one user are ranked among themselves, which a single AUC over all rows, where a
generous user's rows outrank a stern one's, does not.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import DataError
from nearline.evaluate.ranked import ratio
from nearline.evaluate.weights import checked_weight
from nearline.posterior.outcomes import Outcome


@final
@dataclass(frozen=True, slots=True)
class EntityMean:
    """A mean over entities: NaN if no entity can be measured; `entities` is how many could."""

    value: float
    entities: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class EntityValues:
    """One number per entity that can be measured, and its weight in the mean; both of shape (entities,)."""

    value: Floats
    weight: Floats

    def mean(self) -> EntityMean:
        """Return the weighted mean and the number of entities."""
        if self.value.size == 0:
            return EntityMean(float("nan"), 0)
        return EntityMean(float(np.average(self.value, weights=self.weight)), self.value.size)


def per_entity_auc(y: Floats, score: Floats, weight: Floats | None, entity_codes: Ints) -> EntityMean:
    """Return the mean AUC of the entities that have both classes, each weighing the weight of its rows.

    `y`, `score`, `weight` and `entity_codes` (any int64 per entity) are of shape (rows,).
    """
    return entity_aucs(y, score, weight, entity_codes).mean()


def precision_at_k(y: Floats, score: Floats, entity_codes: Ints, k: int) -> EntityMean:
    """Return the mean over entities of the share of positives among their k rows of highest score.

    Entities with fewer than k rows are left out: all their rows would be taken, whatever the scores. Each
    entity weighs 1, and each row takes one of the k places whatever its weight. Rows tied at the last place
    share it, which is the expectation over their random order. Arrays are of shape (rows,).
    """
    return entity_precisions(y, score, entity_codes, k).mean()


def entity_aucs(y: Floats, score: Floats, weight: Floats | None, entity_codes: Ints) -> EntityValues:
    """Return the AUC of each entity that has both classes, weighted by the weight of its rows."""
    weight = checked_weight(y, score, weight, Outcome.BERNOULLI)
    ties = _Ties.of(score, entity_codes)
    total = np.add.reduceat(weight[ties.order], ties.starts)
    positive = np.add.reduceat((weight * y)[ties.order], ties.starts)
    positive_so_far = ties.within_entity(np.cumsum(positive), positive)
    negative = total - positive
    area = np.add.reduceat(negative * (positive_so_far - 0.5 * positive), ties.entity_starts)
    positives = np.add.reduceat(positive, ties.entity_starts)
    negatives = np.add.reduceat(negative, ties.entity_starts)
    measured = (positives > 0.0) & (negatives > 0.0)
    values = ratio(area, positives * negatives)
    return EntityValues(values[measured], (positives + negatives)[measured])


def entity_precisions(y: Floats, score: Floats, entity_codes: Ints, k: int) -> EntityValues:
    """Return the precision in the first k places of each entity with at least k rows, all of weight 1."""
    checked_weight(y, score, None, Outcome.BERNOULLI)
    if k < 1:
        raise DataError(f"k: expected 1 or more, got {k}")
    ties = _Ties.of(score, entity_codes)
    rows = np.diff(ties.starts, append=y.size).astype(np.float64)
    rank = ties.within_entity(np.cumsum(rows), rows) - rows
    taken = np.clip(k - rank, 0.0, rows)
    hits = np.add.reduceat(y[ties.order], ties.starts) * taken / rows
    measured: Bools = np.add.reduceat(rows, ties.entity_starts) >= k
    values = np.add.reduceat(hits, ties.entity_starts)[measured] / k
    return EntityValues(values, np.ones_like(values))


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Ties:
    """Rows sorted by entity and falling score.

    `starts` is where each pair of entity and score starts in `order`, `entity_starts` where each entity does
    in `starts`.
    """

    order: Ints
    starts: Ints
    entity_starts: Ints

    @classmethod
    def of(cls, score: Floats, entity_codes: Ints) -> "_Ties":
        if entity_codes.shape != score.shape:
            raise DataError(f"entity codes: expected shape {score.shape}, got {entity_codes.shape}")
        order = np.lexsort((-score, entity_codes))
        codes, scores = entity_codes[order], score[order]
        new_entity = np.r_[True, codes[1:] != codes[:-1]]
        new_score = new_entity | np.r_[True, scores[1:] != scores[:-1]]
        starts = np.flatnonzero(new_score)
        return cls(order, starts, np.flatnonzero(new_entity[starts]))

    def within_entity(self, so_far: Floats, amount: Floats) -> Floats:
        """Return a running sum over all (entity, score) pairs as one that starts anew at each entity."""
        before = (so_far - amount)[self.entity_starts]
        sizes = np.diff(self.entity_starts, append=self.starts.size)
        return so_far - np.repeat(before, sizes)
