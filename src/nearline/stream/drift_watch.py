"""The last rows of the row log, as they were served -> whether the live generation has drifted.

It remembers nothing: the answer is a function of the row log and of the generation's metrics.
"""

from collections.abc import Sequence
from typing import Protocol, final

import numpy as np

from nearline.events.impression import Impression
from nearline.events.log import Batch
from nearline.events.wire import ImpressionHead, decode_heads
from nearline.model.game import GameModel
from nearline.store.seam import ModelStore
from nearline.stream.chunks import Chunk, ChunkReader
from nearline.stream.drift import (
    Drift,
    DriftSettings,
    Figures,
    Predicted,
    drift_between,
    figures_in,
    figures_of,
)
from nearline.stream.join_routes import Route, route_by_entity
from nearline.stream.joined import Kind, Rows, decode_rows, take_rows


class RowLog(Protocol):
    """Labelled examples by partition, to be read: a `JoinedLog`."""

    def read(self, after: int, limit: int, partition: int) -> Batch:
        """Up to `limit` rows of a partition that follow position `after`."""

    def begin(self, partition: int) -> int:
        """The position of the partition's oldest row there is."""

    def end(self, partition: int) -> int:
        """The position of the partition's last row."""


def route_of(model: GameModel, partitions: int) -> Route:
    """Which partitions an impression goes to, as the join has it."""
    return route_by_entity({effect.name: effect.kind for effect in model.random}, partitions)


def is_first_copy(records: Sequence[bytes], partition: int, route: Route) -> list[bool]:
    """Whether the partition is the lowest that an impression went to: its copies elsewhere do not count twice."""
    heads = decode_heads(records)
    return [
        isinstance(head, ImpressionHead | Impression) and route(head)[:1] == (partition,) for head in heads
    ]


def as_served(chunk: Chunk) -> Predicted:
    """What served the rows, by part."""
    shared = chunk.examples.offset + chunk.served.fixed
    served = chunk.served
    return Predicted(chunk.examples.response, chunk.examples.weight, shared, served.mean, served.variance)


@final
class DriftWatch:
    """Looks at how the live generation has predicted lately."""

    def __init__(self, log: RowLog, store: ModelStore, settings: DriftSettings | None = None) -> None:
        self._log, self._store = log, store
        self._settings = settings or DriftSettings()

    def look(self) -> Drift:
        """Whether it has drifted.

        Raises
        ------
        ModelError
            No generation is live.
        """
        generation = self._store.generations().serving()
        now = self._lately(generation.number)
        then = figures_in(generation.metrics)
        words = () if now is None or then is None else drift_between(now, then, self._settings)
        return Drift(generation.number, now, then, words)

    def _lately(self, number: int) -> Figures | None:
        """Of the last rows that the generation served."""
        model, partitions = self._store.model(number), self._store.partitions
        route, wanted = route_of(model, partitions), self._settings.rows
        parts: list[Rows] = []
        for partition in range(partitions):
            after = max(self._log.end(partition) - wanted, self._log.begin(partition) - 1)
            rows = decode_rows(self._log.read(after, wanted, partition).records)
            learned = np.flatnonzero(rows.kind == Kind.LEARN)
            mine = is_first_copy([rows.records[i] for i in learned.tolist()], partition, route)
            parts.append(take_rows([rows], [learned[np.array(mine, dtype=np.bool_)]]))
        rows = take_rows(parts, [np.arange(len(part.records)) for part in parts])
        last = np.sort(np.argsort(rows.time_ms, kind="stable")[-wanted:])
        rows = take_rows([rows], [last])
        chunk, _ = ChunkReader(model, number).read(np.arange(len(last)), rows)
        own = np.flatnonzero(chunk.served.generation == number)
        if len(own) < self._settings.least_rows:
            return None
        served = as_served(chunk)
        mean = {effect.name: served.mean[effect.name][own] for effect in model.random}
        variance = {effect.name: served.variance[effect.name][own] for effect in model.random}
        predicted = Predicted(served.y[own], served.weight[own], served.shared[own], mean, variance)
        return figures_of(predicted, model.outcome, model.noise_variance)
