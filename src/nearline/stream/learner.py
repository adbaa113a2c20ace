"""Rows of one partition, in order -> records: the step between the row log and the store.

Everything is read from and written to one transaction of the store: the records, the position learned up to, which rows
wait for their mini-batch, and the counts. So a step is done in full or not at all; and since neither the cut of rows
into steps nor the mini-batches depend on anything but the rows, a learner that is killed and starts again ends with
the same records, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import msgspec
import numpy as np

from nearline.errors import DataError
from nearline.events.dead_letters import DeadLetter, encode_dead_letter
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.store.seam import Writing
from nearline.stream.chunks import ChunkReader
from nearline.stream.effect_learner import Arrived, EffectLearner, LearnCounts
from nearline.stream.joined import decode_rows, is_copy
from nearline.stream.minibatch import Resume
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.update import Rule

PROGRESS_KEY = b"progress"
"""Where a partition keeps its `Progress`."""
DEAD_KEY = b"dead/"
"""Before the position and the effect: where it keeps the dead letters."""


@final
@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a partition learns.

    Attributes
    ----------
    forgetting : by random effect; one that is not there forgets nothing.
    minibatch : when rows are due; by default each row by itself, at once.
    threads : of the kernels.
    """

    forgetting: Mapping[str, Forgetting] = field(default_factory=dict)
    minibatch: MiniBatchSettings = field(default_factory=lambda: MiniBatchSettings(rows=1))
    threads: int = 1


@final
class Progress(msgspec.Struct, frozen=True):
    """How far a partition is.

    Attributes
    ----------
    position : the last row of the row log that was taken.
    counts : what became of the rows.
    waiting : by effect, (position, event time) after which all rows are that wait for their mini-batch.
    """

    position: int = 0
    counts: LearnCounts = LearnCounts()
    waiting: dict[str, tuple[int, int]] = {}

    @property
    def resume_after(self) -> int:
        """The position after which rows are still needed: those to come, and those that wait."""
        return min([self.position, *(position for position, _ in self.waiting.values())])


def progress_of(written: bytes | None) -> Progress:
    """What a step last wrote under `PROGRESS_KEY`."""
    return Progress() if written is None else msgspec.msgpack.decode(written, type=Progress)


@final
class Learner:
    """Learns the rows of one partition into one generation.

    It holds the rows that wait for their mini-batch, so one learner takes all rows of its partition. After a restart a
    new one is given the rows after `Progress.resume_after` again.

    Parameters
    ----------
    model : of the generation: its fixed effect, columns and priors.
    generation : its number; rows served by another generation are rescored by this one's fixed effect.
    partition, partitions : which entities it owns, out of how many partitions.
    settings : how to learn.
    progress : how far the partition is.
    """

    def __init__(
        self,
        model: GameModel,
        generation: int,
        partition: int,
        partitions: int,
        settings: LearnSettings,
        progress: Progress,
    ) -> None:
        self._reader = ChunkReader(model, generation)
        self._effects = [
            EffectLearner(
                effect,
                Rule(
                    effect.prior,
                    model.outcome,
                    model.noise_variance,
                    settings.forgetting.get(effect.name, Forgetting()),
                ),
                settings.minibatch,
                Resume(*progress.waiting.get(effect.name, (progress.position, -1))),
                partition,
                partitions,
                settings.threads,
            )
            for effect in model.random
        ]
        self.taken_to = progress.resume_after
        """The position whose followers are to be given next."""

    def step(self, txn: Writing, first: int, rows: Sequence[bytes]) -> Progress:
        """Take the rows at positions first, first + 1, ... of the row log, and learn what is due.

        Raises
        ------
        DataError
            They are not the rows that follow.
        """
        if first != self.taken_to + 1:
            raise DataError(f"row log: expected position {self.taken_to + 1}, got {first}")
        before = progress_of(txn.get_state(PROGRESS_KEY))
        joined = decode_rows(rows)
        position = np.arange(first, first + len(rows))
        chunk, dead = self._reader.read(position, joined)
        arrived = Arrived(position, joined.time_ms, chunk, before.position)
        _put_letters(txn, [letter for letter in dead if not is_copy(rows[letter.position - first])], "")
        counts = before.counts
        for effect in self._effects:
            more, letters = effect.step(txn, arrived)
            counts = counts.plus(more)
            _put_letters(txn, letters, effect.name)
        self.taken_to = first + len(rows) - 1
        if self.taken_to >= before.position:  # else rows that wait are still to come again
            counts = msgspec.structs.replace(counts, waiting=sum(map(len, self._effects)))
        waiting = {effect.name: effect.resume for effect in self._effects}
        progress = Progress(max(self.taken_to, before.position), counts, waiting)
        txn.put_state(PROGRESS_KEY, msgspec.msgpack.encode(progress))
        return progress


def _put_letters(txn: Writing, letters: Sequence[DeadLetter], effect: str) -> None:
    """Keep dead letters by position and effect, so that one that comes again after a restart is there once."""
    for letter in letters:
        txn.put_state(DEAD_KEY + b"%020d/%s" % (letter.position, effect.encode()), encode_dead_letter(letter))
