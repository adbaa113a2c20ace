"""What levels of freshness predicted -> how good it was: overall, over time, since the last refit, by entity size."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.evaluate.bootstrap import Estimate, bootstrap, estimates
from nearline.evaluate.catalogue import METRICS
from nearline.evaluate.choose import row_loss
from nearline.evaluate.freshness import LevelRun, Replayed
from nearline.evaluate.levels import IDEAL, LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, REFITTED
from nearline.evaluate.measures import Measures
from nearline.evaluate.ranked import ratio
from nearline.evaluate.replay import Stream
from nearline.evaluate.summary import SIZE_GROUPS
from nearline.model.examples import MISSING
from nearline.posterior.outcomes import Outcome

CONFIDENCE: Final = 0.95
PIECES: Final = 20
"""Pieces of the stream, at most, in the curves over time."""
AGES: Final = 12
"""Bins of the time since the last refit."""
_ANY: Final = (-np.inf, np.inf)


@final
@dataclass(frozen=True, slots=True)
class LevelMeasures:
    """One level.

    metrics : by name, as in `METRICS`.
    behind : how much worse than level 3 it is in those metrics of which more or less is better; below 0 it is better.
    recovered : share of the gain in loss from level 0 to the ideal; NaN where it is not defined.
    """

    name: str
    meaning: str
    refits: int
    seconds: float
    metrics: Mapping[str, float]
    behind: Mapping[str, Estimate]
    recovered: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """A metric in pieces of the stream with equally many rows: where each piece ends (ms), and by level its values."""

    metric: str
    end_ms: Ints
    values: Mapping[str, Floats]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Degradation:
    """How much more a row costs a level than level 3, by the time since the level's last refit.

    until_ms : the upper ends of the bins.
    rows : int64[bins].
    loss : by level, the mean extra loss in each bin with its interval.
    """

    until_ms: Floats
    rows: Ints
    loss: Mapping[str, tuple[Estimate, ...]]


@final
@dataclass(frozen=True, slots=True)
class SizeGain:
    """Rows of entities of one kind and size: the loss level 3 saves over other levels, by level, with intervals."""

    kind: str
    group: str
    rows: int
    gain: Mapping[str, Estimate]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Freshness:
    """All that a replay measures; `resampled_by` is the kind of entity that is drawn whole, None for rows."""

    outcome: Outcome
    rows: int
    levels: tuple[LevelMeasures, ...]
    over_time: tuple[OverTime, ...]
    since_refit: Degradation | None
    since_training: Degradation | None
    gains: tuple[SizeGain, ...]
    resampled_by: str | None
    resamples: int


def measure(replayed: Replayed, *, resamples: int = 200, seed: int = 0) -> Freshness:
    """Measure what was predicted; rows of weight 0 count for nothing."""
    rows = _Rows.of(replayed)
    rng = np.random.default_rng(seed)
    levels = _levels(replayed, rows, rng, resamples)
    own = _times(replayed)
    begin_ms = np.full(len(own), replayed.stream.time_ms[replayed.begin])
    since_training = _degradation(rows, own - begin_ms, (LEVEL_0,), rng, resamples)
    refitted_ms = _last_refit(replayed)
    since_refit = _degradation(rows, own - refitted_ms, (LEVEL_1, LEVEL_2), rng, resamples)
    return Freshness(
        rows.outcome,
        len(rows.y),
        levels,
        _over_time(replayed, rows),
        since_refit,
        since_training,
        _gains(replayed, rows, rng, resamples),
        rows.resampled_by,
        resamples,
    )


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows that are judged, their loss at each level, and the entities they are drawn by."""

    outcome: Outcome
    y: Floats
    weight: Floats
    loss: Mapping[str, Floats]
    codes: Ints | None
    resampled_by: str | None

    @classmethod
    def of(cls, replayed: Replayed) -> "_Rows":
        examples, begin = replayed.stream.examples, replayed.begin
        y, weight = examples.response[begin:], examples.weight[begin:]
        outcome = replayed.first_model.outcome
        by = next((effect.kind for effect in replayed.first_model.random), None)
        loss = {run.name: row_loss(outcome, y, run.predicted) for run in replayed.runs}
        codes = None if by is None else _codes(replayed.stream, by)[begin:]
        if not np.any(weight > 0.0):
            weight = np.ones_like(weight)
        return cls(outcome, y, weight, loss, codes, by)


def _codes(stream: Stream, kind: str) -> Ints:
    """The entity of each row, int64[n]; one of its own for a row that has none."""
    column = stream.examples.entities[kind]
    own = len(column.names) + np.arange(len(stream))
    return np.where(column.codes == MISSING, own, column.codes).astype(np.int64)


def _levels(
    replayed: Replayed, rows: _Rows, rng: np.random.Generator, resamples: int
) -> tuple[LevelMeasures, ...]:
    prepared = [Measures.prepare(rows.outcome, rows.y, run.predicted) for run in replayed.runs]
    names = prepared[0].names
    third = [run.name for run in replayed.runs].index(LEVEL_3)
    signs = np.array([-METRICS[name].better for name in names], dtype=np.float64)

    def statistic(weight: Floats) -> Floats:
        found = np.stack([one.of(weight) for one in prepared], axis=1)
        return (signs * (found - found[:, third : third + 1])).reshape(len(weight), -1)

    replicates = bootstrap(statistic, rows.weight, rng, resamples=resamples, entity_codes=rows.codes)
    behind = estimates(
        statistic(rows.weight[None, :])[0],
        replicates,
        level=CONFIDENCE,
        ranges=[_ANY] * replicates.shape[1],
    )
    mean = {name: float(np.average(loss, weights=rows.weight)) for name, loss in rows.loss.items()}
    out = []
    for place, run in enumerate(replayed.runs):
        own = behind[place * len(names) : (place + 1) * len(names)]
        values = prepared[place].of(rows.weight[None, :])[0]
        out.append(
            LevelMeasures(
                run.name,
                run.meaning,
                run.refits,
                run.seconds,
                {name: float(value) for name, value in zip(names, values, strict=True)},
                {
                    name: estimate
                    for name, estimate in zip(names, own, strict=True)
                    if METRICS[name].better != 0
                },
                _recovered(mean, run),
            )
        )
    return tuple(out)


def _recovered(loss: Mapping[str, float], run: LevelRun) -> float:
    if LEVEL_0 not in loss or IDEAL not in loss or loss[IDEAL] >= loss[LEVEL_0]:
        return float("nan")
    return (loss[LEVEL_0] - loss[run.name]) / (loss[LEVEL_0] - loss[IDEAL])


def _times(replayed: Replayed) -> Ints:
    return replayed.stream.time_ms[replayed.begin :]


def _last_refit(replayed: Replayed) -> Ints:
    """When levels 1 and 2 were last refitted, or trained, before each judged row: int64[judged]."""
    refits = np.concatenate([[replayed.begin], replayed.refit_at])
    rows = np.arange(replayed.begin, len(replayed.stream))
    last: Ints = refits[np.searchsorted(refits, rows, side="right") - 1]
    return replayed.stream.time_ms[last]


def _over_time(replayed: Replayed, rows: _Rows) -> tuple[OverTime, ...]:
    n = len(rows.y)
    pieces = max(1, min(PIECES, n // 50))
    edges = np.round(np.linspace(0, n, pieces + 1)).astype(np.int64)
    end_ms = _times(replayed)[edges[1:] - 1]
    values: dict[str, dict[str, Floats]] = {}
    shown: tuple[str, ...] = ()
    for run in replayed.runs:
        found = []
        for first, last in pairwise(edges.tolist()):
            some = slice(first, last)
            measures = Measures.prepare(rows.outcome, rows.y[some], run.predicted[some])
            shown = measures.names
            found.append(measures.of(rows.weight[None, some])[0])
        for column, name in enumerate(shown):
            values.setdefault(name, {})[run.name] = np.array([each[column] for each in found])
    curves = ("log_loss", "auc", "observed_over_expected", "rmse", "mae", "poisson_deviance")
    return tuple(OverTime(name, end_ms, values[name]) for name in curves if name in values)


def _degradation(
    rows: _Rows, age_ms: Ints, levels: tuple[str, ...], rng: np.random.Generator, resamples: int
) -> Degradation | None:
    """None where no such level was replayed, or all rows have the same age."""
    levels = tuple(name for name in levels if name in rows.loss)
    longest = float(age_ms.max(initial=0))
    if not levels or longest <= 0.0:
        return None
    edges = np.linspace(0.0, longest, AGES + 1)
    bin_of_row = np.clip(np.searchsorted(edges, age_ms, side="left") - 1, 0, AGES - 1)
    counts = np.bincount(bin_of_row, minlength=AGES)
    used = np.flatnonzero(counts)
    place = np.searchsorted(used, bin_of_row)
    loss = {
        name: _by_group(rows, rows.loss[name] - rows.loss[LEVEL_3], place, len(used), rng, resamples)
        for name in levels
    }
    return Degradation(edges[1:][used], counts[used], loss)


def _by_group(
    rows: _Rows, value: Floats, group: Ints, groups: int, rng: np.random.Generator, resamples: int
) -> tuple[Estimate, ...]:
    """The mean value in each group of rows, with its interval."""

    def statistic(weight: Floats) -> Floats:
        out = np.empty((len(weight), groups))
        for place, one in enumerate(weight):
            total: Floats = np.bincount(group, one, minlength=groups).astype(np.float64)
            out[place] = ratio(np.bincount(group, one * value, minlength=groups).astype(np.float64), total)
        return out

    replicates = bootstrap(statistic, rows.weight, rng, resamples=resamples, entity_codes=rows.codes)
    found = statistic(rows.weight[None, :])[0]
    return estimates(found, replicates, level=CONFIDENCE, ranges=[_ANY] * groups)


def _gains(replayed: Replayed, rows: _Rows, rng: np.random.Generator, resamples: int) -> tuple[SizeGain, ...]:
    others = [name for name in (LEVEL_0, LEVEL_1, LEVEL_2, REFITTED, IDEAL) if name in rows.loss]
    out = []
    for kind in dict.fromkeys(effect.kind for effect in replayed.first_model.random):
        known = labels_known(replayed.stream, kind)[replayed.begin :]
        highest = np.array([np.inf if most is None else most for _, _, most in SIZE_GROUPS])
        group = np.searchsorted(highest, known)
        gain = {
            name: _by_group(
                rows, rows.loss[name] - rows.loss[LEVEL_3], group, len(SIZE_GROUPS), rng, resamples
            )
            for name in others
        }
        counts = np.bincount(group, minlength=len(SIZE_GROUPS))
        for place, (name, _, _) in enumerate(SIZE_GROUPS):
            own = {other: estimate[place] for other, estimate in gain.items()}
            out.append(SizeGain(kind, name, int(counts[place]), own))
    return tuple(out)


def labels_known(stream: Stream, kind: str) -> Ints:
    """How many labels of its entity are known before each row's time, int64[n]; 0 for a row without an entity."""
    codes = stream.examples.entities[kind].codes.astype(np.int64)
    moments, at = np.unique(np.concatenate([stream.known_ms, stream.time_ms]), return_inverse=True)
    n = len(codes)
    known = np.sort(codes * len(moments) + at[:n])
    first = np.searchsorted(known, codes * len(moments))
    count = np.searchsorted(known, codes * len(moments) + at[n:]) - first
    return np.where(codes == MISSING, 0, count).astype(np.int64)
