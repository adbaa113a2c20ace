"""Rows of the row log -> labelled examples with what served them, as columns."""

from dataclasses import dataclass
from typing import cast, final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import DataError
from nearline.events.dead_letters import DeadLetter
from nearline.events.examples import Served, examples_from_records
from nearline.events.impression import Impression
from nearline.events.wire import decode_event
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.stream.given_others import Observed
from nearline.stream.joined import Kind, Rows

UNREADABLE = "row: damaged in the row log: it cannot be read as a labelled example"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows that are examples, as columns of n entries.

    Attributes
    ----------
    position : int64[n], in the row log, ascending.
    takes_back : bool[n], whether the row takes an example back.
    examples, served : what was shown, and what the parts of the model contributed.
    linear : float64[n], offset and fixed effect.
    records : of the impressions.
    """

    position: Ints
    takes_back: Bools
    examples: Examples
    served: Served
    linear: Floats
    records: list[bytes]

    def observed(self, effect: str) -> Observed:
        """The rows as one random effect meets them: the others as served, in mean and variance.

        They are added in the order of their names, so that a row comes out the same whatever rows are beside it.
        """
        others = sorted(name for name in self.served.mean if name != effect)
        variance = [np.zeros(len(self.position)), *(self.served.variance[name] for name in others)]
        assert self.examples.time_ms is not None  # noqa: S101 - impressions have a time
        return Observed(
            y=self.examples.response,
            weight=self.examples.weight,
            offset=np.sum([self.linear, *(self.served.mean[name] for name in others)], axis=0),
            variance=np.sum(variance, axis=0),
            time_ms=self.examples.time_ms,
            own=self.served.mean[effect],
        )


@final
class ChunkReader:
    """Reads rows for one generation: those served by another are rescored by this one's fixed effect.

    `model` is the generation's, `generation` its number.
    """

    def __init__(self, model: GameModel, generation: int) -> None:
        self._model, self._generation = model, generation
        bags = [*model.fixed.bags, *(bag for effect in model.random for bag in effect.bags)]
        self._bags = tuple(dict.fromkeys(bags))
        self._kinds = tuple(dict.fromkeys(effect.kind for effect in model.random))
        self._effects = tuple(effect.name for effect in model.random)

    def read(self, position: Ints, rows: Rows) -> tuple[Chunk, list[DeadLetter]]:
        """The examples among the rows at these positions, and those rows that cannot be read."""
        here = np.flatnonzero(rows.kind <= Kind.TAKE_BACK)
        dead = [
            DeadLetter(int(position[i]), UNREADABLE, rows.records[i], int(rows.time_ms[i]))
            for i in np.flatnonzero(rows.kind == Kind.UNREADABLE).tolist()
        ]
        try:
            examples, served = self._examples(rows, here)
        except DataError:
            faults = {i: fault for i in here.tolist() if (fault := fault_of(rows.records[i])) is not None}
            dead += [
                DeadLetter(int(position[i]), fault, rows.records[i], int(rows.time_ms[i]))
                for i, fault in faults.items()
            ]
            here = np.array([i for i in here.tolist() if i not in faults], dtype=np.int64)
            examples, served = self._examples(rows, here)
        fixed, other = served.fixed, served.generation != self._generation
        if other.any():
            fixed = np.where(other, self._model.fixed.contribution(examples), fixed)
        records = _chosen(rows.records, here)
        takes_back = rows.kind[here] == Kind.TAKE_BACK
        return Chunk(position[here], takes_back, examples, served, examples.offset + fixed, records), dead

    def _examples(self, rows: Rows, here: Ints) -> tuple[Examples, Served]:
        return examples_from_records(
            _chosen(rows.records, here),
            rows.label[here],
            rows.weight[here],
            bags=self._bags,
            kinds=self._kinds,
            effects=self._effects,
        )


def _chosen(records: list[bytes], here: Ints) -> list[bytes]:
    return records if len(here) == len(records) else [records[i] for i in here.tolist()]


def entity_names(chunk: Chunk, kind: str) -> list[str]:
    """The names that the entities' codes stand for."""
    return cast("list[str]", chunk.examples.entities[kind].names.to_pylist())


def fault_of(record: bytes) -> str | None:
    """Why a record is no impression, or None if it is one."""
    try:
        event = decode_event(record)
    except DataError as error:
        return str(error)
    return None if isinstance(event, Impression) else f"expected an impression, got {type(event).__name__}"
