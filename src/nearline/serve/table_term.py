"""What a random effect adds to candidates whose features and beliefs lie in tables: see `nearline.bandit.Term`."""

from collections.abc import Sequence
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.bandit import EffectTerm
from nearline.kernels import _posterior
from nearline.posterior.blocks import FeatureRows, group_rows
from nearline.posterior.score import require_scored
from nearline.serve.belief_tables import WholeTable
from nearline.serve.beliefs import EffectBeliefs
from nearline.serve.design import GatheredRows


@final
class TableTerm:
    """Scores by places in tables; rows and blocks are only made where draws need them.

    It holds while the tables do: until other entities are looked for.

    Parameters
    ----------
    beliefs, table : of the effect.
    rows : of its features, C candidates.
    names, slots : of entities and of their beliefs, int64: one of each for all candidates, or C.
    """

    def __init__(
        self, beliefs: EffectBeliefs, table: WholeTable, rows: GatheredRows, names: Sequence[str], slots: Ints
    ) -> None:
        self.name, self.count = beliefs.effect.name, rows.count
        self._beliefs, self._table, self._rows = beliefs, table, rows
        self._names, self._slots = names, slots
        self._arrays: EffectTerm | None = None

    @property
    def tables(self) -> tuple[object, ...]:
        """Where it is, as `kernels._posterior.request_means` takes it."""
        rows, table = self._rows, self._table
        return rows.parts, rows.kept, table.mean, table.precision, self._slots, rows.columns, table.full

    def mean(self) -> Floats:
        """Mean of what it adds to each candidate, float64[C]."""
        mean = np.empty(self.count)
        self._score(None, mean, None)
        return mean

    def mean_and_variance(self, candidates: Ints | None = None) -> tuple[Floats, Floats]:
        """Mean and variance of what it adds to each candidate, or to those listed, in their order."""
        size = self.count if candidates is None else len(candidates)
        mean, variance = np.empty(size), np.empty(size)
        self._score(candidates, mean, variance)
        return mean, variance

    def coefficients(self) -> Floats:
        """The mean of the belief about each candidate's entity, float64[C, columns]."""
        slots = np.repeat(self._slots, self.count) if len(self._slots) == 1 else self._slots
        return self._table.mean[slots]

    def arrays(self) -> EffectTerm:
        """The same with features and beliefs in arrays of its own."""
        if self._arrays is None:
            names, group = grouped(self._names)
            slots = self._slots
            if group is not None:
                slots = np.empty(len(names), np.int64)
                slots[group] = self._slots
            rows = rows_of(self._rows.dense(), group, len(names), self.count)
            keys = self._beliefs.keys(names, slots)
            self._arrays = EffectTerm(self.name, rows, self._table.take(slots), keys)
        return self._arrays

    def _score(self, candidates: Ints | None, mean: Floats, variance: Floats | None) -> None:
        rows, table = self._rows, self._table
        failed = _posterior.score_gathered(
            rows.parts,
            rows.kept,
            rows.at,
            rows.count,
            table.mean,
            table.precision,
            self._slots,
            rows.columns,
            table.full,
            candidates,
            mean,
            variance,
        )
        require_scored(failed)


def grouped(names: Sequence[str]) -> tuple[list[str], Ints | None]:
    """The entities without repetition, and which one each candidate has; None where they are one for each, or one."""
    distinct = dict.fromkeys(names)
    if len(distinct) == len(names):
        return list(names), None
    place = {name: number for number, name in enumerate(distinct)}
    return list(place), np.array([place[name] for name in names], dtype=np.int64)


def rows_of(features: Floats, group: Ints | None, entities: int, count: int) -> FeatureRows:
    """Dense rows of candidates grouped by entity."""
    if group is not None:
        return group_rows(features, group, entities)
    if entities == 1:
        return group_rows(features)
    start = np.arange(count + 1, dtype=np.int64)
    return FeatureRows(count, features.shape[1], start, dense=features)
