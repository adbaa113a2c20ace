"""A trained model -> what its report says of it besides how well it predicts."""

from collections.abc import Mapping

import numpy as np

from nearline.evaluate.report import EffectDistribution, FeatureWeight, PriorSummary, Training
from nearline.model.effects import RandomEffect
from nearline.model.features import feature_labels
from nearline.model.game import GameModel
from nearline.posterior.outcomes import Outcome

STRONGEST = 20


def describe_training(
    model: GameModel, rows: int, seconds: Mapping[str, float], peak_memory_bytes: int | None
) -> Training:
    """Facts of a training run; `seconds` by step, in the order to show."""
    return Training(
        rows,
        {effect.name: effect.entities for effect in model.random},
        seconds,
        peak_memory_bytes,
        tuple(prior for effect in model.random for prior in _priors(effect)),
        strongest_features(model, STRONGEST),
    )


def strongest_features(model: GameModel, most: int) -> tuple[FeatureWeight, ...]:
    """The coefficients of the fixed effect furthest from 0, at most `most`, the intercept left out."""
    coefficients = model.fixed.coefficients
    labels = feature_labels(model.fixed.registry)
    order = np.argsort(-np.abs(coefficients), kind="stable")
    chosen = [int(j) for j in order if j != 0 and coefficients[j] != 0.0][:most]
    return tuple(FeatureWeight(labels[j], float(coefficients[j])) for j in chosen)


def _priors(effect: RandomEffect) -> list[PriorSummary]:
    std = effect.prior.std
    order = np.argsort(-std, kind="stable")[:STRONGEST]
    labels = feature_labels(effect.registry)
    return [
        PriorSummary(effect.name, labels[j], float(effect.prior.mean[j]), float(std[j]))
        for j in map(int, order)
    ]


def effect_distributions(model: GameModel) -> tuple[EffectDistribution, ...]:
    """Of each random effect: every entity's intercept, the spread that personalisation comes from."""
    unit = {Outcome.BERNOULLI: "logit", Outcome.NORMAL: "unit of the response", Outcome.POISSON: "log rate"}
    return tuple(
        EffectDistribution(
            effect.name,
            "intercept",
            effect.coefficient(0)[0],
            unit[model.outcome],
            float(effect.prior.std[0]),
        )
        for effect in model.random
        if effect.entities
    )
