"""Rows of one partition, in order -> records: the step between the row log and the store.

Everything is read from and written to one transaction of the store: the records, the rows that wait for their
mini-batch, the position learned up to, and the counts. So a step is done in full or not at all, and since the cut of
rows into steps decides nothing, a learner that is killed and starts again ends with the same records, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import msgspec
import numpy as np

from nearline.arrays import Bools, Columns, Floats, Ints
from nearline.errors import DataError
from nearline.events.examples import Served, examples_from_records
from nearline.events.impression import Impression
from nearline.events.partition import partitions_of
from nearline.events.wire import decode_event
from nearline.model.effects import RandomEffect, design
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.update import Status
from nearline.store.records import Records
from nearline.store.seam import Writing
from nearline.stream.effect_rows import EffectRows
from nearline.stream.given_others import Observed
from nearline.stream.joined import Kind, decode_rows
from nearline.stream.rounds import Batches, Outcomes, learn_in_rounds
from nearline.stream.update import NEVER, Known, Rule

PROGRESS_KEY = b"progress"
"""Where a partition keeps its `Progress`."""


@final
@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a partition learns.

    Attributes
    ----------
    forgetting : by random effect; one that is not there forgets nothing.
    threads : of the kernels.
    """

    forgetting: Mapping[str, Forgetting] = field(default_factory=dict)
    threads: int = 1


@final
class LearnCounts(msgspec.Struct, frozen=True):
    """What became of the rows of a partition: each counts once for every effect whose entity the partition owns.

    ``rows = learned + taken_back + set_aside``, always.

    Attributes
    ----------
    rows : rows received.
    learned : rows that are in the evidence of their entity.
    taken_back : corrections that were taken out of it.
    set_aside : rows that could not be learned or taken back; each is a dead letter with its reason.
    """

    rows: int = 0
    learned: int = 0
    taken_back: int = 0
    set_aside: int = 0

    def plus(self, other: "LearnCounts") -> "LearnCounts":
        """Both together."""
        return LearnCounts(
            *(
                a + b
                for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
            )
        )


@final
class Progress(msgspec.Struct, frozen=True):
    """How far a partition is: the last position of the row log that was learned, and the counts."""

    position: int = 0
    counts: LearnCounts = LearnCounts()


def progress_of(written: bytes | None) -> Progress:
    """What `Learner.step` last wrote under `PROGRESS_KEY`."""
    return Progress() if written is None else msgspec.msgpack.decode(written, type=Progress)


@final
@dataclass(frozen=True, slots=True, eq=False)
class SetAside:
    """A row that could not be learned or taken back: its position in the row log, the effect (None: any), and why."""

    position: int
    effect: str | None
    reason: str


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """Some rows of a partition: those that are examples, as columns of n entries.

    position : int64[n], in the row log. takes_back : bool[n].
    linear : float64[n], offset and fixed effect.
    """

    position: Ints
    takes_back: Bools
    examples: Examples
    served: Served
    linear: Floats


@final
class Learner:
    """Learns the rows of one partition into one generation.

    Parameters
    ----------
    model : of the generation: its fixed effect, columns and priors.
    generation : its number; rows served by another generation are rescored by this one's fixed effect.
    partition, partitions : which entities it owns, out of how many partitions.
    settings : how to learn.
    """

    def __init__(
        self, model: GameModel, generation: int, partition: int, partitions: int, settings: LearnSettings
    ) -> None:
        self._model, self._generation = model, generation
        self._partition, self._partitions = partition, partitions
        self._threads = settings.threads
        self._kinds = tuple(dict.fromkeys(effect.kind for effect in model.random))
        self._bags = tuple(
            dict.fromkeys([*model.fixed.bags, *(bag for effect in model.random for bag in effect.bags)])
        )
        self._rules = {
            effect.name: Rule(
                effect.prior,
                model.outcome,
                model.noise_variance,
                settings.forgetting.get(effect.name, Forgetting()),
            )
            for effect in model.random
        }

    def step(self, txn: Writing, first: int, rows: Sequence[bytes]) -> tuple[Progress, list[SetAside]]:
        """Learn the rows at positions first, first + 1, ... of the row log; those learned before are passed over.

        Raises
        ------
        DataError
            Positions are missing between what was learned and `first`, or a row is damaged.
        """
        progress = progress_of(txn.get_state(PROGRESS_KEY))
        if first > progress.position + 1:
            raise DataError(f"row log: expected position {progress.position + 1}, got {first}")
        known = max(0, progress.position + 1 - first)
        first, rows = first + known, rows[known:]
        if not rows:
            return progress, []
        chunk, aside = self._read(first, rows)
        counts = progress.counts
        for effect in self._model.random:
            more, faults = self._learn(txn, effect, chunk)
            counts, aside = counts.plus(more), aside + faults
        progress = Progress(first + len(rows) - 1, counts)
        txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(progress))
        return progress, aside

    def _read(self, first: int, rows: Sequence[bytes]) -> tuple[_Chunk, list[SetAside]]:
        joined = decode_rows(rows)
        here = np.flatnonzero(joined.kind != Kind.TICK)
        parts = dict(bags=self._bags, kinds=self._kinds, effects=tuple(self._rules))
        aside: list[SetAside] = []
        try:
            found = examples_from_records(
                [joined.records[i] for i in here], joined.label[here], joined.weight[here], **parts
            )
        except DataError:
            faults = {i: fault for i in here.tolist() if (fault := _fault(joined.records[i])) is not None}
            aside = [SetAside(first + i, None, fault) for i, fault in faults.items()]
            here = np.array([i for i in here.tolist() if i not in faults], dtype=np.int64)
            found = examples_from_records(
                [joined.records[i] for i in here], joined.label[here], joined.weight[here], **parts
            )
        examples, served = found
        fixed = served.fixed
        other = served.generation != self._generation
        if other.any():
            fixed = np.where(other, self._model.fixed.contribution(examples), fixed)
        takes_back = joined.kind[here] == Kind.TAKE_BACK
        return _Chunk(first + here, takes_back, examples, served, examples.offset + fixed), aside

    def _learn(self, txn: Writing, effect: RandomEffect, chunk: _Chunk) -> tuple[LearnCounts, list[SetAside]]:
        column = chunk.examples.entities[effect.kind]
        names = [str(name) for name in column.names.to_pylist()]
        is_mine = np.append(partitions_of(effect.name, names, self._partitions) == self._partition, False)
        mine = np.flatnonzero(is_mine[column.codes])
        if len(mine) == 0:
            return LearnCounts(), []
        code, entity, number = by_most_batches(column.codes[mine])
        owners = [names[i] for i in code.tolist()]
        batches = Batches(mine, entity, number, chunk.takes_back[mine])
        records = txn.get_many(effect.name, owners)
        matrix = design(effect.registry, effect.bags, chunk.examples, grow=False)
        known, outcomes = learn_in_rounds(
            Known(records.evidence, np.where(records.version > 0, records.as_of_ms, NEVER)),
            batches,
            EffectRows(matrix, np.zeros(len(chunk.position), dtype=np.int64)),
            self._observed(effect, chunk),
            self._rules[effect.name],
            threads=self._threads,
        )
        txn.put_many(effect.name, owners, _next_records(records, known, batches, outcomes, chunk.position))
        return _counted(batches, outcomes), _faults(effect.name, chunk.position, batches, outcomes)

    def _observed(self, effect: RandomEffect, chunk: _Chunk) -> Observed:
        others = [other.name for other in self._model.random if other.name != effect.name]
        served, examples = chunk.served, chunk.examples
        assert examples.time_ms is not None  # noqa: S101 - impressions have a time
        return Observed(
            y=examples.response,
            weight=examples.weight,
            offset=np.sum([chunk.linear, *(served.mean[other] for other in others)], axis=0),
            variance=np.sum([np.zeros(len(examples)), *(served.variance[other] for other in others)], axis=0),
            time_ms=examples.time_ms,
            own=served.mean[effect.name],
        )


def by_most_batches(codes: Columns) -> tuple[Columns, Ints, Ints]:
    """Entities by how many rows they have, those with most first; each row's place among them; its number there.

    Each row is a mini-batch of its own. `codes` is the entity of each row, int32[n], 0 or more.
    """
    found, entity, count = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    place = np.empty(len(found), dtype=np.int64)
    place[order] = np.arange(len(found))
    entity = place[entity]
    by_entity = np.argsort(entity, kind="stable")
    begin = np.concatenate([[0], np.cumsum(count[order])[:-1]])
    number = np.empty(len(entity), dtype=np.int64)
    number[by_entity] = np.arange(len(entity)) - begin[entity[by_entity]]
    return found[order], entity, number


def _fault(record: bytes) -> str | None:
    """Why a record is no impression, or None if it is one."""
    try:
        event = decode_event(record)
    except DataError as error:
        return str(error)
    return None if isinstance(event, Impression) else f"expected an impression, got {type(event).__name__}"


def _next_records(
    records: Records, known: Known, batches: Batches, outcomes: Outcomes, position: Ints
) -> Records:
    reached = records.position.copy()
    np.maximum.at(reached, batches.entity, position[batches.row])
    change = np.where(batches.takes_back, -1, 1) * outcomes.learned
    rows = records.rows + np.bincount(batches.entity, change, len(reached)).astype(np.int64)
    as_of_ms = np.where(known.as_of_ms == NEVER, 0, known.as_of_ms)
    return Records(records.version + 1, reached, as_of_ms, rows, known.evidence)


def _counted(batches: Batches, outcomes: Outcomes) -> LearnCounts:
    return LearnCounts(
        rows=len(batches.row),
        learned=int(np.count_nonzero(outcomes.learned & ~batches.takes_back)),
        taken_back=int(np.count_nonzero(outcomes.learned & batches.takes_back)),
        set_aside=int(np.count_nonzero(~outcomes.learned)),
    )


def _faults(effect: str, position: Ints, batches: Batches, outcomes: Outcomes) -> list[SetAside]:
    faults = []
    for i in np.flatnonzero(~outcomes.learned).tolist():
        status = Status(int(outcomes.status[i]))
        reason = "a number is not finite, or the label not one of its outcome"
        if status is not Status.LEARNED:
            reason = status.name.lower().replace("_", " ")
        faults.append(SetAside(int(position[batches.row[i]]), effect, reason))
    return faults
