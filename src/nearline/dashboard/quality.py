"""Labelled rows as served -> how good the predictions were: of every level, and over time.

Level 0 is what the shared model alone said, level 3 all parts together as they served; between them, all parts but one.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.dashboard.row_tail import ServedRows
from nearline.posterior.outcomes import Outcome, is_valid_response
from nearline.stream.drift import Predicted, predictive_loss

LEAST_ROWS: Final = 50
"""Rows in a point of a line; fewer say little."""
MOST_POINTS: Final = 40
LOSS: Final = {
    Outcome.BERNOULLI: "log loss",
    Outcome.NORMAL: "half squared error / noise variance",
    Outcome.POISSON: "Poisson loss",
}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """What some parts of the model predicted: name, and float64[n] the expected response and the loss of each row."""

    name: str
    response: Floats
    loss: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows that were served and have a label that can be judged, in the order in which they were shown.

    Attributes
    ----------
    index : int64[n], which of the rows they are.
    shown_ms : int64[n]. y, weight : float64[n].
    levels : the shared model alone first, all parts last.
    """

    index: Ints
    shown_ms: Ints
    y: Floats
    weight: Floats
    levels: tuple[Level, ...]

    def loss(self, level: Level) -> float:
        """The weighted mean loss of a level."""
        return float(self.weight @ level.loss / self.weight.sum())

    def calibration(self, level: Level) -> float:
        """Responses observed over responses expected; 1 is right."""
        expected = float(self.weight @ level.response)
        return float(self.weight @ self.y) / expected if expected else float("nan")


def judge(rows: ServedRows, outcome: Outcome, noise_variance: float) -> Judged:
    """The rows that can be judged, by every level."""
    predicted = rows.predicted
    usable = is_valid_response(outcome, predicted.y) & (predicted.weight > 0.0) & rows.was_served()
    index = np.flatnonzero(usable)
    index = index[np.argsort(rows.shown_ms[index], kind="stable")]
    some = rows.take(index)
    parts = some.predicted
    alone = Predicted(parts.y, parts.weight, parts.shared, {}, {})
    responses = {"shared model alone": alone.response(outcome)}
    if len(parts.mean) > 1:
        responses |= {f"without {effect}": parts.response(outcome, without=effect) for effect in parts.mean}
    if parts.mean:
        responses["all parts, as served"] = parts.response(outcome)
    levels = tuple(
        Level(name, response, predictive_loss(outcome, parts.y, response, noise_variance))
        for name, response in responses.items()
    )
    return Judged(index, some.shown_ms, parts.y, parts.weight, levels)


@final
@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """Groups of as many rows each, in the order of time, g of them.

    shown_ms: int64[g], when the last row of each was shown. rows: int64[g].
    loss, calibration: by level, float64[g].
    """

    shown_ms: Ints
    rows: Ints
    loss: dict[str, Floats]
    calibration: dict[str, Floats]


def over_time(judged: Judged) -> OverTime:
    """At most 40 groups of at least 50 rows; none if there are fewer rows."""
    groups = min(MOST_POINTS, len(judged.index) // LEAST_ROWS)
    if not groups:
        nothing: dict[str, Floats] = {level.name: np.zeros(0) for level in judged.levels}
        return OverTime(np.zeros(0, np.int64), np.zeros(0, np.int64), nothing, nothing)
    bounds = np.linspace(0, len(judged.index), groups + 1).astype(np.int64)

    def sums(values: Floats) -> Floats:
        return np.add.reduceat(judged.weight * values, bounds[:-1])

    weight, observed = sums(np.ones_like(judged.y)), sums(judged.y)
    with np.errstate(divide="ignore", invalid="ignore"):
        return OverTime(
            judged.shown_ms[bounds[1:] - 1],
            np.diff(bounds),
            {level.name: sums(level.loss) / weight for level in judged.levels},
            {level.name: observed / sums(level.response) for level in judged.levels},
        )
