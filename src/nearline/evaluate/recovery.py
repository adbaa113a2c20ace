"""A model and the truth it was generated from -> how near its coefficients came."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.datasets.generated import TrueEffect
from nearline.model.effects import RandomEffect
from nearline.model.features import feature_labels
from nearline.model.game import GameModel

_NORMAL_90 = 1.6448536269514722


@final
@dataclass(frozen=True, slots=True)
class Recovery:
    """One feature of one random effect, over the entities that have rows.

    Attributes
    ----------
    prior_std, true_std : standard deviation over the population, as estimated and as drawn.
    correlation : between posterior means and true coefficients.
    rms_error : of the posterior means; `rms_of_prior_mean` of predicting the prior mean for everybody.
    covered : share of true coefficients within their 90 % posterior intervals.
    """

    effect: str
    feature: str
    entities: int
    prior_std: float
    true_std: float
    correlation: float
    rms_error: float
    rms_of_prior_mean: float
    covered: float


def compare(model: GameModel, truth: Mapping[str, TrueEffect]) -> tuple[Recovery, ...]:
    """Compare every random effect of the model with the true one of the same name."""
    return tuple(
        row for effect in model.random if effect.name in truth for row in _compare(effect, truth[effect.name])
    )


def _compare(effect: RandomEffect, truth: TrueEffect) -> list[Recovery]:
    number = np.array([int(str(name).removeprefix(truth.prefix)) for name in effect.names.to_pylist()])
    return [
        _feature(effect, label, column, truth.coefficients[label][number])
        for column, label in enumerate(feature_labels(effect.registry))
        if label in truth.coefficients
    ]


def _feature(effect: RandomEffect, label: str, column: int, true: Floats) -> Recovery:
    mean, std = effect.coefficient(column)
    return Recovery(
        effect.name,
        label,
        len(true),
        float(effect.prior.std[column]),
        float(true.std()),
        float(np.corrcoef(mean, true)[0, 1]),
        float(np.sqrt(np.mean((mean - true) ** 2))),
        float(np.sqrt(np.mean((effect.prior.mean[column] - true) ** 2))),
        float(np.mean(np.abs(mean - true) <= _NORMAL_90 * std)),
    )
