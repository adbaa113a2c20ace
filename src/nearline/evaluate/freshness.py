"""A stream -> what each level of freshness predicts of it, in one run: level 0 to level 3, a window, and the ideal.

All begin with one model, trained on the first part of the stream. The rest is scored before it is learned.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.batch.settings import TrainingSettings
from nearline.errors import ConfigError, DataError
from nearline.evaluate.batch_levels import BatchLevel, train_on
from nearline.evaluate.choose import choose_settings
from nearline.evaluate.levels import IDEAL, LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, LEVELS, REFITTED, WINDOW
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Stream, Watch, replay
from nearline.evaluate.sensitivity import Trial, sensitivity_grid
from nearline.evaluate.spans import Span, first_of_time
from nearline.model.game import GameModel

FRACTIONS: Final = (1.0, 0.3, 0.1, 0.03)
"""Time constants tried where forgetting is to be chosen, as parts of the time the stream takes."""
CHOOSE_ROWS: Final = 60_000
"""On so many rows at most forgetting is chosen: the last ones of the first part."""

_TENTH, _HUNDREDTH, _QUARTER = Span("1/10", 0.1), Span("1/100", 0.01), Span("1/4", 0.25)

Said: TypeAlias = Callable[[str], None]


@final
@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What a replay compares.

    Attributes
    ----------
    train_share : of the rows, those the first model is trained on and forgetting is chosen on; above 0, below 1.
    refit_every : between refits of levels 1 and 2, of the window, and of level 3 with refits.
    ideal_every : between refits of the ideal.
    window : what the window's refits learn.
    levels : some of `LEVELS`; level 3 is always there.
    sensitivity : whether to try other settings of level 3 too.
    """

    train_share: float = 0.5
    refit_every: Span = _TENTH
    ideal_every: Span = _HUNDREDTH
    window: Span = _QUARTER
    levels: tuple[str, ...] = LEVELS
    sensitivity: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.train_share < 1.0:
            raise ConfigError(f"replay.train_share: expected above 0 and below 1, got {self.train_share}")
        for level in self.levels:
            if level not in LEVELS:
                raise ConfigError(f"replay.levels: expected some of {', '.join(LEVELS)}; got {level!r}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class LevelRun:
    """What one level predicted.

    predicted : float64[rows - begin], the expected response of each row from `Replayed.begin` on.
    refits : how often its model was trained again.
    seconds : of wall time it took, the training of the first model aside.
    """

    name: str
    meaning: str
    predicted: Floats
    refits: int
    seconds: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """A stream and what was predicted of it.

    Attributes
    ----------
    begin : the first row that is judged; those before it trained the first model.
    refit_at : the rows before which levels 1 and 2 were refitted.
    online : how level 3 learned.
    model : what level 3 knows at the end; None where effects share their beliefs.
    trials : level 3 with other settings.
    seconds : by step.
    """

    stream: Stream
    begin: int
    refit_at: Ints
    runs: tuple[LevelRun, ...]
    first_model: GameModel
    online: OnlineSettings
    model: GameModel | None = None
    trials: tuple[Trial, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def run(self, name: str) -> LevelRun | None:
        """The run of a level, if it is there."""
        return next((run for run in self.runs if run.name == name), None)


def replay_levels(
    stream: Stream,
    training: TrainingSettings,
    settings: ReplaySettings,
    online: OnlineSettings,
    *,
    choose: Sequence[str] = (),
    watch: Watch | None = None,
    say: Said = lambda _: None,
) -> Replayed:
    """Train on the first part of the stream, and walk the rest with each level.

    `choose` names the effects whose time constant is chosen on the first part; the others have that of `online`.
    `say` is told what goes on, `watch` how far each level is.

    Raises `DataError` where the stream is too short to be divided, or no label is known in its first part.
    """
    return _Replay(stream, training, settings, watch, say).run(online, choose)


def first_judged(stream: Stream, train_share: float) -> int:
    """The row from which on rows are judged; rows of one time stay together."""
    n = len(stream)
    if n < 2:
        raise DataError(f"expected at least two rows to replay, got {n}")
    middle = np.array([min(n - 1, max(1, round(train_share * n)))])
    begin = first_of_time(stream, middle)
    if len(begin) == 0:  # all rows up to there are of the first time
        begin = stream.group_start[1:2]
    if int(begin[0]) >= n:
        raise DataError(
            "all rows have the same time, so nothing can be learned before the rest: "
            "expected a column of times (data.time) that tells rows apart"
        )
    return int(begin[0])


@final
class _Replay:
    def __init__(
        self,
        stream: Stream,
        training: TrainingSettings,
        settings: ReplaySettings,
        watch: Watch | None,
        say: Said,
    ) -> None:
        self._stream, self._training, self._settings = stream, training, settings
        self._watch, self._say = watch, say
        self._begin = first_judged(stream, settings.train_share)
        self._refit_at = settings.refit_every.marks(stream, self._begin)
        self._seconds: dict[str, float] = {}
        self._runs: dict[str, LevelRun] = {}

    def run(self, online: OnlineSettings, choose: Sequence[str]) -> Replayed:
        stream, begin = self._stream, self._begin
        began = time.perf_counter()
        self._say(f"training on the first {begin:,} rows")
        known = stream.known_before(stream.until_ms(begin))
        first = train_on(stream, self._training, known)
        self._seconds["train"] = time.perf_counter() - began
        if choose:
            began = time.perf_counter()
            self._say("choosing what level 3 forgets")
            online = chosen(stream, begin, first, online, choose)
            self._seconds["choose"] = time.perf_counter() - began
        models = self._batches(first)
        model = self._level_3(first, online, models)
        began = time.perf_counter()
        trials: tuple[Trial, ...] = ()
        if self._settings.sensitivity and first.random:
            trials = sensitivity_grid(stream, begin, first, online, self._say)
            self._seconds["sensitivity"] = time.perf_counter() - began
        runs = tuple(self._runs[name] for name in LEVELS if name in self._runs)
        seconds = self._seconds | {run.name: run.seconds for run in runs}
        return Replayed(stream, begin, self._refit_at, runs, first, online, model, trials, seconds)

    def _batches(self, first: GameModel) -> Mapping[int, GameModel]:
        """The levels trained in batches; the models of level 1 by the row they serve from."""
        asked, every = self._settings.levels, self._settings.refit_every
        alone = replace(self._training, fixed=replace(self._training.fixed, locked=True))
        if LEVEL_0 in asked:
            self._batch(LEVEL_0, "trained once", first, None, ())
        models: Mapping[int, GameModel] = {}
        if LEVEL_1 in asked or REFITTED in asked:
            meaning = f"everything refitted every {every}"
            models = self._batch(LEVEL_1, meaning, first, self._training, self._refit_at)
        if LEVEL_2 in asked:
            meaning = f"random effects refitted every {every}"
            self._batch(LEVEL_2, meaning, first, alone, self._refit_at)
        if WINDOW in asked:
            window = self._settings.window
            meaning = f"everything refitted on the last {window} every {every}"
            self._batch(WINDOW, meaning, first, self._training, self._refit_at, window)
        if IDEAL in asked:
            often = self._settings.ideal_every
            marks = often.marks(self._stream, self._begin)
            self._batch(IDEAL, f"everything refitted every {often}", first, self._training, marks)
        return models

    def _batch(
        self,
        name: str,
        meaning: str,
        first: GameModel,
        training: TrainingSettings | None,
        refit_at: Ints | Sequence[int],
        window: Span | None = None,
    ) -> Mapping[int, GameModel]:
        level = BatchLevel(
            name,
            self._stream,
            first,
            trained_at=self._begin,
            settings=training,
            refit_at=refit_at,
            window=window,
        )
        began = time.perf_counter()
        predicted = replay(self._stream, [level], begin=self._begin, watch=self._watch)[name]
        seconds = time.perf_counter() - began
        refits = len(level.models) - 1
        self._runs[name] = LevelRun(name, meaning, predicted, refits, seconds)
        return level.models

    def _level_3(
        self, first: GameModel, online: OnlineSettings, models: Mapping[int, GameModel]
    ) -> GameModel | None:
        """Level 3, without refits and with those of level 1."""
        stream, begin = self._stream, self._begin
        began = time.perf_counter()
        level = OnlineLevel(stream, first, online)
        replay(stream, [level], end=begin, watch=self._watch)
        warm = time.perf_counter() - began
        if REFITTED in self._settings.levels:
            other = level.refitted(first, stream.known_before(stream.until_ms(begin)))
            seconds = time.perf_counter()
            predicted = walk_with_refits(stream, other, models, begin=begin, watch=self._watch)
            seconds = warm + time.perf_counter() - seconds
            if run := self._runs.get(LEVEL_1):
                seconds += run.seconds
            meaning = f"as level 3, with level 1's fixed effect and priors every {self._settings.refit_every}"
            self._runs[REFITTED] = LevelRun(REFITTED, meaning, predicted, len(models) - 1, seconds)
            if LEVEL_1 not in self._settings.levels:
                del self._runs[LEVEL_1]
        began = time.perf_counter()
        predicted = replay(stream, [level], begin=begin, watch=self._watch)[level.name]
        seconds = warm + time.perf_counter() - began
        learned = "each entity learns each label once it is known"
        self._runs[LEVEL_3] = LevelRun(LEVEL_3, learned, predicted, 0, seconds)
        return None if online.against else level.model(stream.until_ms(len(stream)) - 1)


def walk_with_refits(
    stream: Stream,
    level: OnlineLevel,
    models: Mapping[int, GameModel],
    *,
    begin: int,
    watch: Watch | None = None,
) -> Floats:
    """What level 3 predicts from row `begin` on, when at some rows (after it) another model's priors take over."""
    cuts = sorted(row for row in models if row > begin)
    parts = []
    for first, last in zip([begin, *cuts], [*cuts, len(stream)], strict=True):
        if first in cuts:
            level = level.refitted(models[first], stream.known_before(stream.until_ms(first)))
        parts.append(replay(stream, [level], begin=first, end=last, watch=watch)[level.name])
    return np.concatenate(parts)


def chosen(
    stream: Stream, begin: int, model: GameModel, online: OnlineSettings, choose: Sequence[str]
) -> OnlineSettings:
    """The settings with the time constants of some effects chosen on the rows before `begin`."""
    span = float(stream.time_ms[-1] - stream.time_ms[0])
    first = stream.part(max(0, begin - 2 * CHOOSE_ROWS), begin)
    return choose_settings(
        first,
        model,
        online,
        begin=min(len(first) // 2, CHOOSE_ROWS),
        end=len(first),
        time_constants_ms=[span * share for share in FRACTIONS if span > 0.0],
        effects=choose,
    )
