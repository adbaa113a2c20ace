"""One generation as it serves: model, numbered features, beliefs, rows of kept candidates."""

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
from msgspec import Struct

from nearline.arrays import Floats, Ints
from nearline.bandit import Candidates, EffectTerm, Term
from nearline.kernels import _posterior
from nearline.model.game import GameModel
from nearline.posterior.blocks import group_rows
from nearline.posterior.forgetting import Forgetting
from nearline.serve.asked import Asked
from nearline.serve.beliefs import EffectBeliefs, Expired, GenerationBeliefs
from nearline.serve.clock_index import NOBODY
from nearline.serve.design import dense_rows, fixed_parts, sparse_rows
from nearline.serve.kept import KeptRowsOf
from nearline.serve.layout import Layout, canonical
from nearline.serve.table_term import TableTerm, grouped
from nearline.store.seam import ModelStore


@final
class Believed(Struct, frozen=True, eq=False):
    """What is believed of the C candidates of a request.

    Attributes
    ----------
    candidates : their scores, as policies take them.
    fixed : float64[C], what the fixed effect says.
    versions : kind of entity to the version of its record, one for all or int64[C].
    partial : effects and bags for which not everything was looked up or computed before the deadline.
    widened : float64[C], variance of the linear predictor from features that were not computed in time; None where
        all were.
    """

    candidates: Candidates
    fixed: Floats
    versions: Mapping[str, int | Ints]
    partial: tuple[str, ...]
    widened: Floats | None


@final
class ServingGeneration:
    """Everything that scoring needs of a generation; beliefs are read as they are asked for."""

    def __init__(
        self,
        number: int,
        store: ModelStore,
        forgetting: Mapping[str, Forgetting],
        entities: int,
    ) -> None:
        self.number = number
        self.model: GameModel = store.model(number)
        self.layout = Layout(self.model)
        self.beliefs = GenerationBeliefs(self.model, store, number, forgetting, entities)
        self.names = [effect.name for effect in self.model.random]
        self.rows = KeptRowsOf(self.layout)
        self.puts = 0  # as of which change to what is kept the rows are

    def believed(self, asked: Asked, now_ms: int, expired: Expired) -> Believed:
        """What is believed of the candidates, as of the last time that beliefs were refreshed."""
        terms, partial = [], []
        versions: dict[str, int | Ints] = {}
        for number, of_effect in enumerate(self.beliefs.effects):
            effect = of_effect.effect
            term, version, missing = self._term(number, asked, now_ms, expired)
            terms.append(term)
            if missing:
                partial.append(effect.name)
            if effect.kind in asked.entities:
                versions[effect.kind] = _later(version, versions.get(effect.kind, 0))
        partial += [bag for bag, one in asked.extra.items() if len(one.missing)]
        fixed, linear = self._means(asked, terms)
        candidates = Candidates(fixed + asked.offset, tuple(terms), linear)
        return Believed(candidates, fixed, versions, tuple(partial), self._widened(asked, candidates))

    def _term(self, number: int, asked: Asked, now_ms: int, expired: Expired) -> tuple[Term, int | Ints, int]:
        """What one effect adds; the versions of the records it comes from; how many were not looked for in time."""
        of_effect = self.beliefs.effects[number]
        entity = asked.entities.get(of_effect.effect.kind, NOBODY)
        names = [entity] if isinstance(entity, str) else entity
        if (table := of_effect.whole) is not None:
            slots, missing = of_effect.find(names, now_ms, expired)
            rows = dense_rows(self.layout, number, asked.featured)
            return TableTerm(of_effect, table, rows, names, slots), _version(of_effect, slots), missing
        names, group = grouped(names)
        slots, missing = of_effect.find(names, now_ms, expired)
        features = sparse_rows(self.layout, number, asked.featured)
        if group is None and len(names) > 1:
            group = np.arange(len(names))
        sparse = group_rows(features, group, len(names))
        term = EffectTerm(
            of_effect.effect.name, sparse, of_effect.blocks(slots, sparse), of_effect.keys(names, slots)
        )
        version = _version(of_effect, slots)
        return term, version if isinstance(version, int) or group is None else version[group], missing

    def _means(self, asked: Asked, terms: Sequence[Term]) -> tuple[Floats, Floats]:
        """What the fixed effect says of the candidates, and their linear predictors, float64[C] each."""
        fixed, linear = np.empty(len(asked.offset)), np.empty(len(asked.offset))
        parts, kept, at = fixed_parts(self.layout, asked.featured)
        effects = [term.tables if isinstance(term, TableTerm) else (term.mean(),) for term in terms]
        _posterior.request_means(
            parts, kept, at, self.layout.fixed_intercept, effects, asked.offset, fixed, linear
        )
        return fixed, linear

    def _widened(self, asked: Asked, candidates: Candidates) -> Floats | None:
        """The variance that features have that were not computed: of each its own times its coefficient squared.

        A coefficient is that of the fixed effect plus the means of the dense effects'.
        """
        if not any(len(one.missing) for one in asked.extra.values()):
            return None
        variance = np.zeros(len(asked.names))
        for bag, one in asked.extra.items():
            if not len(one.missing) or bag not in self.layout.bags:
                continue
            columns = self.layout.bags[bag]
            number = columns.numbers(map(canonical, one.variance))
            coefficient = np.tile(columns.fixed[number], (len(asked.names), 1))
            for effect, term in enumerate(candidates.effects):
                if isinstance(term, TableTerm):
                    column = columns.columns[effect][number]
                    coefficient += np.where(column >= 0, term.coefficients()[:, column], 0.0)
            spread = coefficient**2 @ np.array(list(one.variance.values()))
            variance[one.missing] += spread[one.missing]
        return variance


def _version(of_effect: EffectBeliefs, slots: Ints) -> int | Ints:
    """The versions of slots, one for all or int64[slots]."""
    versions = of_effect.versions(slots)
    return int(versions[0]) if len(versions) == 1 else versions


def _later(version: int | Ints, known: int | Ints) -> int | Ints:
    """Of several effects of one kind the latest version."""
    if isinstance(version, int) and isinstance(known, int):
        return max(version, known)
    return np.maximum(version, known)
