"""Rows of one effect in one partition -> records: each entity's mini-batches in turn, thousands of entities at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import msgspec
import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.events.dead_letters import DeadLetter
from nearline.events.partition import partitions_of
from nearline.model.effects import RandomEffect
from nearline.posterior import outcomes
from nearline.posterior.update import Status
from nearline.store.seam import Writing
from nearline.stream.apart import learn_all_that_can_be
from nearline.stream.chunks import Chunk, entity_names
from nearline.stream.minibatch import DueRows, MiniBatches, Numbered, Resume, starts
from nearline.stream.minibatch_borders import expected_gain
from nearline.stream.minibatch_settings import MiniBatchSettings
from nearline.stream.pending import Pending
from nearline.stream.take_back import take_back
from nearline.stream.update import Rule, score
from nearline.stream.working_records import WorkingRecords

NOT_LEARNED = "a number is not finite or too large, or the label is not one of its outcome"


@final
class LearnCounts(msgspec.Struct, frozen=True):
    """What became of the rows of a partition; a row counts once for every effect whose entity the partition owns.

    ``rows = learned + taken_back + set_aside + waiting``, always.

    Attributes
    ----------
    rows : rows received.
    learned : rows that went into the evidence of their entity.
    taken_back : corrections that took a row out of it.
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

    def plus(self, other: "LearnCounts") -> "LearnCounts":
        """Both together."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return LearnCounts(*(a + b for a, b in pairs))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """Rows of a partition as they come out of the row log.

    position, time_ms : int64[n], positions that follow one another, and event times.
    chunk : the examples among them.
    learned_to : rows up to this position were taken before, and come again because some of them wait.
    """

    position: Ints
    time_ms: Ints
    chunk: Chunk
    learned_to: int


@final
class EffectLearner:
    """Learns one effect's rows of one partition; holds the rows that wait for their mini-batch.

    Parameters
    ----------
    effect : its columns and prior. rule : how it learns.
    settings : when rows are due. resume : where its waiting rows begin.
    partition, partitions : which entities are learned here.
    threads : of the kernels.
    """

    def __init__(
        self,
        effect: RandomEffect,
        rule: Rule,
        settings: MiniBatchSettings,
        resume: Resume,
        partition: int,
        partitions: int,
        threads: int = 1,
    ) -> None:
        self._effect, self._rule, self._threads = effect, rule, threads
        self._partition, self._partitions = partition, partitions
        self._batches = MiniBatches(settings, resume)
        self._begins_after = resume.position
        self._waiting: Pending | None = None

    @property
    def name(self) -> str:
        """Of the effect."""
        return self._effect.name

    def __len__(self) -> int:
        """How many rows wait."""
        return len(self._batches)

    @property
    def resume(self) -> tuple[int, int]:
        """The position, and event time, after which all rows are that wait."""
        resume = self._batches.resume
        return resume.position, resume.clock_ms

    def step(self, txn: Writing, arrived: Arrived) -> tuple[LearnCounts, list[DeadLetter]]:
        """Learn what the rows that arrived make due."""
        records = WorkingRecords(
            txn, self._effect.name, len(self._effect.prior.mean), full=self._effect.is_full
        )
        entities, received = self._owned(arrived, records)
        pending = Pending.of_chunk(arrived.chunk, self._effect, entities.names)
        if self._waiting is not None:
            pending = self._waiting.then(pending)
        fresh = arrived.position > self._begins_after
        counts, dead = LearnCounts(rows=received), list[DeadLetter]()
        due = self._batches.push(
            arrived.position[fresh],
            arrived.time_ms[fresh],
            Numbered(entities.code[fresh], entities.names),
            gain=lambda asked: self._gain(pending, asked, records),
            apart=bool(pending.takes_back.any()),  # taking back is not done by the kernel that learns
        )
        for rounds in self._together(due, pending):
            work = _by_entity(rounds, records)
            fate = self._learn(work, pending, records)
            counts = counts.plus(fate.counts(len(work.start) - 1))
            dead += self._dead(work, fate, pending)
        self._waiting = pending.at(pending.place(self._batches.waiting))
        records.write()
        return counts, dead

    def _together(self, due: Iterator[DueRows], pending: Pending) -> Iterator[list[DueRows]]:
        """The mini-batches that can be learned in one go: all, if none asks what the one before taught."""
        if self._batches.settings.information is None and not pending.takes_back.any():
            if rounds := list(due):
                yield rounds
        else:
            yield from ([one] for one in due)

    def _owned(self, arrived: Arrived, records: WorkingRecords) -> tuple[Numbered, int]:
        """The entity to learn each row that arrived, none for rows of others; and how many of these rows are new.

        Rows that come again because some of them waited have none where their entity has learned them.
        """
        chunk = arrived.chunk
        column = chunk.examples.entities[self._effect.kind]
        names = entity_names(chunk, self._effect.kind)
        is_mine = partitions_of(self._effect.name, names, self._partitions) == self._partition
        mine = np.flatnonzero(np.append(is_mine, False)[column.codes])
        position = chunk.position[mine]
        again = position <= arrived.learned_to
        wanted = ~again
        if again.any():
            learned_to = records.positions([names[code] for code in column.codes[mine[again]].tolist()])
            wanted[again] = (position[again] > learned_to) & (position[again] > self._begins_after)
        code = np.full(len(arrived.position), -1, dtype=np.int64)
        code[(position - arrived.position[0])[wanted]] = column.codes[mine[wanted]]
        return Numbered(code, names), int(np.count_nonzero(~again))

    def _gain(self, pending: Pending, position: Ints, records: WorkingRecords) -> Floats:
        """What rows would teach by what is known of their entities now, float64[n], in nats."""
        place = pending.place(position)
        numbers = records.numbers(pending.names[place].tolist())
        rows = pending.features(place, np.arange(len(place) + 1, dtype=np.int64))
        observed = pending.observed.at(place)
        mean, variance = score(
            records.known(numbers), rows, self._rule, observed.time_ms, threads=self._threads
        )
        curvature = outcomes.curvature(self._rule.outcome, observed.offset + mean) / self._rule.noise_variance
        return expected_gain(variance, curvature, observed.weight)

    def _learn(self, work: "_Work", pending: Pending, records: WorkingRecords) -> "_Fate":
        """Learn mini-batches: what is new first, then what they take back."""
        place = pending.place(work.position)
        known = records.known(work.numbers)
        batches = len(work.start) - 1
        learned = np.ones(len(place), dtype=np.bool_)
        status = np.zeros(len(place), dtype=np.int64)
        batch = np.repeat(np.arange(batches), np.diff(work.start))
        takes_back = pending.takes_back[place]
        for is_back in (False, True):
            some = np.flatnonzero(takes_back == is_back)
            if len(some) == 0:
                continue
            start = np.zeros(batches + 1, dtype=np.int64)
            np.cumsum(np.bincount(batch[some], minlength=batches), out=start[1:])
            rows, observed = pending.features(place[some], start), pending.observed.at(place[some])
            if is_back:
                done = take_back(known, rows, observed, self._rule)
            else:
                done = learn_all_that_can_be(
                    known, rows, observed, self._rule, batch_start=work.batch_start, threads=self._threads
                )
            known = done.known
            status[some] = done.report.status[batch[some]]
            learned[some] = (done.report.row_learned != 0) & (status[some] == Status.LEARNED)
        more = np.zeros(len(place) + 1, dtype=np.int64)
        np.cumsum(np.where(learned, np.where(takes_back, -1, 1), 0), out=more[1:])
        end = work.start[work.batch_start]
        records.put(work.numbers, known, work.position[end[1:] - 1], np.diff(more[end]))
        return _Fate(learned, status, takes_back)

    def _dead(self, work: "_Work", fate: "_Fate", pending: Pending) -> list[DeadLetter]:
        """A letter for each row that was set aside."""
        letters = []
        for i in np.flatnonzero(~fate.learned).tolist():
            status, position = Status(int(fate.status[i])), int(work.position[i])
            why = NOT_LEARNED if status is Status.LEARNED else status.name.lower().replace("_", " ")
            place = int(pending.place(work.position[i : i + 1])[0])
            time_ms = int(pending.observed.time_ms[place])
            reason = f"{self._effect.name}: {why}"
            letters.append(DeadLetter(position, reason, pending.records[place], time_ms))
        return letters


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Mini-batches of some entities, those of an entity one after the other.

    numbers : int64[entities], in the working records.
    batch_start : int64[entities + 1]; entity e has the mini-batches from batch_start[e] to batch_start[e + 1].
    start : int64[mini-batches + 1]; mini-batch b has the rows from start[b] to start[b + 1].
    position : int64[rows].
    """

    numbers: Ints
    batch_start: Ints
    start: Ints
    position: Ints


def _by_entity(rounds: Sequence[DueRows], records: WorkingRecords) -> _Work:
    """The mini-batches of all rounds, those of an entity side by side and in the order of the rounds."""
    names = rounds[0].entity.names
    every = np.concatenate([np.repeat(due.entity.code, np.diff(due.batch_start)) for due in rounds])
    code, of_code = np.unique(every, return_inverse=True)
    number = records.numbers([names[each] for each in code.tolist()])[of_code]
    position = np.concatenate([due.position for due in rounds])
    size = np.concatenate([np.diff(due.start) for due in rounds])
    begin = np.cumsum(size) - size
    order = np.argsort(number, kind="stable")
    entities, batches = np.unique(number[order], return_counts=True)
    start = starts(size[order])
    at = np.repeat(begin[order] - start[:-1], size[order]) + np.arange(start[-1])
    return _Work(entities, starts(batches), start, position[at])


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Fate:
    """How the rows of mini-batches fared, in their order.

    learned : bool[n]. status : int64[n], of the row's mini-batch. takes_back : bool[n].
    """

    learned: Bools
    status: Ints
    takes_back: Bools

    def counts(self, batches: int) -> LearnCounts:
        """The same as counts."""
        return LearnCounts(
            learned=int(np.count_nonzero(self.learned & ~self.takes_back)),
            taken_back=int(np.count_nonzero(self.learned & self.takes_back)),
            set_aside=int(np.count_nonzero(~self.learned)),
            batches=batches,
        )
