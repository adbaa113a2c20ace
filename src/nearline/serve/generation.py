"""One generation as it serves: model, numbered features, beliefs, rows of kept candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.bandit import Candidates, EffectTerm
from nearline.model.game import GameModel
from nearline.posterior.blocks import FeatureRows, group_rows
from nearline.posterior.forgetting import Forgetting
from nearline.serve.asked import Asked
from nearline.serve.beliefs import Expired, GenerationBeliefs
from nearline.serve.design import effect_features, fixed_scores
from nearline.serve.kept import KeptRowsOf
from nearline.serve.layout import Layout, canonical
from nearline.store.seam import ModelStore


@final
@dataclass(frozen=True, slots=True, eq=False)
class Believed:
    """What is believed of the C candidates of a request.

    Attributes
    ----------
    candidates : their scores, as policies take them.
    fixed : float64[C], what the fixed effect says.
    versions : kind of entity to the version of its record, one for all or int64[C].
    partial : effects and bags for which not everything was looked up or computed before the deadline.
    widened : float64[C], variance of the linear predictor from features that were not computed in time.
    """

    candidates: Candidates
    fixed: Floats
    versions: Mapping[str, int | Ints]
    partial: tuple[str, ...]
    widened: Floats


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
        self.rows = KeptRowsOf(self.layout)
        self.puts = 0  # as of which change to what is kept the rows are

    def believed(self, asked: Asked, now_ms: int, expired: Expired) -> Believed:
        """What is believed now of the candidates."""
        self.beliefs.refresh()
        count = len(asked.names)
        fixed = fixed_scores(self.layout, asked.featured)
        groups: dict[str, tuple[list[str], Ints | None]] = {}
        terms, partial = [], []
        versions: dict[str, int | Ints] = {}
        for number, of_effect in enumerate(self.beliefs.effects):
            effect = of_effect.effect
            if effect.kind not in groups:
                groups[effect.kind] = _grouped(asked.entities.get(effect.kind, ""))
            names, group = groups[effect.kind]
            rows = _rows(effect_features(self.layout, number, asked.featured), group, len(names), count)
            found = of_effect.find(names, rows, now_ms, expired)
            terms.append(EffectTerm(effect.name, rows, found.beliefs, found.keys))
            if found.missing:
                partial.append(effect.name)
            if effect.kind in asked.entities:
                version = int(found.version[0]) if len(names) == 1 else _spread(found.version, group)
                known = versions.get(effect.kind, 0)
                versions[effect.kind] = _later(version, known)
        partial += [bag for bag, one in asked.extra.items() if len(one.missing)]
        candidates = Candidates(fixed + asked.offset, tuple(terms))
        return Believed(candidates, fixed, versions, tuple(partial), self._widened(asked, candidates))

    def _widened(self, asked: Asked, candidates: Candidates) -> Floats:
        """The variance that features have that were not computed: of each its own times its coefficient squared.

        A coefficient is that of the fixed effect plus the means of the dense effects'.
        """
        variance = np.zeros(len(asked.names))
        for bag, one in asked.extra.items():
            if not len(one.missing) or bag not in self.layout.bags:
                continue
            columns = self.layout.bags[bag]
            number = columns.numbers(map(canonical, one.variance))
            coefficient = np.tile(columns.fixed[number], (len(asked.names), 1))
            for effect, term in enumerate(candidates.effects):
                if self.layout.is_dense(effect):
                    column = columns.columns[effect][number]
                    mean = term.beliefs.mean.reshape(term.rows.entities, -1)[_entity_of_rows(term.rows)]
                    coefficient += np.where(column >= 0, mean[:, column], 0.0)
            spread = coefficient**2 @ np.array(list(one.variance.values()))
            variance[one.missing] += spread[one.missing]
        return variance


def _entity_of_rows(rows: FeatureRows) -> Ints:
    """Which entity each row is of, int64[rows]."""
    entity = np.repeat(np.arange(rows.entities), rows.rows_per_entity)
    if rows.row is None:
        return entity
    of_row = np.empty(rows.count, dtype=np.int64)
    of_row[rows.row] = entity
    return of_row


def _grouped(names: str | Sequence[str]) -> tuple[list[str], Ints | None]:
    """The entities without repetition, and which one each candidate has; None where they are one for each, or one."""
    if isinstance(names, str):
        return [names], None
    distinct = dict.fromkeys(names)
    if len(distinct) == len(names):
        return list(names), None
    place = {name: number for number, name in enumerate(distinct)}
    return list(place), np.array([place[name] for name in names], dtype=np.int64)


def _rows(features: Any, group: Ints | None, entities: int, count: int) -> FeatureRows:
    if group is not None:
        return group_rows(features, group, entities)
    if entities == 1:
        return group_rows(features)
    if isinstance(features, np.ndarray):
        start = np.arange(count + 1, dtype=np.int64)
        return FeatureRows(count, features.shape[1], start, dense=features)
    return group_rows(features, np.arange(count), entities)


def _spread(version: Ints, group: Ints | None) -> Ints:
    return version if group is None else version[group]


def _later(version: int | Ints, known: int | Ints) -> int | Ints:
    """Of several effects of one kind the latest version."""
    if isinstance(version, int) and isinstance(known, int):
        return max(version, known)
    return np.maximum(version, known)
