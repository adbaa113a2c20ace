"""A trained model -> a generation that workers can learn into."""

from collections.abc import Sequence

import msgspec

from nearline.errors import ModelError
from nearline.model.game import GameModel
from nearline.store.generations import Generation, Status
from nearline.store.seam import ModelStore
from nearline.store.seeding import write_entities
from nearline.stream.joined_log import JoinedLog
from nearline.stream.learner import PROGRESS_KEY, Progress


def publish(
    store: ModelStore,
    model: GameModel,
    *,
    created_ms: int,
    as_of_ms: int,
    positions: Sequence[int],
    level: int = 1,
    single: bool = False,
) -> Generation:
    """Make a model a candidate of a store: its records, and how far each partition is in the row log.

    `as_of_ms` is the time its evidence is discounted to, `positions` the last row of each partition that it has
    learned. If this is not finished the generation stays in training, and nobody reads it.
    """
    reached = tuple(positions)
    number = store.create(model, created_ms=created_ms, level=level, positions=reached, single=single).number
    write_entities(store, number, model, as_of_ms=as_of_ms, positions=reached)
    for partition, position in enumerate(reached):
        with store.writing(number, partition) as txn:
            txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(Progress(position)))
    return store.mark(number, Status.CANDIDATE)


def positions_in(rows: JoinedLog, partitions: int, *, has_learned_all: bool) -> tuple[int, ...]:
    """Where a model goes on in each partition: after all rows there are, if it has learned them, or with the first.

    Raises a `ModelError` if the first are not there any more.
    """
    if has_learned_all:
        return tuple(rows.end(partition) for partition in range(partitions))
    for partition in range(partitions):
        if (begin := rows.begin(partition)) > 1:
            raise ModelError(
                f"row log: the rows before {begin} of partition {partition} were trimmed, so a model cannot learn "
                "from the first; publish one that has learned them, with --after-rows"
            )
    return (0,) * partitions
