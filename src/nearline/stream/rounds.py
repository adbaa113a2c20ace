"""Several mini-batches of many entities -> what is then known, in as few calls of `learn` as their order allows.

An entity's mini-batches have to be learned one after the other, those of different entities do not. So round k
learns the k-th mini-batch of every entity that has so many. With the entities ordered by how many they have, the ones
that a round is about come first, and what is known of the others is final.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nearline.arrays import Bools, Ints
from nearline.posterior.blocks import Blocks, FeatureRows, packed_starts
from nearline.posterior.update import Status
from nearline.stream.effect_rows import EffectRows
from nearline.stream.given_others import Observed
from nearline.stream.take_back import take_back
from nearline.stream.update import Known, Rule, learn


@final
@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Mini-batches of m entities of one effect, as columns with one entry for each row to be learned.

    Attributes
    ----------
    row : int64[n] into the rows of the effect; within a mini-batch in the order to learn them.
    entity : int64[n], 0 to m - 1. Entity e has as many mini-batches as e + 1 or more: those with most come first.
    number : int64[n], which of its entity's mini-batches the row is in: 0, 1, ...
    takes_back : bool[n], whether the row is taken back; such a row is a mini-batch of its own.
    """

    row: Ints
    entity: Ints
    number: Ints
    takes_back: Bools


@final
@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How the rows of the batches fared, in their order.

    learned : bool[n]; False where the row was set aside, or could not be taken back.
    status : int8[n], how the mini-batch of the row ended, of `nearline.posterior.Status`.
    """

    learned: Bools
    status: Ints


def learn_in_rounds(
    known: Known, batches: Batches, rows: EffectRows, observed: Observed, rule: Rule, *, threads: int = 1
) -> tuple[Known, Outcomes]:
    """Learn every mini-batch, each entity's in the order of their numbers.

    `observed` is of all rows of the effect, `known` of the entities of the batches.
    """
    order = np.lexsort((batches.entity, batches.takes_back, batches.number))
    rounds = np.searchsorted(batches.number[order], np.arange(batches.number.max(initial=-1) + 2))
    learned = np.ones(len(batches.row), dtype=np.bool_)
    status = np.zeros(len(batches.row), dtype=np.int64)
    final_parts: list[Known] = []
    for begin, end in zip(rounds[:-1].tolist(), rounds[1:].tolist(), strict=True):
        here = order[begin:end]
        busy = int(batches.entity[here].max()) + 1
        final_parts.append(_between(known, busy, len(known.as_of_ms)))
        known = _between(known, 0, busy)
        for takes_back in (False, True):
            some = here[batches.takes_back[here] == takes_back]
            if len(some) == 0:
                continue
            index, entity = batches.row[some], batches.entity[some]
            grouped = _among_all(rows.at(index).rows, entity, busy)
            step = _step(grouped, _observed_at(observed, index), known, rule, takes_back, threads)
            known, row_learned, of_entity = step
            learned[some] = row_learned
            status[some] = of_entity[entity]
    return _joined([known, *reversed(final_parts)]), Outcomes(learned, status)


def _step(
    rows: FeatureRows, observed: Observed, known: Known, rule: Rule, takes_back: bool, threads: int
) -> tuple[Known, Bools, Ints]:
    if takes_back:
        done = take_back(known, rows, observed, rule)
    else:
        done = learn(known, rows, observed, rule, threads=threads)
    status = done.report.status.astype(np.int64)
    fitted = np.repeat(status, rows.rows_per_entity) == Status.LEARNED
    row_learned = done.report.row_learned != 0
    row_learned[rows.row if rows.row is not None else slice(None)] &= fitted
    return done.known, row_learned, status


def _among_all(rows: FeatureRows, entity: Ints, entities: int) -> FeatureRows:
    """The rows grouped by entities 0 to `entities` - 1, whether they have a row or not."""
    start = np.zeros(entities + 1, dtype=np.int64)
    np.cumsum(np.bincount(entity, minlength=entities), out=start[1:])
    return replace(rows, row_start=start)


def _observed_at(observed: Observed, index: Ints) -> Observed:
    return Observed(
        observed.y[index],
        observed.weight[index],
        observed.offset[index],
        observed.variance[index],
        observed.time_ms[index],
        None if observed.own is None else observed.own[index],
    )


def _between(known: Known, begin: int, end: int) -> Known:
    """What is known of entities begin, ..., end - 1."""
    evidence = known.evidence
    first, last = int(evidence.start[begin]), int(evidence.start[end])
    start = evidence.start[begin : end + 1] - first
    column = None if evidence.column is None else evidence.column[first:last]
    if evidence.packed_start is None:
        precision, packed_start = evidence.precision[first:last], None
    else:
        packed = slice(int(evidence.packed_start[begin]), int(evidence.packed_start[end]))
        precision, packed_start = evidence.precision[packed], packed_starts(start)
    blocks = Blocks(start, evidence.mean[first:last], precision, column, packed_start, evidence.full)
    return Known(blocks, known.as_of_ms[begin:end])


def _joined(parts: list[Known]) -> Known:
    """What is known of the entities of all parts, one part after the other."""
    evidence = [part.evidence for part in parts]
    full = evidence[0].full
    size = np.concatenate([np.diff(blocks.start) for blocks in evidence])
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    blocks = Blocks(
        start,
        np.concatenate([part.mean for part in evidence]),
        np.concatenate([part.precision for part in evidence]),
        np.concatenate([part.column for part in evidence if part.column is not None]),
        packed_starts(start) if full else None,
        full,
    )
    return Known(blocks, np.concatenate([part.as_of_ms for part in parts]))
