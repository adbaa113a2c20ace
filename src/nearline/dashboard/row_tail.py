"""The last labelled rows of a deployment, each with what served it, read and decoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nearline.arrays import Bools, Ints
from nearline.events.wire import ImpressionHead, decode_heads
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.stream.chunks import ChunkReader
from nearline.stream.drift import Predicted
from nearline.stream.drift_watch import as_served, is_first_copy, route_of
from nearline.stream.joined import Kind, decode_rows, take_rows
from nearline.stream.joined_log import JoinedLog

Names = Sequence[str | None]


@final
@dataclass(frozen=True, slots=True, eq=False)
class ServedRows:
    """Labelled examples and what served them, n of each, in the order in which their labels became known.

    Attributes
    ----------
    ids : of the impressions. records : their bytes.
    shown_ms, known_ms : int64[n], event time when they were shown, and from which on the label is known.
    joined_ms : int64[n], when they were written to the row log, by the clock of the worker.
    generation : int64[n], that served; 0 is none.
    entities : kind of entity to the names, None where a row has none.
    predicted : response, weight and what each part of the model said as served.
    """

    ids: Sequence[str]
    records: Sequence[bytes]
    shown_ms: Ints
    known_ms: Ints
    joined_ms: Ints
    generation: Ints
    entities: Mapping[str, Names]
    predicted: Predicted

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Ints) -> "ServedRows":
        """Those rows, int64."""
        some, predicted = index.tolist(), self.predicted
        return ServedRows(
            ids=[self.ids[i] for i in some],
            records=[self.records[i] for i in some],
            shown_ms=self.shown_ms[index],
            known_ms=self.known_ms[index],
            joined_ms=self.joined_ms[index],
            generation=self.generation[index],
            entities={kind: [names[i] for i in some] for kind, names in self.entities.items()},
            predicted=Predicted(
                predicted.y[index],
                predicted.weight[index],
                predicted.shared[index],
                {effect: mean[index] for effect, mean in predicted.mean.items()},
                {effect: variance[index] for effect, variance in predicted.variance.items()},
            ),
        )

    def of(self, kind: str, name: str) -> Ints:
        """Where the rows of an entity are, int64."""
        return np.array([i for i, one in enumerate(self.entities.get(kind, ())) if one == name], np.int64)

    def was_served(self) -> Bools:
        """Whether some generation served the row, bool[n]: else there is no prediction to judge."""
        return self.generation > 0


@final
class RowTail:
    """Keeps the last `most` examples of a row log; never reads further back than that.

    Of an example that went to several partitions one row counts, and of one that was corrected the last.

    Parameters
    ----------
    model, number : the live generation; its effects are those that are told apart.
    """

    def __init__(self, rows: JoinedLog, model: GameModel, number: int, partitions: int, most: int) -> None:
        self._log, self._most, self._partitions = rows, most, partitions
        self._reader, self._route = ChunkReader(model, number), route_of(model, partitions)
        self._kinds = tuple(dict.fromkeys(effect.kind for effect in model.random))
        self._effects = tuple(effect.name for effect in model.random)
        self._position = [0] * partitions
        self.rows = self._decoded([], np.zeros(0, np.int64), 0)

    def refresh(self) -> ServedRows:
        """Read what is new."""
        new = [self._new(partition) for partition in range(self._partitions)]
        if any(len(one) for one in new):
            rows = _joined([self.rows, *new])
            order = np.argsort(rows.known_ms, kind="stable")[-self._most :]
            last = {rows.ids[i]: place for place, i in enumerate(order.tolist())}
            self.rows = rows.take(order[np.sort(np.array(list(last.values()), np.int64))])
        return self.rows

    def _new(self, partition: int) -> ServedRows:
        begin, end = self._log.begin(partition), self._log.end(partition)
        after = max(self._position[partition], end - self._most // self._partitions, begin - 1)
        batch, appended_ms = self._log.read_appended(after, max(end - after, 1), partition)
        self._position[partition] = max(after, batch.last)
        return self._decoded(batch.records, appended_ms, partition)

    def _decoded(self, records: Sequence[bytes], appended_ms: Ints, partition: int) -> ServedRows:
        rows = decode_rows(records)
        learned = np.flatnonzero(rows.kind == Kind.LEARN)
        is_first = is_first_copy([rows.records[i] for i in learned.tolist()], partition, self._route)
        mine = learned[np.array(is_first, np.bool_)]
        chunk, _ = self._reader.read(np.arange(len(mine)), take_rows([rows], [mine]))
        mine, examples = mine[chunk.position], chunk.examples
        found = [rows.records[i] for i in mine.tolist()]
        heads = decode_heads(found)
        assert examples.time_ms is not None  # noqa: S101 - impressions have a time
        served = as_served(chunk)
        return ServedRows(
            ids=[head.id for head in heads if isinstance(head, ImpressionHead)],
            records=found,
            shown_ms=examples.time_ms,
            known_ms=rows.time_ms[mine],
            joined_ms=appended_ms[mine],
            generation=chunk.served.generation,
            entities={kind: _names(examples, kind) for kind in self._kinds},
            predicted=replace(
                served,
                mean={effect: served.mean[effect] for effect in self._effects},
                variance={effect: served.variance[effect] for effect in self._effects},
            ),
        )


def _names(examples: Examples, kind: str) -> list[str | None]:
    column = examples.entities[kind]
    names: list[str | None] = [*column.names.to_pylist(), None]  # a row without one has the code -1
    return [names[code] for code in column.codes.tolist()]


def _joined(parts: Sequence[ServedRows]) -> ServedRows:
    predicted = [part.predicted for part in parts]
    first = parts[0]
    return ServedRows(
        ids=[one for part in parts for one in part.ids],
        records=[one for part in parts for one in part.records],
        shown_ms=np.concatenate([part.shown_ms for part in parts]),
        known_ms=np.concatenate([part.known_ms for part in parts]),
        joined_ms=np.concatenate([part.joined_ms for part in parts]),
        generation=np.concatenate([part.generation for part in parts]),
        entities={kind: [one for part in parts for one in part.entities[kind]] for kind in first.entities},
        predicted=Predicted(
            np.concatenate([one.y for one in predicted]),
            np.concatenate([one.weight for one in predicted]),
            np.concatenate([one.shared for one in predicted]),
            {effect: np.concatenate([one.mean[effect] for one in predicted]) for effect in predicted[0].mean},
            {
                effect: np.concatenate([one.variance[effect] for one in predicted])
                for effect in predicted[0].mean
            },
        ),
    )
