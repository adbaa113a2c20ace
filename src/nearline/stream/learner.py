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

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import DataError, ModelError
from nearline.events.examples import Served, to_examples
from nearline.events.impression import Impression
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

_PROGRESS = b"progress"
_WAITING = b"waiting/"
_DEAD = b"dead/"


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

    ``rows = learned + taken_back + set_aside + waiting``, always.

    Attributes
    ----------
    rows : rows received.
    learned : rows that are in the evidence of their entity.
    taken_back : corrections that were taken out of it.
    set_aside : rows that could not be learned or taken back; each is a dead letter with its reason.
    waiting : rows whose mini-batch is not due yet.
    batches : mini-batches learned.
    """

    rows: int = 0
    learned: int = 0
    taken_back: int = 0
    set_aside: int = 0
    waiting: int = 0
    batches: int = 0


@final
class Progress(msgspec.Struct, frozen=True):
    """How far a partition is: the last position of the row log, the latest event time there, and the counts."""

    position: int = 0
    time_ms: int = 0
    counts: LearnCounts = LearnCounts()


def progress_of(written: bytes | None) -> Progress:
    """What `Learner.step` last wrote under `PROGRESS_KEY`."""
    return Progress() if written is None else msgspec.msgpack.decode(written, type=Progress)


@final
@dataclass(frozen=True, slots=True, eq=False)
class SetAside:
    """A row that could not be learned or taken back: its position in the row log, the effect, and why."""

    position: int
    effect: str
    reason: str


@final
class Learner:
    """Learns the rows of one partition into one generation.

    Parameters
    ----------
    model : of the generation: its fixed effect, columns and priors.
    generation : its number; rows served by another generation are rescored by this one's fixed effect.
    partition, partitions : which entities it owns.
    settings : how to learn.
    """

    def __init__(
        self, model: GameModel, generation: int, partition: int, partitions: int, settings: LearnSettings
    ) -> None:
        self._model, self._generation = model, generation
        self._partition, self._partitions = partition, partitions
        self._settings = settings
        self._rules = {
            effect.name: Rule(
                effect.prior,
                model.outcome,
                model.noise_variance,
                settings.forgetting.get(effect.name, Forgetting()),
            )
            for effect in model.random
        }

    def step(self, txn: Writing, first: int, rows: Sequence[bytes]) -> Progress:
        """Learn the rows at positions first, first + 1, ... of the row log, those in the records already excepted.

        Raises
        ------
        DataError
            Positions are missing between what was learned and `first`.
        """
        progress = progress_of(txn.get_state(PROGRESS_KEY))
        if first > progress.position + 1:
            raise DataError(f"row log: expected position {progress.position + 1}, got {first}")
        known = progress.position + 1 - first
        rows, first = rows[known:], first + max(known, 0)
        if not rows:
            return progress
        chunk = _read_chunk(first, rows)
        counts = progress.counts
        for effect in self._model.random:
            mine = self._rows_of(effect, chunk)
            counts = self._learn(txn, effect, chunk, mine, counts)
        time_ms = max(progress.time_ms, int(chunk.time_ms.max()))
        progress = Progress(first + len(rows) - 1, time_ms, counts)
        txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(progress))
        return progress
