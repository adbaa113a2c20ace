"""What is believed of candidates -> numbers to show: expectation, uncertainty, and the contribution of each part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.arrays import Ints
from nearline.model.game import expected_response
from nearline.posterior.outcomes import Outcome
from nearline.serve.asked import Asked
from nearline.serve.generation import Believed, ServingGeneration


@final
@dataclass(frozen=True, slots=True)
class Explained:
    """Of some candidates of a request, in lists of one entry each, on the link scale but `expected`.

    Attributes
    ----------
    offset : of the request and the candidate. fixed : of the fixed effect.
    effects : of each random effect its name, means and variances.
    linear, std : of the linear predictor; the std of a Normal response has its noise in it.
    expected : the expected response.
    versions : kind of entity to the version of its record.
    """

    offset: list[float]
    fixed: list[float]
    effects: list[tuple[str, list[float], list[float]]]
    linear: list[float]
    std: list[float]
    expected: list[float]
    versions: list[dict[str, int]]

    def by_effect(self) -> list[dict[str, tuple[float, float]]]:
        """Of each of them random effect to mean and variance."""
        names = [name for name, _, _ in self.effects]
        pairs = [zip(mean, variance, strict=True) for _, mean, variance in self.effects]
        if not names:
            return [{} for _ in self.linear]
        return [dict(zip(names, one, strict=True)) for one in zip(*pairs, strict=True)]

    def contributions(self, i: int) -> dict[str, float]:
        """Every part of the linear predictor of one of them."""
        parts = {"offset": self.offset[i], "fixed": self.fixed[i]}
        for name, mean, _ in self.effects:
            parts[name] = mean[i]
        return parts


def explained(serving: ServingGeneration, about: Asked, believed: Believed, places: Ints) -> Explained:
    """The numbers of the candidates at these places."""
    effects = believed.candidates.contributions(places)
    linear = believed.candidates.offset[places]
    variance = believed.widened[places]
    for mean, spread in effects.values():
        linear = linear + mean
        variance = variance + spread
    model = serving.model
    noise = model.noise_variance if model.outcome is Outcome.NORMAL else 0.0
    return Explained(
        about.offset[places].tolist(),
        believed.fixed[places].tolist(),
        [(name, mean.tolist(), spread.tolist()) for name, (mean, spread) in effects.items()],
        linear.tolist(),
        np.sqrt(variance + noise).tolist(),
        expected_response(model.outcome, linear, variance).tolist(),
        _versions(believed, places),
    )


def _versions(believed: Believed, places: Ints) -> list[dict[str, int]]:
    columns: list[tuple[str, Sequence[int]]] = [
        (kind, [version] * len(places) if isinstance(version, int) else version[places].tolist())
        for kind, version in believed.versions.items()
    ]
    return [{kind: version[i] for kind, version in columns} for i in range(len(places))]
