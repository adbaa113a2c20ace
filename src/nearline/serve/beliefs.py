"""Beliefs about entities out of the store, kept as long as the store says that nothing changed.

A kept belief is that of the store's last commit: before a request is answered, every partition is asked for its stamp,
and where that is another one, the feed of changes says which entities to read again. Nothing expires by time but
forgetting: what is forgotten with a time constant is completed again after a thousandth of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, final

import numpy as np

from nearline.arrays import Ints, Keys
from nearline.bandit import entity_keys
from nearline.model.effects import RandomEffect
from nearline.model.game import GameModel
from nearline.posterior.blocks import Blocks, FeatureRows, share, whole_layout
from nearline.posterior.evidence import aged, complete, layout_for
from nearline.posterior.forgetting import Forgetting
from nearline.serve.belief_tables import BeliefTable, RaggedTable, WholeTable
from nearline.serve.clock_index import NOBODY, ClockIndex
from nearline.serve.layout import WIDEST_DENSE
from nearline.store.records import Records, no_records
from nearline.store.seam import ModelStore

_READ_AT_ONCE: Final = 64
"""Entities read between two looks at the deadline."""
_ANY_COMMIT: Final = 1 << 62
"""Beyond every commit: asked for the changes since, a store says no more than where it is."""
_FOREVER: Final = (1 << 63) - 1
_BYTES: Final = 256 << 20
"""What the kept beliefs of one effect may take."""
_FEWEST: Final = 4_096
"""Slots, whatever they take: more than the entities of one request."""
_PRIOR: Final = 0
"""The slot of the population prior."""

Expired: TypeAlias = Callable[[], bool]
"""Whether the deadline of a request has passed."""


@final
class EffectBeliefs:
    """The beliefs of one random effect of one generation."""

    def __init__(
        self, effect: RandomEffect, store: ModelStore, generation: int, forgetting: Forgetting, entities: int
    ) -> None:
        self.effect = effect
        self._store, self._generation, self._forgetting = store, generation, forgetting
        self._prior = share(effect.prior)
        self._columns = len(effect.prior.mean)
        self._is_whole = self._columns <= WIDEST_DENSE
        width = self._columns * (self._columns + 3) // 2 if effect.is_full else 2 * self._columns
        capacity = min(entities, _BYTES // (8 * width)) if self._is_whole else entities
        self._index = ClockIndex(max(capacity, _FEWEST) + 1)
        self._table: BeliefTable = (
            WholeTable(self._columns, full=effect.is_full)
            if self._is_whole
            else RaggedTable(full=effect.is_full)
        )
        self._version = np.zeros(1, dtype=np.int64)
        self._until_ms = np.full(1, _FOREVER)
        self._key = entity_keys(effect.name, [NOBODY])
        self._partition = np.full(1, -1, dtype=np.int32)
        self._table.put(np.zeros(1, np.int64), self._completed(no_records(1, full=effect.is_full), 0))
        self.hits, self.misses = 0, 0

    @property
    def whole(self) -> WholeTable | None:
        """The table of the beliefs, where those are over all columns."""
        return self._table if isinstance(self._table, WholeTable) else None

    @property
    def tables(self) -> tuple[object, ...] | None:
        """Means, precisions, whether those are triangles; slots by name, and by slot whether asked for, and versions.

        None where beliefs are not over all columns, or grow old.
        """
        table = self._table
        if not isinstance(table, WholeTable) or self._forgetting.time_constant_ms is not None:
            return None
        return table.mean, table.precision, table.full, *self._index.tables, self._version

    def find(self, names: Sequence[str], now_ms: int, expired: Expired) -> tuple[Ints, int]:
        """Where the beliefs about entities are, int64[names], and how many were not looked for before the deadline.

        Those have the population prior, as entities have that nobody has seen. Slots hold until the next call.
        """
        slots, missing = self._slots(names, now_ms, expired)
        if missing:
            slots[slots < 0] = _PRIOR
        self._index.touch(slots)
        return slots, missing

    def blocks(self, slots: Ints, rows: FeatureRows) -> Blocks:
        """The beliefs of slots, one block each, over the columns of their rows."""
        kept = self._table.take(slots)
        return (
            kept if self._is_whole else complete(kept, self._prior, layout_for(rows, kept, self.effect.prior))
        )

    def keys(self, names: Sequence[str], slots: Ints) -> Keys:
        """uint64[names], of `entity_keys`: of the entities that have these slots."""
        keys = self._key[slots]
        at = np.flatnonzero(slots == _PRIOR)
        keys[at] = entity_keys(self.effect.name, [names[i] for i in at.tolist()])
        return keys

    def versions(self, slots: Ints) -> Ints:
        """int64[slots], of the records; 0 of an entity nobody has seen, and of one not looked for."""
        versions: Ints = self._version.take(slots)
        return versions

    def drop(self, names: Sequence[str]) -> None:
        """These have a new record."""
        for name in names:
            self._index.drop(name)

    def drop_partition(self, partition: int) -> None:
        """Any entity of the partition may have a new record."""
        names = self._index.names()
        slots, _ = self._index.find(names)
        self.drop([names[i] for i in np.flatnonzero(self._partition[slots] == partition).tolist()])

    def warm(self, names: Sequence[str], now_ms: int) -> None:
        """Read these ahead of requests."""
        self._slots(names[: self._index.capacity // 2], now_ms, lambda: False)

    def busiest(self) -> list[str]:
        """Entities that were asked for lately."""
        return self._index.busiest()

    def _slots(self, names: Sequence[str], now_ms: int, expired: Expired) -> tuple[Ints, int]:
        """Where the beliefs are, int64[names], -1 where they were not read in time; and how many were not."""
        slots, lacking = self._index.find(names)
        if self._forgetting.time_constant_ms is not None:
            old = (slots >= 0) & (self._until_ms[slots] < now_ms)
            self.drop([names[i] for i in np.flatnonzero(old).tolist()])
            slots[old] = -1
            lacking = int(np.count_nonzero(slots < 0))
        self.hits += len(names) - lacking
        if lacking:
            self._read_lacking(names, slots, now_ms, expired)
            lacking = int(np.count_nonzero(slots < 0))
        return slots, lacking

    def _read_lacking(self, names: Sequence[str], slots: Ints, now_ms: int, expired: Expired) -> None:
        """Read the beliefs that have no slot, and put where they are into `slots`, until the deadline."""
        lacking = np.flatnonzero(slots < 0)
        of_each = [names[i] for i in lacking.tolist()]
        wanted = list(dict.fromkeys(of_each))
        self.misses += len(wanted)
        found: dict[str, int] = {}
        for begin in range(0, len(wanted), _READ_AT_ONCE):
            if expired():
                break
            some = wanted[begin : begin + _READ_AT_ONCE]
            in_use = np.concatenate([slots[slots > 0], np.fromiter(found.values(), np.int64, len(found))])
            found |= zip(some, self._read(some, in_use, now_ms).tolist(), strict=True)
        slots[lacking] = [found.get(name, -1) for name in of_each]

    def _read(self, names: Sequence[str], in_use: Ints, now_ms: int) -> Ints:
        """Read these from the store; where they are kept from now on."""
        records = self._store.get_many(self._generation, self.effect.name, names)
        kept = self._completed(records, now_ms)
        slots = self._index.assign(names, in_use)
        self._grow(int(slots.max()) + 1)
        self._table.put(slots, kept)
        self._version[slots] = records.version
        self._key[slots] = entity_keys(self.effect.name, names)
        self._partition[slots] = self._store.partitions_of(self.effect.name, names)
        constant = self._forgetting.time_constant_ms
        self._until_ms[slots] = _FOREVER if constant is None else now_ms + max(1, constant // 1_000)
        return slots

    def _grow(self, slots: int) -> None:
        if (more := slots - len(self._version)) <= 0:
            return
        more = min(max(more, len(self._version), 64), self._index.capacity - len(self._version))
        for name in ("_version", "_until_ms", "_key", "_partition"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros(more, column.dtype)]))

    def _completed(self, records: Records, now_ms: int) -> Blocks:
        """What is kept of records: beliefs, or of wide effects the evidence; discounted to now."""
        keep = None
        if self._forgetting.time_constant_ms is not None:
            keep = self._forgetting.keep_of_belief(records.as_of_ms, np.full(len(records), now_ms))
        if self._is_whole:
            layout = (whole_layout(len(records), self._columns), None)
            return complete(records.evidence, self._prior, layout, keep=keep)
        return records.evidence if keep is None else aged(records.evidence, keep)


@final
class GenerationBeliefs:
    """The beliefs of all random effects of one generation, never older than the store's last commit."""

    def __init__(
        self,
        model: GameModel,
        store: ModelStore,
        generation: int,
        forgetting: Mapping[str, Forgetting],
        entities: int,
    ) -> None:
        self._store, self._generation = store, generation
        partitions = range(store.partitions)
        self._stamps = [store.stamp(generation, partition) for partition in partitions]
        self._commits = [store.changes(generation, partition, _ANY_COMMIT).commit for partition in partitions]
        self.effects = tuple(
            EffectBeliefs(effect, store, generation, forgetting.get(effect.name, Forgetting()), entities)
            for effect in model.random
        )

    def refresh(self) -> None:
        """Forget what others have written since the last time; beliefs found from now on are not older than this."""
        for partition, known in enumerate(self._stamps):
            if (stamp := self._store.stamp(self._generation, partition)) != known:
                self._stamps[partition] = stamp
                self._drop_changed(partition)

    def warm(self, busiest: Mapping[str, Sequence[str]], now_ms: int) -> None:
        """Read these entities of each effect ahead of requests."""
        for effect in self.effects:
            effect.warm(busiest.get(effect.effect.name, ()), now_ms)

    def busiest(self) -> dict[str, list[str]]:
        """Of each effect the entities asked for lately."""
        return {effect.effect.name: effect.busiest() for effect in self.effects}

    def _drop_changed(self, partition: int) -> None:
        changes = self._store.changes(self._generation, partition, self._commits[partition])
        self._commits[partition] = changes.commit
        for effect in self.effects:
            if changes.names is None:
                effect.drop_partition(partition)
            else:
                effect.drop(changes.names.get(effect.effect.name, ()))
