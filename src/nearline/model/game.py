"""A GAME model: examples in, predictions with their uncertainty and their parts out.

link(mean response) = offset + fixed effect + sum over random effects of x . b_entity
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np

from nearline.arrays import Floats
from nearline.errors import ModelError
from nearline.kernels._response import expected_sigmoid
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.examples import Examples
from nearline.posterior.outcomes import Outcome

_QUADRATURES = [  # up to a variance, nodes and weights of Gauss-Hermite quadrature
    (widest, found[0], found[1] / found[1].sum())
    for widest, found in (
        (0.25, np.polynomial.hermite_e.hermegauss(11)),
        (1.0, np.polynomial.hermite_e.hermegauss(31)),
    )
]
_MIXTURE = (  # sigmoid(x) = sum share * Phi(slope x), Monahan and Stefanski (1992), table for k = 8
    (0.003246343272134, 1.365340806296348),
    (0.051517477033972, 1.059523971016916),
    (0.195077912673858, 0.830791313765644),
    (0.315569823632818, 0.650732166639391),
    (0.274149576158423, 0.508135425366489),
    (0.131076880695470, 0.396313345166341),
    (0.027912418727972, 0.308904252267995),
    (0.001449567805354, 0.238212616409306),
)
_SHARES, _SLOPES = (np.array(column) for column in zip(*_MIXTURE, strict=True))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a model says of each row, float64[n] each.

    Attributes
    ----------
    linear : mean of the linear predictor, on the link scale.
    variance : of the linear predictor, from what is not known of the entities.
    contributions : offset, fixed effect and each random effect, summing to `linear`.
    mean : the expected response, averaged over that uncertainty.
    std : of a Normal response, its noise included; otherwise of the linear predictor.
    """

    linear: Floats
    variance: Floats
    contributions: Mapping[str, Floats]
    mean: Floats
    std: Floats


@final
@dataclass(frozen=True, slots=True, eq=False)
class GameModel:
    """A generalized additive mixed-effect model (Zhang et al., KDD 2016).

    `noise_variance` is that of a Normal response, 1 otherwise; `learned_weight` the sum of the weights of all rows
    learned, 0 where it is not known.
    """

    outcome: Outcome
    fixed: FixedCoefficients
    random: tuple[RandomEffect, ...] = ()
    noise_variance: float = 1.0
    learned_weight: float = 0.0

    def __post_init__(self) -> None:
        names = [effect.name for effect in self.random]
        if len(set(names)) < len(names) or {"offset", "fixed"} & set(names):
            raise ModelError(f"random effects need names of their own, not 'offset' or 'fixed': got {names}")

    def effect(self, name: str) -> RandomEffect:
        """The random effect of that name."""
        for effect in self.random:
            if effect.name == name:
                return effect
        raise ModelError(
            f"no random effect {name!r}: the model has {[effect.name for effect in self.random]}"
        )

    def score(self, examples: Examples, *, threads: int = 1) -> Scores:
        """Score every row; entities and features the model does not know are scored by the population prior."""
        contributions = {"offset": examples.offset, "fixed": self.fixed.contribution(examples)}
        variance = np.zeros(len(examples))
        for effect in self.random:
            contributions[effect.name], spread = effect.contribution(examples, threads=threads)
            variance += spread
        with np.errstate(invalid="ignore"):  # a row whose features are not finite has no score
            linear = np.sum(list(contributions.values()), axis=0)
        mean = expected_response(self.outcome, linear, variance)
        noise = self.noise_variance if self.outcome is Outcome.NORMAL else 0.0
        return Scores(linear, variance, MappingProxyType(contributions), mean, np.sqrt(variance + noise))


def expected_response(outcome: Outcome, linear: Floats, variance: Floats) -> Floats:
    """E[inverse link(eta)] for eta ~ N(linear, variance), float64[n].

    In closed form for Normal and Poisson. For Bernoulli by Gauss-Hermite quadrature up to a standard deviation of 1,
    with a relative error under 2e-11 far into the tails (11 nodes up to 1/2, 31 above); for more, by writing the
    sigmoid as a mixture of normal distribution functions (Monahan and Stefanski 1992), which is right to 3e-9 for any
    variance.
    """
    match outcome:
        case Outcome.NORMAL:
            return linear
        case Outcome.POISSON:
            return np.exp(np.clip(linear + variance / 2.0, -700.0, 700.0))
        case Outcome.BERNOULLI:
            mean = np.empty(np.shape(linear))
            linear, variance = (np.ascontiguousarray(one, np.float64) for one in (linear, variance))
            expected_sigmoid(linear, variance, _QUADRATURES, _SHARES, _SLOPES, mean)
            return mean
