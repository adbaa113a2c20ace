"""Rows that a candidate has not been trained on -> whether it predicts them as well as what served them.

Each row is predicted as it was when it was served: before any row is learned whose label became known later than
that. The candidate so knows no more than the generation that served had a chance to know, and somewhat less where
many rows are learned at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final
from zlib import crc32

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.batch.from_rows import Cut, RowRange, standing
from nearline.events.impression import Impression
from nearline.events.wire import ImpressionHead, decode_heads
from nearline.model.effects import RandomEffect, design
from nearline.model.game import GameModel
from nearline.posterior.evidence import select_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.store.seam import ModelStore
from nearline.stream.chunks import Chunk, ChunkReader, entity_names
from nearline.stream.drift import Figures, Predicted, figures_of
from nearline.stream.drift_watch import as_served, is_first_copy, route_of
from nearline.stream.effect_rows import EffectRows
from nearline.stream.joined import take_rows
from nearline.stream.learner import LearnSettings
from nearline.stream.update import NEVER, Known, Rule, score


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found.

    Attributes
    ----------
    candidate, served : figures of the same rows; None if there was no row to judge by.
    margin : the candidate's loss may be higher by so much.
    """

    candidate: Figures | None
    served: Figures | None
    margin: float

    @property
    def passes(self) -> bool | None:
        """Whether the candidate may serve; None if there was nothing to judge by."""
        if self.candidate is None or self.served is None:
            return None
        return self.candidate.loss <= self.served.loss + self.margin

    def as_metrics(self) -> dict[str, float]:
        """What a generation keeps: the candidate's figures, and those it was held against. Finite numbers only."""
        found = {"margin": self.margin}
        if self.candidate is not None and self.served is not None:
            served = {"served_loss": self.served.loss, "served_calibration": self.served.calibration}
            found |= self.candidate.as_metrics() | served
        return {name: value for name, value in found.items() if np.isfinite(value)}


def judged_rows(
    ranges: Sequence[RowRange], cut: Cut, model: GameModel, share: float
) -> Sequence[tuple[RowRange, Ints]]:
    """The rows of each partition that a candidate is judged by: shown and labelled after the cut, each example once.

    `share` of the impressions, by the CRC-32 of their id.
    """
    route = route_of(model, len(ranges))
    chosen = []
    for partition, (rows, position) in enumerate(zip(ranges, cut.positions, strict=True)):
        stands = standing(rows.rows)
        later = stands[rows.position[stands] > position]
        records = [rows.rows.records[i] for i in later.tolist()]
        first = is_first_copy(records, partition, route)
        mine = [
            i
            for i, head, is_mine in zip(later.tolist(), decode_heads(records), first, strict=True)
            if is_mine
            and isinstance(head, ImpressionHead | Impression)  # as all that are the partition's own are
            and head.time_ms > cut.horizon_ms
            and crc32(head.id.encode()) < share * 2**32
        ]
        chosen.append((rows, np.array(mine, dtype=np.int64)))
    return chosen


@final
class Judge:
    """Predicts rows by a candidate as it learns.

    Parameters
    ----------
    store, number : where the candidate's records are. model : of the candidate.
    rows : to be judged, as `judged_rows` chooses them.
    settings : how the candidate learns.
    """

    def __init__(
        self,
        store: ModelStore,
        number: int,
        model: GameModel,
        rows: Sequence[tuple[RowRange, Ints]],
        settings: LearnSettings,
    ) -> None:
        together = take_rows([one.rows for one, _ in rows], [index for _, index in rows])
        chunk, _ = ChunkReader(model, number).read(np.arange(len(together.records)), together)
        served = np.flatnonzero(chunk.served.generation != 0)
        assert chunk.examples.time_ms is not None  # noqa: S101 - impressions have a time
        shown = chunk.examples.time_ms
        due = np.minimum(shown, together.time_ms[chunk.position])  # feedback may be older than its impression
        self._order = served[np.argsort(due[served], kind="stable")]
        self._due, self._shown = due[self._order], shown[self._order]
        self._model, self._chunk = model, chunk
        self._effects = [_Scored(store, number, model, effect, chunk, settings) for effect in model.random]
        self._next = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def left(self) -> int:
        """How many rows are not predicted yet."""
        return len(self._order) - self._next

    def predict_up_to(self, time_ms: int | None) -> None:
        """Predict the rows shown up to a time, None for all, by what the candidate knows now."""
        end = len(self._order) if time_ms is None else int(np.searchsorted(self._due, time_ms, "right"))
        if end > self._next:
            some = self._order[self._next : end]
            for effect in self._effects:
                effect.predict(some, self._shown[self._next : end])
            self._next = end

    def verdict(self, margin: float) -> Verdict:
        """What was found of the rows predicted."""
        some = self._order[: self._next]
        outcome, noise = self._model.outcome, self._model.noise_variance
        examples = self._chunk.examples
        mean = {effect.name: effect.mean[some] for effect in self._effects}
        variance = {effect.name: effect.variance[some] for effect in self._effects}
        y, weight = examples.response[some], examples.weight[some]
        candidate = Predicted(y, weight, self._chunk.linear[some], mean, variance)
        served = as_served(self._chunk)
        before = Predicted(
            y,
            weight,
            served.shared[some],
            {name: part[some] for name, part in served.mean.items()},
            {name: part[some] for name, part in served.variance.items()},
        )
        return Verdict(figures_of(candidate, outcome, noise), figures_of(before, outcome, noise), margin)


@final
class _Scored:
    """One effect's part of the predictions, float64[n] mean and variance."""

    def __init__(
        self,
        store: ModelStore,
        number: int,
        model: GameModel,
        effect: RandomEffect,
        chunk: Chunk,
        settings: LearnSettings,
    ) -> None:
        self.name = effect.name
        self._store, self._number, self._threads = store, number, settings.threads
        forgetting = settings.forgetting.get(effect.name, Forgetting())
        self._rule = Rule(effect.prior, model.outcome, model.noise_variance, forgetting)
        self._names = entity_names(chunk, effect.kind)
        codes = chunk.examples.entities[effect.kind].codes.astype(np.int64)
        self._rows = EffectRows(design(effect.registry, effect.bags, chunk.examples, grow=False), codes)
        self.mean: Floats = np.zeros(len(codes))
        self.variance: Floats = np.zeros(len(codes))

    def predict(self, some: Ints, shown_ms: Ints) -> None:
        grouped = self._rows.at(some, shown_ms)
        if not len(grouped.entity):
            return
        entities, place = np.unique(grouped.entity, return_inverse=True)
        names = [self._names[code] for code in entities.tolist()]
        records = self._store.get_many(self._number, self.name, names)
        as_of_ms = np.where(records.version > 0, records.as_of_ms, NEVER)[place]
        known = Known(select_evidence(records.evidence, place.astype(np.int64)), as_of_ms)
        mean, variance = score(known, grouped.rows, self._rule, grouped.time_ms, threads=self._threads)
        self.mean[some], self.variance[some] = mean, variance
