"""What the rest of nearline asks of a place where records are kept."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, final

import msgspec

from nearline.arrays import Columns
from nearline.errors import ModelError
from nearline.model.game import GameModel
from nearline.store.generations import Generation, Generations, Status
from nearline.store.records import Records

PartitionsOf: TypeAlias = Callable[[str, Sequence[str], int], Columns]
"""Effect, names of entities and number of partitions -> the partition of each entity, int32[n]."""


@final
class Changes(msgspec.Struct, frozen=True):
    """What was written to a partition of a generation since some commit.

    Attributes
    ----------
    commit : the commit that this goes up to.
    names : by effect, entities with a new record, each once; None where the feed no longer reaches back so far,
        so that every entity may have changed.
    """

    commit: int
    names: Mapping[str, tuple[str, ...]] | None


class Writing(Protocol):
    """One transaction on one partition of one generation. It sees what it has written itself."""

    def get_many(self, effect: str, names: Sequence[str]) -> Records:
        """The record of each name, in order; of an entity nobody has seen, version 0 and no evidence."""

    def put_many(self, effect: str, names: Sequence[str], records: Records) -> None:
        """Write the next record of each name, which must differ from one another.

        Raises
        ------
        StaleWriteError
            A record's version is not one more than the version that is there.
        ModelError
            A name occurs twice or belongs to another partition, or a record is not finite or of the wrong form.
        """

    def get_state(self, key: bytes) -> bytes | None:
        """What was last put under that key."""

    def put_state(self, key: bytes, value: bytes | None) -> None:
        """Keep `value` beside the records, or drop the key if it is None. Keys have 1 to 500 bytes."""

    def states(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Keys that begin so with their values, in the order of their bytes."""


class ModelStore(Protocol):
    """Keeps the records of entities, version by version and generation by generation.

    Promises:

    - What a `writing` block wrote is there in full or not at all, on this machine's disk when the block ends, also
      if the process is killed at any instant. A block that raises writes nothing.
    - A block whose partition someone else has written to since it began writes nothing and raises `StaleWriteError`.
    - A read sees one state of each partition, never part of a commit. Reads neither wait for writers nor stop them.
    - `switch` and `rollback` take effect in one instant for every reader of `live`, in every process.
    - Partitions of one generation, and generations, never touch one another.
    """

    @property
    def partitions(self) -> int:
        """How many partitions there are; fixed when the store is made."""

    def partitions_of(self, effect: str, names: Sequence[str]) -> Columns:
        """The partition each entity's record is in, int32[n]."""

    def generations(self) -> Generations:
        """All of them, and which one is live."""

    def live(self) -> int | None:
        """Number of the generation that serves; cheap enough to ask before each request."""

    def create(
        self,
        model: GameModel,
        *,
        created_ms: int,
        level: int = 1,
        positions: Sequence[int] = (),
        single: bool = False,
    ) -> Generation:
        """Begin a generation with the fixed effect, priors and columns of `model`; it is in training.

        The model's entities are not taken along: `nearline.store.seeding.write_entities` writes their records.
        """

    def model(self, number: int) -> GameModel:
        """The model of a generation, without entities."""

    def mark(
        self,
        number: int,
        status: Status,
        *,
        positions: Sequence[int] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> Generation:
        """Say that a generation is training, a candidate, or refused."""

    def switch(self, number: int, *, force: bool = False) -> Generation:
        """Make a generation live. One in training or refused only by `force`."""

    def rollback(self) -> Generation:
        """Make the generation live again that was so before."""

    def pin(self, number: int, *, pinned: bool = True) -> Generation:
        """Keep a generation for good, or no longer."""

    def prune(self, keep: int, *, unfinished: bool = False) -> tuple[int, ...]:
        """Delete the retired and refused generations but the newest `keep`; returns the numbers of those deleted."""

    def get_many(self, generation: int, effect: str, names: Sequence[str]) -> Records:
        """The record of each name, in order; of an entity nobody has seen, version 0 and no evidence."""

    def history(self, generation: int, effect: str, name: str) -> Records:
        """The versions of one entity's record that are kept, oldest first, the present one last."""

    def names(self, generation: int, effect: str, partition: int) -> list[str]:
        """The entities of a partition that have a record, in no order to rely on."""

    def count(self, generation: int) -> int:
        """How many records a generation has."""

    def state(self, generation: int, partition: int, key: bytes) -> bytes | None:
        """What the writer of a partition last put under that key."""

    def states(self, generation: int, partition: int, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Keys of a partition that begin so with their values, in the order of their bytes."""

    def changes(self, generation: int, partition: int, since: int) -> Changes:
        """What was written after commit number `since`; 0 is before the first."""

    def stamp(self, generation: int, partition: int) -> int:
        """A number that is another one after each commit to the partition, in any process.

        Cheap enough to ask at each request: what was read after the stamp was taken is what is there as long as it
        does not change. `changes` says what did.
        """

    def writing(self, generation: int, partition: int) -> AbstractContextManager[Writing]:
        """A transaction, committed where the block ends."""

    def close(self) -> None:
        """Let go of files; the store cannot be used afterwards."""


def require_partition(partition: int, partitions: int) -> None:
    """Raise a `ModelError` unless there is such a partition."""
    if not 0 <= partition < partitions:
        raise ModelError(f"partition: expected 0 to {partitions - 1}, got {partition}")
