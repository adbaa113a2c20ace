"""A store in a folder of this machine, on LMDB.

::

    DIR/generations/        environment: which generations there are, which one is live, how many partitions
    DIR/000001/model/       fixed effect, priors and columns of generation 1 (`nearline.model.saved`)
    DIR/000001/0000/        environment: partition 0 of generation 1 (`nearline.store.shard`)

LMDB has one writer for each environment. With one for each partition of each generation, the workers of the live
generation and whoever trains the next one never wait for each other; the live pointer, in an environment of its own,
is switched in one commit of a few bytes; and a generation is deleted by deleting its folder.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import final

import msgspec
import numpy as np

from nearline.arrays import Columns
from nearline.environment import MAP_BYTES, Environment
from nearline.environment import Transaction as Txn
from nearline.errors import ModelError
from nearline.model.game import GameModel
from nearline.model.saved import load_model, save_model
from nearline.store.codec import Value, decode_named, decode_records
from nearline.store.generations import Generation, Generations, Status, effect_forms
from nearline.store.records import Records
from nearline.store.seam import Changes, PartitionsOf, Writing, require_partition
from nearline.store.seeding import without_entities
from nearline.store.shard import LmdbShard
from nearline.store.transaction import Transaction

_CATALOGUE = "catalogue"
_ALL, _LIVE, _PARTITIONS = b"generations", b"live", b"partitions"


def is_store(folder: Path) -> bool:
    """Whether the folder holds a store."""
    return (Path(folder) / "generations" / "data.mdb").is_file()


@final
class EmbeddedStore:
    """Keeps everything in LMDB environments under one folder: see `nearline.store.seam.ModelStore`.

    Any number of processes may open it, and several threads use it; a process opens it once, after it has forked.

    Parameters
    ----------
    folder : made if it is not there.
    partitions_of : places entities.
    partitions : how many; None for as many as the store has, or 1 if it is new.
    history : how many earlier versions of each record are kept, of those that are written here.
    map_bytes : address space that each environment begins with; it grows by itself.
    """

    def __init__(
        self,
        folder: Path,
        partitions_of: PartitionsOf,
        *,
        partitions: int | None = None,
        history: int = 0,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        if partitions is not None and partitions < 1:
            raise ModelError(f"partitions: expected 1 or more, got {partitions}")
        self._folder = Path(folder)
        self._partitions_of = partitions_of
        self._history = history
        self._map_bytes = map_bytes
        self._catalogue = Environment(self._folder / "generations", [_CATALOGUE], refusal=ModelError)
        self._read: tuple[bytes, Generations] = (b"", Generations())
        self._live: tuple[int, int | None] = (-1, None)
        self._shards: dict[tuple[int, int], LmdbShard] = {}
        self._opening = Lock()
        try:
            self._partitions = self._fix_partitions(partitions)
        except BaseException:
            self.close()
            raise

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._partitions

    def partitions_of(self, effect: str, names: Sequence[str]) -> Columns:
        """The partition each entity's record is in, int32[n]."""
        if self._partitions == 1:
            return np.zeros(len(names), dtype=np.int32)
        return self._partitions_of(effect, names, self._partitions)

    def generations(self) -> Generations:
        """All of them, and which one is live."""
        with self._catalogue.read() as txn:
            content: bytes = txn.get(_ALL, b"", db=self._catalogue[_CATALOGUE])
        if (read := self._read)[0] != content:
            read = self._read = (content, _decoded(content))
        return read[1]

    def live(self) -> int | None:
        """Number of the generation that serves."""
        commit = (
            self._catalogue.last_commit()
        )  # before reading: what is read is of this commit or a later one
        if (known := self._live)[0] != commit:
            with self._catalogue.read() as txn:
                number: bytes | None = txn.get(_LIVE, db=self._catalogue[_CATALOGUE])
            known = self._live = (commit, None if number is None else int(number))
        return known[1]

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
        forms = effect_forms(model)
        generation = self._change(
            lambda all_: all_.begun(
                forms, created_ms=created_ms, level=level, positions=tuple(positions), single=single
            )[0]
        ).known[-1]
        folder = self._of(generation.number)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(without_entities(model), folder / "model")
        return generation

    def model(self, number: int) -> GameModel:
        """The model of a generation, without entities."""
        self.generations().find(number)
        return load_model(self._of(number) / "model")[0]

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
        return self._change(
            lambda all_: all_.marked(number, status, positions=reached, metrics=metrics)
        ).find(number)

    def switch(self, number: int, *, force: bool = False) -> Generation:
        """Make a generation live."""
        return self._change(lambda all_: all_.switched(number, force=force)).find(number)

    def rollback(self) -> Generation:
        """Make the generation live again that was so before."""
        return self._change(Generations.rolled_back).serving()

    def pin(self, number: int, *, pinned: bool = True) -> Generation:
        """Keep a generation for good, or no longer."""
        return self._change(lambda all_: all_.pinned(number, pinned=pinned)).find(number)

    def prune(self, keep: int, *, unfinished: bool = False) -> tuple[int, ...]:
        """Delete the retired and refused generations but the newest `keep`."""
        gone: list[int] = []

        def prune(generations: Generations) -> Generations:
            left, numbers = generations.pruned(keep, unfinished=unfinished)
            gone[:] = numbers
            return left

        left = self._change(prune)
        with self._opening:
            for at in [at for at in self._shards if at[0] in gone]:
                self._shards.pop(at).close()
        kept = {one.number for one in left.known}
        for number in set(range(1, left.last + 1)) - kept:  # also those that a killed process has left
            shutil.rmtree(self._of(number), ignore_errors=True)
        return tuple(gone)

    def get_many(self, generation: int, effect: str, names: Sequence[str]) -> Records:
        """The record of each name, in order."""
        full = self.generations().find(generation).is_full(effect)
        place = self.partitions_of(effect, names)
        values: list[Value | None] = [None] * len(names)
        with ExitStack() as reads:  # always in ascending order, so that threads never wait in a circle
            for partition in np.unique(place).tolist():
                if (shard := self._shard(generation, partition)) is None:
                    continue
                here = np.flatnonzero(place == partition).tolist()
                read = reads.enter_context(shard.reading(effect, [names[i] for i in here]))
                for i, value in zip(here, read, strict=True):
                    values[i] = value
            return decode_named(effect, names, values, full=full)

    def history(self, generation: int, effect: str, name: str) -> Records:
        """The versions of one entity's record that are kept, oldest first, the present one last."""
        full = self.generations().find(generation).is_full(effect)
        shard = self._shard(generation, int(self.partitions_of(effect, [name])[0]))
        return decode_records([] if shard is None else shard.history(effect, name), full=full)

    def names(self, generation: int, effect: str, partition: int) -> list[str]:
        """The entities of a partition that have a record."""
        self.generations().find(generation).is_full(effect)
        shard = self._existing(generation, partition)
        return [] if shard is None else shard.names(effect)

    def count(self, generation: int) -> int:
        """How many records a generation has."""
        shards = [self._existing(generation, partition) for partition in range(self._partitions)]
        return sum(shard.count() for shard in shards if shard is not None)

    def state(self, generation: int, partition: int, key: bytes) -> bytes | None:
        """What the writer of a partition last put under that key."""
        shard = self._existing(generation, partition)
        return None if shard is None else shard.state(key)

    def states(self, generation: int, partition: int, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Keys of a partition that begin so with their values, in the order of their bytes."""
        shard = self._existing(generation, partition)
        return [] if shard is None else shard.states(prefix)

    def changes(self, generation: int, partition: int, since: int) -> Changes:
        """What was written after commit number `since`."""
        shard = self._existing(generation, partition)
        if shard is None:
            return Changes(0, {} if since == 0 else None)
        return shard.changes(since)

    def stamp(self, generation: int, partition: int) -> int:
        """A number that is another one after each commit to the partition."""
        shard = self._shards.get((generation, partition)) or self._existing(generation, partition)
        return 0 if shard is None else shard.stamp()

    @contextmanager
    def writing(self, generation: int, partition: int) -> Iterator[Writing]:
        """A transaction, committed where the block ends."""
        found = self.generations().find(generation)
        require_partition(partition, self._partitions)
        shard = self._shard(generation, partition, create=True)
        assert shard is not None  # noqa: S101 - it was created
        transaction = Transaction(found, partition, self.partitions_of, shard)
        yield transaction
        transaction.commit()

    def close(self) -> None:
        """Let go of files."""
        with self._opening:
            for shard in self._shards.values():
                shard.close()
            self._shards.clear()
        self._catalogue.close()

    def _of(self, number: int) -> Path:
        return self._folder / f"{number:06d}"

    def _existing(self, generation: int, partition: int) -> LmdbShard | None:
        self.generations().find(generation)
        require_partition(partition, self._partitions)
        return self._shard(generation, partition)

    def _shard(self, generation: int, partition: int, *, create: bool = False) -> LmdbShard | None:
        """The environment of a partition, opened once; None if nobody has written to it yet."""
        if (shard := self._shards.get((generation, partition))) is not None:
            return shard
        folder = self._of(generation) / f"{partition:04d}"
        with self._opening:
            if (shard := self._shards.get((generation, partition))) is not None:
                return shard
            if not create and not (folder / "data.mdb").is_file():
                return None
            shard = LmdbShard(folder, history=self._history, map_bytes=self._map_bytes)
            self._shards[generation, partition] = shard
            return shard

    def _change(self, change: Callable[[Generations], Generations]) -> Generations:
        """Replace the catalogue in one commit."""

        def work(txn: Txn) -> Generations:
            database = self._catalogue[_CATALOGUE]
            after = change(_decoded(txn.get(_ALL, b"", db=database)))
            txn.put(_ALL, msgspec.json.encode(after), db=database)
            if after.live is not None:
                txn.put(_LIVE, str(after.live).encode(), db=database)
            return after

        return self._catalogue.write(work)

    def _fix_partitions(self, wanted: int | None) -> int:
        """How many partitions the store has, or gets now."""

        def work(txn: Txn) -> int:
            database = self._catalogue[_CATALOGUE]
            known: bytes | None = txn.get(_PARTITIONS, db=database)
            if known is None:
                txn.put(_PARTITIONS, str(wanted or 1).encode(), db=database)
            return wanted or 1 if known is None else int(known)

        found = self._catalogue.write(work)
        if wanted not in {None, found}:
            raise ModelError(
                f"{self._folder}: expected a store of {wanted} partitions, it has {found}: the number is fixed "
                "when a store is made"
            )
        return found


def _decoded(content: bytes) -> Generations:
    if not content:
        return Generations()
    try:
        return msgspec.json.decode(content, type=Generations)
    except msgspec.MsgspecError as error:
        raise ModelError(f"the list of generations is damaged, or of a newer nearline: {error}") from error
