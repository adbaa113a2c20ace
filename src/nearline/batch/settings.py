"""What a batch training run is asked to do."""

from dataclasses import dataclass, field
from typing import Literal, final

from nearline.errors import ConfigError
from nearline.posterior.outcomes import Outcome

FIXED = "fixed"


@final
@dataclass(frozen=True, slots=True)
class FixedSettings:
    """The linear fixed effect.

    `l2`, `l1` penalise the sum over rows of the loss (scikit-learn's C is 1 / l2); the intercept is never shrunk.
    A `locked` effect keeps the coefficients it starts with, or is 0 throughout without a start.
    """

    bags: tuple[str, ...] = ()
    l2: float = 1.0
    l1: float = 0.0
    locked: bool = False

    def __post_init__(self) -> None:
        _require("fixed_effect.l2", self.l2 >= 0.0, "a number of 0 or more", self.l2)
        _require("fixed_effect.l1", self.l1 >= 0.0, "a number of 0 or more", self.l1)


@final
@dataclass(frozen=True, slots=True)
class RandomSettings:
    """One random effect: a small model for each entity of a kind.

    Attributes
    ----------
    name : of the effect; `kind` : of its entities; `bags` : whose features it weighs, after an intercept.
    prior_variance : of every coefficient in the population; None estimates the prior from the data (a full
        covariance up to 64 columns, variances above).
    estimate_prior_mean : whether the prior mean is estimated too; else it is 0, as it should be where the
        fixed effect has the same features.
    precision : keep each entity's correlations ("full") or not ("diagonal").
    min_rows : entities with fewer rows, those learned before included, are left to the population prior.
    max_rows : learn from at most so many rows of an entity: a sample that looks random and depends only on the
        places of its rows among the examples.
    locked : keep the effect it starts with, bit for bit; it needs a start.
    """

    name: str
    kind: str
    bags: tuple[str, ...] = ()
    prior_variance: float | None = None
    estimate_prior_mean: bool = False
    precision: Literal["full", "diagonal"] = "full"
    min_rows: int = 1
    max_rows: int | None = None
    locked: bool = False

    def __post_init__(self) -> None:
        path = f"random_effects.{self.name}"
        variance = self.prior_variance
        _require(f"{path}.prior_variance", variance is None or variance > 0.0, "a number above 0", variance)
        _require(f"{path}.min_rows", self.min_rows >= 1, "1 or more", self.min_rows)
        cap = self.max_rows
        _require(f"{path}.max_rows", cap is None or cap >= self.min_rows, "at least min_rows", cap)
        own = self.name not in {FIXED, "offset", ""}
        _require(path, own, "a name of its own, not 'fixed', 'offset' or none", repr(self.name))


@final
@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """A GAME model and how to train it.

    Attributes
    ----------
    sequence : names of all effects in the order of update, "fixed" for the fixed one, any of them more than once
        if need be; by default the fixed effect and then the random ones in their order.
    sweeps : passes over the sequence at most; fewer if the fit settles (`tolerance`, relative, on the mean training
        loss).
    prior_steps : steps of estimating the population prior at the first visit of an effect; later visits take one, and
        so does the first where a model to begin from brings a prior along.
    noise_variance : of a Normal response, in its squared unit; None estimates it.
    threads : 0 takes the cores this process may use. Results do not depend on it.
    validation_fraction : share of the rows, drawn by `seed`, that are not learned but choose the best sweep.
    """

    outcome: Outcome = Outcome.BERNOULLI
    fixed: FixedSettings = field(default_factory=FixedSettings)
    random: tuple[RandomSettings, ...] = ()
    sequence: tuple[str, ...] | None = None
    sweeps: int = 10
    tolerance: float = 1e-5
    prior_steps: int = 5
    noise_variance: float | None = None
    threads: int = 0
    validation_fraction: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require("training.sweeps", self.sweeps >= 1, "1 or more", self.sweeps)
        _require("training.tolerance", self.tolerance >= 0.0, "a number of 0 or more", self.tolerance)
        _require("training.prior_steps", self.prior_steps >= 1, "1 or more", self.prior_steps)
        share = self.validation_fraction
        _require("training.validation_fraction", 0.0 <= share < 1.0, "0 or more, below 1", share)
        noise = self.noise_variance
        _require("training.noise_variance", noise is None or noise > 0.0, "a number above 0", noise)
        names = [FIXED, *(effect.name for effect in self.random)]
        _require("random_effects", len(set(names)) == len(names), "names that differ", names)
        if self.sequence is not None:
            given = list(self.sequence)
            _require("training.sequence", set(given) == set(names), f"each of {names}", given)

    @property
    def order(self) -> tuple[str, ...]:
        """The effects in the order of update."""
        return self.sequence or (FIXED, *(effect.name for effect in self.random))


def _require(path: str, condition: bool, expected: str, got: object) -> None:
    if not condition:
        raise ConfigError(f"{path}: expected {expected}, got {got}")
