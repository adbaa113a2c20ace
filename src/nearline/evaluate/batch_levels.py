"""Levels 0, 1 and 2, the sliding window and the ideal: models trained in batches, once or again and again."""

from collections.abc import Sequence
from typing import final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.batch.descent import fit_game
from nearline.batch.settings import TrainingSettings
from nearline.errors import DataError
from nearline.evaluate.replay import Step, Stream
from nearline.evaluate.spans import Span
from nearline.model.game import GameModel


def train_on(
    stream: Stream, settings: TrainingSettings, rows: Ints, start: GameModel | None = None
) -> GameModel:
    """A model of these rows of the stream; a `DataError` if there are none."""
    if len(rows) == 0:
        raise DataError("no label is known yet: there is nothing to train on")
    return fit_game(stream.examples.take(np.sort(rows)), settings, start=start).model


@final
class BatchLevel:
    """A model that is trained again at some rows of the stream, on all labels known by then or on a window of them.

    `models` holds what it was trained to, by the row from which on it serves.
    """

    def __init__(
        self,
        name: str,
        stream: Stream,
        model: GameModel,
        *,
        trained_at: int,
        settings: TrainingSettings | None = None,
        refit_at: Sequence[int] | Ints = (),
        window: Span | None = None,
    ) -> None:
        self._name, self._stream, self._settings, self._window = name, stream, settings, window
        self._model = model
        self.models: dict[int, GameModel] = {trained_at: model}
        self._refit_at: list[int] = []
        self._new: dict[int, Ints] = {}
        known = stream.count_known_before(stream.until_ms(trained_at))
        self._known = stream.by_known[:known]
        for row in np.asarray(refit_at, dtype=np.int64).tolist():
            now = stream.count_known_before(stream.until_ms(row))
            if now > known:  # else there is nothing to learn
                self._refit_at.append(row)
                self._new[row] = stream.by_known[known:now]
            known = now

    @property
    def name(self) -> str:
        """What to call it in tables."""
        return self._name

    def plan(self, stream: Stream, begin: int, end: int) -> list[Step]:  # noqa: ARG002 - it has its own
        """A step between any two refits: what became known since the last one is learned, then all rows are scored."""
        cuts = [row for row in self._refit_at if begin < row < end]
        none = np.zeros(0, dtype=np.int64)
        return [
            Step(self._new.get(first, none), np.arange(first, last))
            for first, last in zip([begin, *cuts], [*cuts, end], strict=True)
        ]

    def score(self, rows: Ints) -> Floats:
        """Expected response of rows by the model of the time."""
        return self._model.score(self._stream.examples.take(rows)).mean

    def learn(self, rows: Ints) -> None:
        """Train again: these are the rows whose labels became known since the last time."""
        assert self._settings is not None  # noqa: S101 - refits come with settings
        self._known = np.concatenate([self._known, rows])
        row, used = next(row for row in self._refit_at if row not in self.models), self._known
        if self._window is not None:
            used = used[used >= self._window.begins_before(self._stream, row)]
        if len(used):  # else nothing of the window is known: the model stays
            self._model = train_on(self._stream, self._settings, used, self._model)
        self.models[row] = self._model
