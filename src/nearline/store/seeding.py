"""A trained model -> the records a generation begins with."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from nearline.arrays import Ints
from nearline.errors import ModelError
from nearline.model.effects import RandomEffect
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence, select_evidence
from nearline.store.records import Records
from nearline.store.seam import ModelStore


def without_entities(model: GameModel) -> GameModel:
    """The model with its fixed effect, priors and columns, and no entities."""
    return replace(model, random=tuple(_without_entities(effect) for effect in model.random))


def with_records(effect: RandomEffect, names: Sequence[str], records: Records) -> RandomEffect:
    """An effect of a generation with the entities of these records, in place of those it has."""
    return replace(
        effect, names=pa.array(names, pa.string()), evidence=records.evidence, row_count=records.rows
    )


def write_entities(
    store: ModelStore,
    generation: int,
    model: GameModel,
    *,
    as_of_ms: int,
    positions: Sequence[int] = (),
    at_once: int = 2_000,
) -> None:
    """Write every entity of a model into a generation, as version 1.

    `as_of_ms` is the time its evidence is discounted to, `positions` the row-log position of each partition up to
    which the model was trained, 0 where it was not trained from the log. At most `at_once` records make a commit.

    Raises `StaleWriteError` if the generation has records of these entities already.
    """
    reached = tuple(positions) or (0,) * store.partitions
    if len(reached) != store.partitions:
        raise ModelError(
            f"positions: expected one for each of {store.partitions} partitions, got {len(reached)}"
        )
    for effect in model.random:
        names = [str(name) for name in effect.names.to_pylist()]
        partition = store.partitions_of(effect.name, names)
        for p in range(store.partitions):
            here = np.flatnonzero(partition == p)
            for begin in range(0, len(here), at_once):
                some = here[begin : begin + at_once]
                with store.writing(generation, p) as txn:
                    txn.put_many(
                        effect.name, [names[i] for i in some], _first(effect, some, reached[p], as_of_ms)
                    )


def _first(effect: RandomEffect, entities: Ints, position: int, as_of_ms: int) -> Records:
    def every(value: int) -> Ints:
        return np.full(len(entities), value, dtype=np.int64)

    evidence = select_evidence(effect.evidence, entities)
    return Records(every(1), every(position), every(as_of_ms), effect.row_count[entities], evidence)


def _without_entities(effect: RandomEffect) -> RandomEffect:
    none = no_evidence(0, full=effect.is_full)
    return replace(
        effect, names=pa.array([], pa.string()), evidence=none, row_count=np.zeros(0, dtype=np.int64)
    )
