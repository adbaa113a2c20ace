"""The candidates of one request: what the fixed effect says of each, and a belief for each random effect.

A score is a linear predictor, on the link scale::

    score_c = offset_c + sum over random effects of x_c . b_entity(c)

Its mean, its variance and draws of it come from here; what to show is chosen in `policies`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from nearline.arrays import Floats, Ints, Keys
from nearline.errors import DataError
from nearline.posterior.blocks import Blocks, FeatureRows
from nearline.posterior.draws import add_draws
from nearline.posterior.score import mean_of_blocks, score_blocks


class Term(Protocol):
    """What one random effect adds to the C candidates of a request, wherever its features and beliefs lie."""

    @property
    def name(self) -> str:
        """Of the effect."""
        ...

    @property
    def count(self) -> int:
        """C."""
        ...

    def mean(self) -> Floats:
        """Mean of what it adds to each candidate, float64[C]."""
        ...

    def mean_and_variance(self, candidates: Ints | None = None) -> tuple[Floats, Floats]:
        """Mean and variance of what it adds to each candidate, or to those listed, in their order."""
        ...

    def arrays(self) -> "EffectTerm":
        """The same with features and beliefs in arrays of its own."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class EffectTerm:
    """A `Term` whose features and beliefs are given.

    A belief about the user is one block that all rows are grouped under; beliefs about items are a block each, and
    candidates of the same item are rows of the same block. An entity that nobody knows has the population prior as its
    belief, under its own key. A candidate in no group has no such entity: the effect adds nothing to it.

    Attributes
    ----------
    name : of the effect.
    rows : features of the C candidates, grouped by entity (`nearline.posterior.group_rows`).
    beliefs : one block an entity, mean and precision.
    keys : uint64[entities], from `entity_keys`: what an entity's draws are seeded by, with the request.
    factors : of the beliefs, from `nearline.posterior.score.factor_blocks`; None has them found for every draw.
    """

    name: str
    rows: FeatureRows
    beliefs: Blocks
    keys: Keys
    factors: Floats | None = None

    def __post_init__(self) -> None:
        entities = self.rows.entities
        if self.keys.shape != (entities,) or self.beliefs.shared or self.beliefs.entities != entities:
            raise DataError(
                f"effect {self.name!r}: expected a belief and a key for each of {entities} entities, "
                f"got {self.beliefs.entities} and {self.keys.shape}"
            )

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return self.rows.count

    def mean(self) -> Floats:
        """Mean of what it adds to each candidate, float64[C]."""
        return mean_of_blocks(self.rows, self.beliefs)

    def mean_and_variance(self, candidates: Ints | None = None) -> tuple[Floats, Floats]:
        """Mean and variance of what it adds to each candidate, or to those listed, in their order."""
        if candidates is None:
            return score_blocks(self.rows, self.beliefs, factors=self.factors)
        mean, variance = self.only(candidates).mean_and_variance()
        return mean[candidates], variance[candidates]

    def arrays(self) -> "EffectTerm":
        """The term itself."""
        return self

    def only(self, candidates: Ints) -> "EffectTerm":
        """The same for the candidates listed alone; the effect adds nothing to the others."""
        wanted = np.zeros(self.rows.count, dtype=np.bool_)
        wanted[candidates] = True
        row = np.arange(self.rows.count) if self.rows.row is None else self.rows.row
        taken = wanted[row]
        before = np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
        rows = self.rows  # made by hand: `replace` takes longer than all the rest
        some = FeatureRows(
            rows.count,
            rows.columns,
            before[rows.row_start],
            row[taken],
            rows.dense,
            rows.dense32,
            rows.indptr,
            rows.indices,
            rows.values,
        )
        return EffectTerm(self.name, some, self.beliefs, self.keys, self.factors)

    def difference(self) -> tuple[float, float]:
        """Mean and variance of what it adds to the first candidate less what it adds to the second."""
        mean, variance = 0.0, 0.0
        for e in range(self.rows.entities):
            x = np.zeros(self.rows.columns)
            for i in range(int(self.rows.row_start[e]), int(self.rows.row_start[e + 1])):
                row = i if self.rows.row is None else int(self.rows.row[i])
                x += (1.0, -1.0)[row] * feature_row(self.rows, row)
            belief, x = self.beliefs.belief(e), x[self.beliefs.columns_of(e)]
            mean += float(belief.mean @ x)
            variance += float(
                x @ (x / belief.precision if belief.is_diagonal else np.linalg.solve(belief.precision, x))
            )
        return mean, variance


@final
@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may be shown in answer to one request.

    Attributes
    ----------
    offset : float64[C], the fixed effect's score and whatever offset was given, on the link scale.
    effects : the random effects, each over the same C candidates.
    linear : float64[C], the mean of each score, where that is known already.
    """

    offset: Floats
    effects: tuple[Term, ...] = ()
    linear: Floats | None = None

    def __post_init__(self) -> None:
        if self.offset.ndim != 1:
            raise DataError(f"offset: expected one value a candidate, got shape {self.offset.shape}")
        for effect in self.effects:
            if effect.count != len(self.offset):
                raise DataError(
                    f"effect {effect.name!r}: expected {len(self.offset)} candidates, got {effect.count}"
                )

    def __len__(self) -> int:
        return len(self.offset)

    def mean(self) -> Floats:
        """Mean of each score, float64[C]."""
        if self.linear is not None:
            return self.linear
        total = self.offset
        for effect in self.effects:
            total = total + effect.mean()
        return total

    def mean_and_variance(self) -> tuple[Floats, Floats]:
        """Mean and variance of each score, float64[C] each; the effects are independent of each other."""
        mean, variance = self.offset, np.zeros(len(self))
        for effect in self.effects:
            of_effect, spread = effect.mean_and_variance()
            mean, variance = mean + of_effect, variance + spread
        return mean, variance

    def difference(self) -> tuple[float, float]:
        """Mean and variance of the first candidate's score less the second's."""
        mean, variance = float(self.offset[0] - self.offset[1]), 0.0
        for effect in self.effects:
            of_effect, spread = effect.arrays().difference()
            mean, variance = mean + of_effect, variance + spread
        return mean, variance

    def contributions(self, candidates: Ints) -> Mapping[str, tuple[Floats, Floats]]:
        """Effect to the mean and variance of what it adds to the candidates listed, float64[len(candidates)] each.

        These are the `contributions` of an impression.
        """
        return {effect.name: effect.mean_and_variance(candidates) for effect in self.effects}

    def draws(self, request: int, count: int = 1, first: int = 0) -> Floats:
        """Return `count` draws of all scores, float64[count, C], of number `first` and on.

        In a draw each entity has one draw of its coefficients, jointly, whichever candidates it scores. `request` is
        a `request_key`. Draw i of an entity is the same whatever else is drawn (see `nearline.bandit.keys`).
        """
        scores = np.repeat(self.offset[None, :], count, axis=0)
        for effect in (effect.arrays() for effect in self.effects):
            add_draws(
                effect.rows,
                effect.beliefs,
                effect.keys,
                scores,
                request=request,
                first=first,
                factors=effect.factors,
            )
        return scores


def feature_row(rows: FeatureRows, row: int) -> Floats:
    """One row of features over all columns, float64[columns]."""
    if rows.indptr is None:
        dense = rows.dense if rows.dense is not None else rows.dense32
        assert dense is not None  # noqa: S101 - rows are dense or sparse
        return np.asarray(dense[row], dtype=np.float64)
    assert rows.indices is not None and rows.values is not None  # noqa: S101, PT018 - sparse rows have these
    here = slice(int(rows.indptr[row]), int(rows.indptr[row + 1]))
    found = np.bincount(rows.indices[here], rows.values[here], minlength=rows.columns)
    return np.asarray(found, dtype=np.float64)
