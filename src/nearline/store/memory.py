"""A store in memory: the specification that every other one is held to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import final

from nearline.arrays import Columns
from nearline.errors import ModelError
from nearline.model.game import GameModel
from nearline.store.codec import Value, decode_named, decode_records
from nearline.store.generations import Generation, Generations, Status, effect_forms
from nearline.store.records import Records
from nearline.store.seam import Changes, PartitionsOf, Writing, require_partition
from nearline.store.seeding import without_entities
from nearline.store.transaction import FEED, Transaction, Values, stale


@final
class MemoryStore:
    """Keeps everything in dictionaries of this process: see `nearline.store.seam.ModelStore`.

    `partitions_of` places entities; `history` is how many earlier versions of each record are kept.
    """

    def __init__(self, partitions_of: PartitionsOf, *, partitions: int = 1, history: int = 0) -> None:
        if partitions < 1:
            raise ModelError(f"partitions: expected 1 or more, got {partitions}")
        self._partitions_of = partitions_of
        self._partitions = partitions
        self._history = history
        self._generations = Generations()
        self._models: dict[int, GameModel] = {}
        self._shards: dict[tuple[int, int], _MemoryShard] = {}

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._partitions

    def partitions_of(self, effect: str, names: Sequence[str]) -> Columns:
        """The partition each entity's record is in, int32[n]."""
        return self._partitions_of(effect, names, self._partitions)

    def generations(self) -> Generations:
        """All of them, and which one is live."""
        return self._generations

    def live(self) -> int | None:
        """Number of the generation that serves."""
        return self._generations.live

    def create(
        self,
        model: GameModel,
        *,
        created_ms: int,
        level: int = 1,
        positions: Sequence[int] = (),
        single: bool = False,
    ) -> Generation:
        """Begin a generation with the fixed effect, priors and columns of `model`."""
        self._generations, generation = self._generations.begun(
            effect_forms(model), created_ms=created_ms, level=level, positions=tuple(positions), single=single
        )
        self._models[generation.number] = without_entities(model)
        for partition in range(self._partitions):
            self._shards[generation.number, partition] = _MemoryShard(self._history)
        return generation

    def model(self, number: int) -> GameModel:
        """The model of a generation, without entities."""
        self._generations.find(number)
        return self._models[number]

    def mark(
        self,
        number: int,
        status: Status,
        *,
        positions: Sequence[int] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Generation:
        """Say that a generation is training, a candidate, or refused."""
        reached = None if positions is None else tuple(positions)
        self._generations = self._generations.marked(number, status, positions=reached, metrics=metrics)
        return self._generations.find(number)

    def switch(self, number: int, *, force: bool = False) -> Generation:
        """Make a generation live."""
        self._generations = self._generations.switched(number, force=force)
        return self._generations.find(number)

    def rollback(self) -> Generation:
        """Make the generation live again that was so before."""
        self._generations = self._generations.rolled_back()
        return self._generations.serving()

    def pin(self, number: int, *, pinned: bool = True) -> Generation:
        """Keep a generation for good, or no longer."""
        self._generations = self._generations.pinned(number, pinned=pinned)
        return self._generations.find(number)

    def prune(self, keep: int, *, unfinished: bool = False) -> tuple[int, ...]:
        """Delete the retired and refused generations but the newest `keep`."""
        self._generations, gone = self._generations.pruned(keep, unfinished=unfinished)
        self._models = {number: model for number, model in self._models.items() if number not in gone}
        self._shards = {at: shard for at, shard in self._shards.items() if at[0] not in gone}
        return gone

    def get_many(self, generation: int, effect: str, names: Sequence[str]) -> Records:
        """The record of each name, in order."""
        full = self._generations.find(generation).is_full(effect)
        places = self.partitions_of(effect, names).tolist()
        values: list[Value | None] = []
        for name, partition in zip(names, places, strict=True):
            with self._shards[generation, partition].reading(effect, [name]) as value:
                values += value
        return decode_named(effect, names, values, full=full)

    def history(self, generation: int, effect: str, name: str) -> Records:
        """The versions of one entity's record that are kept, oldest first, the present one last."""
        full = self._generations.find(generation).is_full(effect)
        shard = self._shards[generation, int(self.partitions_of(effect, [name])[0])]
        return decode_records(shard.records.get(effect, {}).get(name, []), full=full)

    def names(self, generation: int, effect: str, partition: int) -> list[str]:
        """The entities of a partition that have a record."""
        self._generations.find(generation).is_full(effect)
        return sorted(self._shard(generation, partition).records.get(effect, {}))

    def count(self, generation: int) -> int:
        """How many records a generation has."""
        shards = [self._shard(generation, partition) for partition in range(self._partitions)]
        return sum(len(entities) for shard in shards for entities in shard.records.values())

    def state(self, generation: int, partition: int, key: bytes) -> bytes | None:
        """What the writer of a partition last put under that key."""
        return self._shard(generation, partition).state(key)

    def states(self, generation: int, partition: int, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Keys of a partition that begin so with their values, in the order of their bytes."""
        return self._shard(generation, partition).states(prefix)

    def changes(self, generation: int, partition: int, since: int) -> Changes:
        """What was written after commit number `since`."""
        return self._shard(generation, partition).changes(since)

    def stamp(self, generation: int, partition: int) -> int:
        """A number that is another one after each commit to the partition."""
        return self._shard(generation, partition).commit()

    @contextmanager
    def writing(self, generation: int, partition: int) -> Iterator[Writing]:
        """A transaction, committed where the block ends."""
        shard = self._shard(generation, partition)
        transaction = Transaction(self._generations.find(generation), partition, self.partitions_of, shard)
        yield transaction
        transaction.commit()

    def close(self) -> None:
        """Nothing to let go of."""

    def _shard(self, generation: int, partition: int) -> "_MemoryShard":
        self._generations.find(generation)
        require_partition(partition, self._partitions)
        return self._shards[generation, partition]


@final
class _MemoryShard:
    def __init__(self, history: int) -> None:
        self.records: dict[str, dict[str, list[bytes]]] = {}  # the versions kept, oldest first
        self._state: dict[bytes, bytes] = {}
        self._feed: list[dict[str, tuple[str, ...]]] = []  # one for each commit
        self._history = history
        self._lock = Lock()

    def commit(self) -> int:
        return len(self._feed)

    @contextmanager
    def reading(self, effect: str, names: Sequence[str]) -> Iterator[list[Value | None]]:
        with self._lock:
            kept = self.records.get(effect, {})
            values: list[Value | None] = [kept[name][-1] if name in kept else None for name in names]
        yield values

    def state(self, key: bytes) -> bytes | None:
        return self._state.get(key)

    def states(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return sorted((key, value) for key, value in self._state.items() if key.startswith(prefix))

    def apply(self, base: int, records: Values, state: Mapping[bytes, bytes | None]) -> None:
        with self._lock:
            if base != len(self._feed):
                raise stale(base, len(self._feed))
            for effect, values in records.items():
                kept = self.records.setdefault(effect, {})
                for name, value in values.items():
                    kept[name] = [*kept.get(name, []), value][-self._history - 1 :]
            for key, content in state.items():
                self._state.pop(key, None)
                if content is not None:
                    self._state[key] = content
            self._feed.append({effect: tuple(values) for effect, values in records.items()})

    def changes(self, since: int) -> Changes:
        commit = len(self._feed)
        if not commit - FEED <= since <= commit:
            return Changes(commit, None)
        names: dict[str, dict[str, None]] = {}
        for changed in self._feed[since:]:
            for effect, entities in changed.items():
                names.setdefault(effect, {}).update(dict.fromkeys(entities))
        return Changes(commit, {effect: tuple(entities) for effect, entities in names.items()})
