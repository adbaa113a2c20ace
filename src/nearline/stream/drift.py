"""Labelled rows as they were predicted -> how good the predictions were, and whether they have got worse since.

What a refit measured of the generation it made is what later rows are held against: the mean loss, the calibration,
and for each random effect the loss there would be without its contribution. An effect that has drifted gains less than
it did; a shared part that has drifted shows in the loss and the calibration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import msgspec
import numpy as np

from nearline.arrays import Floats
from nearline.errors import ConfigError
from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome, is_valid_response

_WITHOUT = "loss_without."
_TINY = 1e-12


@final
class Figures(msgspec.Struct, frozen=True):
    """How good predictions were.

    Attributes
    ----------
    rows : predictions judged.
    loss : mean negative log likelihood per unit of weight: log loss of a Bernoulli outcome, half the squared error in
        units of the noise variance of a Normal one, of a Poisson one without terms of the response alone.
    calibration : responses observed over responses expected; 1 is right.
    without : by random effect, what the loss would be without its contribution.
    """

    rows: int
    loss: float
    calibration: float
    without: dict[str, float] = {}

    def gain(self, effect: str) -> float:
        """By how much the effect's contribution lowers the loss."""
        return self.without[effect] - self.loss

    def as_metrics(self) -> dict[str, float]:
        """The same by name, as a generation keeps it."""
        without = {_WITHOUT + effect: loss for effect, loss in self.without.items()}
        return {"rows": float(self.rows), "loss": self.loss, "calibration": self.calibration} | without


def figures_in(metrics: Mapping[str, float]) -> Figures | None:
    """The figures among a generation's metrics; None where there are none."""
    if not {"rows", "loss", "calibration"} <= set(metrics):
        return None
    without = {
        name.removeprefix(_WITHOUT): loss for name, loss in metrics.items() if name.startswith(_WITHOUT)
    }
    return Figures(int(metrics["rows"]), metrics["loss"], metrics["calibration"], without)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Labelled rows and what each part of a model said of them, float64[n] each, on the link scale.

    y : response. weight : of the row. shared : offset and fixed effect.
    mean, variance : by random effect.
    """

    y: Floats
    weight: Floats
    shared: Floats
    mean: Mapping[str, Floats]
    variance: Mapping[str, Floats]

    def response(self, outcome: Outcome, without: str | None = None) -> Floats:
        """The expected response, of all parts or of all but one."""
        used = [name for name in self.mean if name != without]
        linear = np.sum([self.shared, *(self.mean[name] for name in used)], axis=0)
        variance = np.sum([np.zeros_like(self.shared), *(self.variance[name] for name in used)], axis=0)
        return expected_response(outcome, linear, variance)


def figures_of(predicted: Predicted, outcome: Outcome, noise_variance: float = 1.0) -> Figures | None:
    """How good the predictions were; None without a row of positive weight. Rows with labels that no model of the
    outcome learns are left out."""  # noqa: D205, D209
    usable = is_valid_response(outcome, predicted.y) & (predicted.weight > 0.0)
    if not usable.any():
        return None
    y, weight = predicted.y[usable], predicted.weight[usable]

    def mean_loss(response: Floats) -> float:
        losses = predictive_loss(outcome, y, response[usable], noise_variance)
        return float(weight @ losses / weight.sum())

    response = predicted.response(outcome)
    expected = float(weight @ response[usable])
    return Figures(
        int(np.count_nonzero(usable)),
        mean_loss(response),
        float(weight @ y) / expected if expected else float("nan"),
        {name: mean_loss(predicted.response(outcome, without=name)) for name in predicted.mean},
    )


def predictive_loss(outcome: Outcome, y: Floats, response: Floats, noise_variance: float = 1.0) -> Floats:
    """Negative log likelihood of each response under its expectation, without terms of the response alone."""
    match outcome:
        case Outcome.BERNOULLI:
            p = np.clip(response, _TINY, 1.0 - _TINY)
            return np.asarray(-y * np.log(p) - (1.0 - y) * np.log1p(-p))
        case Outcome.NORMAL:
            return 0.5 * (y - response) ** 2 / noise_variance
        case Outcome.POISSON:
            mean = np.maximum(response, _TINY)
            return np.asarray(mean - y * np.log(mean))


@final
@dataclass(frozen=True, slots=True)
class DriftSettings:
    """When predictions have drifted.

    Attributes
    ----------
    rows : the last so many labelled rows are looked at.
    least_rows : fewer of them say nothing.
    loss : drifted if the mean loss is higher by more than this.
    calibration : drifted if observed over expected has moved by more than this.
    gain : drifted if an effect gains less by more than this.
    """

    rows: int = 5_000
    least_rows: int = 1_000
    loss: float = 0.02
    calibration: float = 0.1
    gain: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.least_rows <= self.rows:
            raise ConfigError(
                f"drift.least_rows: expected 1 to drift.rows, {self.rows}, got {self.least_rows}"
            )
        for name in ("loss", "calibration", "gain"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"drift.{name}: expected a number above 0, got {getattr(self, name)}")


@final
@dataclass(frozen=True, slots=True)
class Drift:
    """Whether a generation predicts worse than when it was made.

    Attributes
    ----------
    generation : its number.
    now, then : of the last rows it served, and of those at its refit; None where there are too few, or none.
    words : what has drifted, one sentence each; none if nothing has.
    """

    generation: int
    now: Figures | None
    then: Figures | None
    words: tuple[str, ...] = ()


def drift_between(now: Figures, then: Figures, settings: DriftSettings) -> tuple[str, ...]:
    """What has drifted beyond the settings, one sentence each."""
    words = []
    if now.loss - then.loss > settings.loss:
        words.append(f"loss {now.loss:.4f}, at the last refit {then.loss:.4f}")
    if not abs(now.calibration - then.calibration) <= settings.calibration:
        words.append(f"observed / expected {now.calibration:.3f}, at the last refit {then.calibration:.3f}")
    for effect in sorted(set(now.without) & set(then.without)):
        before, after = then.gain(effect), now.gain(effect)
        if before - after > settings.gain:
            words.append(f"{effect} lowers the loss by {after:.4f}, at the last refit by {before:.4f}")
    return tuple(words)
