"""What the random effects of a model have to do with a stream, whatever they learn: rows, entities, steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from nearline.arrays import ArrowArray, Csr, Ints
from nearline.errors import ConfigError
from nearline.evaluate.replay import Step, Stream, steps_in_time
from nearline.evaluate.waves import in_waves
from nearline.model.effects import RandomEffect, design, entity_column
from nearline.model.game import GameModel
from nearline.stream.effect_rows import EffectRows


@final
@dataclass(frozen=True, slots=True, eq=False)
class EffectOfStream:
    """One random effect: its rows over the columns of its leader's prior, and the names of its entities.

    leader : whose beliefs it uses: its own, or those of the effect it is against.
    first_key : what is added to its entities' numbers to tell them from those of other effects.
    """

    name: str
    leader: str
    rows: EffectRows
    names: ArrowArray
    first_key: int


@final
class EffectsOfStream:
    """The random effects of a model in a stream, and the waves in which it is walked; made once for many levels."""

    def __init__(self, stream: Stream, model: GameModel, against: Mapping[str, str]) -> None:
        self.effects = _effects(stream, model, against)
        self._plans: dict[tuple[int, int], list[Step]] = {}

    def plan(self, stream: Stream, begin: int, end: int) -> list[Step]:
        """The steps in time as waves."""
        if (begin, end) not in self._plans:
            keys = [
                np.where(effect.rows.entity >= 0, effect.rows.entity + effect.first_key, -1)
                for effect in self.effects
            ]
            keys = keys or [np.full(len(stream), -1, dtype=np.int64)]
            self._plans[begin, end] = in_waves(steps_in_time(stream, begin, end), keys)
        return self._plans[begin, end]


def _effects(stream: Stream, model: GameModel, against: Mapping[str, str]) -> tuple[EffectOfStream, ...]:
    made: dict[str, EffectOfStream] = {}
    first_key = 0
    for effect in model.random:
        if effect.name in against:
            continue
        followers = [name for name, other in against.items() if other == effect.name]
        kinds = [effect.kind, *(model.effect(name).kind for name in followers)]
        codes, names = _numbered(stream, kinds)
        rows = EffectRows(_design(stream, effect), codes[0])
        made[effect.name] = EffectOfStream(effect.name, effect.name, rows, names, first_key)
        for name, code in zip(followers, codes[1:], strict=True):
            follower = model.effect(name)
            matrix = csr_array(-_design(stream, follower)[:, _columns_of(follower, effect)])
            made[name] = EffectOfStream(name, effect.name, EffectRows(matrix, code), names, first_key)
        first_key += len(names)
    return tuple(made[effect.name] for effect in model.random)


def _design(stream: Stream, effect: RandomEffect) -> Csr:
    """The design matrix over the columns of the effect's prior."""
    matrix = design(effect.registry, effect.bags, stream.examples, grow=False)
    assert matrix.shape[1] == len(effect.prior.mean)  # noqa: S101 - a model has a prior for each column
    return matrix


def _numbered(stream: Stream, kinds: Sequence[str]) -> tuple[list[Ints], ArrowArray]:
    """The entities of kinds that share their names, int64[n] of each kind (-1: none), and the names."""
    columns = [entity_column(stream.examples, kind) for kind in kinds]
    if len(columns) == 1:
        return [columns[0].codes.astype(np.int64)], columns[0].names
    every: ArrowArray = pa.concat_arrays([column.names for column in columns]).unique()
    codes = []
    for column in columns:
        place = pc.index_in(column.names, every).to_numpy(zero_copy_only=False)
        codes.append(np.append(place, -1)[column.codes].astype(np.int64))
    return codes, every


def _columns_of(effect: RandomEffect, like: RandomEffect) -> Ints:
    """The columns of `effect` that mean, bags apart, what the columns of `like` mean, int64[columns]."""
    names = [
        list(zip(t["name"].to_pylist(), t["term"].to_pylist(), strict=True))
        for t in (effect.registry.to_table(), like.registry.to_table())
    ]
    if sorted(names[0]) != sorted(names[1]):
        raise ConfigError(
            f"against.{effect.name}: expected the features of {like.name!r}, which are others: "
            f"{sorted(set(names[0]) ^ set(names[1]))[:3]}"
        )
    place = {key: column for column, key in enumerate(names[0])}
    return np.array([place[key] for key in names[1]], dtype=np.int64)
