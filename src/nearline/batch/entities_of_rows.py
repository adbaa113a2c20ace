"""A model trained on the row log -> what its generation begins with in one partition: entities' evidence, and progress.

The evidence is that of the stream's own update (`nearline.stream.update.learn`): all rows of an entity as one
mini-batch, each discounted by its age, given the other effects as the new model has them. So it forgets as the
stream does, and goes on from there without a seam.
"""

from typing import final

import msgspec
import numpy as np

from nearline.arrays import Floats, Ints
from nearline.batch.from_rows import RowRange
from nearline.events.partition import partitions_of
from nearline.model.effects import RandomEffect, design
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.update import Status
from nearline.store.records import Records
from nearline.store.seam import ModelStore
from nearline.stream.chunks import Chunk, ChunkReader, entity_names
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.effect_rows import EffectRows
from nearline.stream.given_others import Observed
from nearline.stream.learner import PROGRESS_KEY, LearnSettings, Progress
from nearline.stream.update import NEVER, Known, Learned, Rule, learn

_AT_ONCE = 4_096
"""Entities learned, and written, at once."""


def seed_partition(
    store: ModelStore,
    generation: int,
    partition: int,
    model: GameModel,
    rows: RowRange,
    reached: int,
    settings: LearnSettings,
) -> LearnCounts:
    """Write the entities of one partition, and that the partition is at position `reached`.

    Parameters
    ----------
    model : as trained, with its entities.
    rows : of the partition: what stands of it up to `reached`.

    Returns what became of the rows; those taken back before `reached` are not counted.
    """
    chunk, _ = ChunkReader(model, generation).read(rows.position, rows.rows)
    parts = {
        effect.name: effect.contribution(chunk.examples, threads=settings.threads) for effect in model.random
    }
    shared = chunk.examples.offset + model.fixed.contribution(chunk.examples)
    counts = LearnCounts()
    for effect in model.random:
        rule = Rule(
            effect.prior,
            model.outcome,
            model.noise_variance,
            settings.forgetting.get(effect.name, Forgetting()),
        )
        observed = _given(chunk, shared, parts, effect.name)
        seeding = _Seeding(store, generation, partition, effect, rule, reached, settings.threads)
        counts = counts.plus(seeding.write(chunk, observed))
    with store.writing(generation, partition) as txn:
        txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(Progress(reached, counts)))
    return counts


def _given(chunk: Chunk, shared: Floats, parts: dict[str, tuple[Floats, Floats]], effect: str) -> Observed:
    """The rows as an effect meets them, given the others as the new model has them."""
    others = [part for name, part in parts.items() if name != effect]
    nothing = np.zeros(len(chunk.position))
    assert chunk.examples.time_ms is not None  # noqa: S101 - impressions have a time
    return Observed(
        y=chunk.examples.response,
        weight=chunk.examples.weight,
        offset=np.sum([shared, *(mean for mean, _ in others)], axis=0),
        variance=np.sum([nothing, *(variance for _, variance in others)], axis=0),
        time_ms=chunk.examples.time_ms,
        own=parts[effect][0],
    )


@final
class _Seeding:
    """Learns and writes the entities of one effect that a partition owns."""

    def __init__(
        self,
        store: ModelStore,
        generation: int,
        partition: int,
        effect: RandomEffect,
        rule: Rule,
        reached: int,
        threads: int,
    ) -> None:
        self._store, self._generation, self._partition = store, generation, partition
        self._effect, self._rule, self._reached, self._threads = effect, rule, reached, threads

    def write(self, chunk: Chunk, observed: Observed) -> LearnCounts:
        effect = self._effect
        names = entity_names(chunk, effect.kind)
        is_mine = partitions_of(effect.name, names, self._store.partitions) == self._partition
        codes = chunk.examples.entities[effect.kind].codes
        entity = np.where(np.append(is_mine, False)[codes], codes, -1).astype(np.int64)
        rows = EffectRows(design(effect.registry, effect.bags, chunk.examples, grow=False), entity)
        order = np.argsort(entity, kind="stable")
        order = order[np.searchsorted(entity[order], 0) :]
        owned, start = np.unique(entity[order], return_index=True)
        start = np.append(start, len(order))
        counts = LearnCounts()
        for begin in range(0, len(owned), _AT_ONCE):
            end = min(begin + _AT_ONCE, len(owned))
            some = order[start[begin] : start[end]]
            nothing = Known.nothing(end - begin, full=effect.is_full)
            grouped = rows.at(some).rows
            done = learn(nothing, grouped, observed.at(some), self._rule, threads=self._threads)
            learned = _rows_learned(done, grouped.rows_per_entity)
            self._put([names[code] for code in owned[begin:end].tolist()], done.known, learned)
            total, fitted = len(some), int(learned.sum())
            counts = counts.plus(
                LearnCounts(rows=total, learned=fitted, set_aside=total - fitted, batches=end - begin)
            )
        return counts

    def _put(self, names: list[str], known: Known, learned: Ints) -> None:
        as_of_ms = np.where(known.as_of_ms == NEVER, 0, known.as_of_ms)
        ones = np.ones(len(names), dtype=np.int64)
        records = Records(ones, ones * self._reached, as_of_ms, learned, known.evidence)
        with self._store.writing(self._generation, self._partition) as txn:
            txn.put_many(self._effect.name, names, records)


def _rows_learned(done: Learned, sizes: Ints) -> Ints:
    """How many rows of each entity went into its evidence, int64[entities]."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    good = (done.report.row_learned != 0) & (done.report.status == Status.LEARNED)[group]
    return np.bincount(group[good], minlength=len(sizes)).astype(np.int64)
