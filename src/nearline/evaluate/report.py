"""What a report on a trained model says, as frozen values, and the front door that writes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final, final

from nearline.arrays import Floats
from nearline.errors import MissingExtraError
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.curve_points import Curves
from nearline.evaluate.results import Evaluation

REPORT_EXTRA: Final = ("the HTML report", "report")
"""What it is that needs an extra, and the extra."""


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """One step of training, such as "fixed effect" or "+ per-user", and what the model scored after it.

    `scores` has for each metric (a name in `METRICS`) the value with each seed, `intervals` what is drawn.
    """

    name: str
    scores: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, Estimate] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, *evaluations: Evaluation) -> "Stage":
        """Return the stage measured by one evaluation per seed; its intervals are the mean of theirs."""
        found = [[r for r in one.overall.metrics if r.entity_type is None] for one in evaluations]
        scores = {r[0].metric: tuple(each.estimate.value for each in r) for r in zip(*found, strict=True)}
        intervals = {
            r[0].metric: Estimate(
                fmean(each.estimate.value for each in r),
                fmean(each.estimate.low for each in r),
                fmean(each.estimate.high for each in r),
            )
            for r in zip(*found, strict=True)
        }
        return cls(name, scores, intervals)


@final
@dataclass(frozen=True, slots=True)
class Reference:
    """What another system scored in one metric, by the name of the stage, and where that is published."""

    name: str
    metric: str
    values: Mapping[str, float]
    source: str = ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class EffectDistribution:
    """One number per entity: say the `quantity` "intercept" or "posterior std" of the effect "per-user".

    `values` is of shape (entities,), in `unit`, for example "logit"; `prior_std` is drawn where it is given.
    """

    effect: str
    quantity: str
    values: Floats
    unit: str
    prior_std: float | None = None


@final
@dataclass(frozen=True, slots=True)
class PriorSummary:
    """The population prior of one coefficient: over entities it has this mean and this std."""

    effect: str
    feature: str
    mean: float
    std: float


@final
@dataclass(frozen=True, slots=True)
class FeatureWeight:
    """One coefficient of the fixed effect."""

    feature: str
    coefficient: float


@final
@dataclass(frozen=True, slots=True)
class Training:
    """How the model came about; `entities` is by effect, `seconds` by step, in the order to show."""

    rows: int
    entities: Mapping[str, int]
    seconds: Mapping[str, float]
    peak_memory_bytes: int | None = None
    priors: tuple[PriorSummary, ...] = ()
    strongest_features: tuple[FeatureWeight, ...] = ()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All that one page shows; what is None or empty is left out.

    `baseline` names what `evaluation`'s gains are over, `about` is a line on the data, `headline` the metric
    of the plots with room for one (by default that of the outcome: AUC, RMSE, Poisson deviance).
    """

    title: str
    evaluation: Evaluation
    curves: Curves | None = None
    stages: tuple[Stage, ...] = ()
    references: tuple[Reference, ...] = ()
    effects: tuple[EffectDistribution, ...] = ()
    training: Training | None = None
    baseline: str = "the fixed effect alone"
    about: str = ""
    headline: str | None = None


def renderer() -> Callable[[Report], str]:
    """Return what turns a report into HTML: the same text every time.

    Raises
    ------
    MissingExtraError
        If Jinja2 or Matplotlib is not installed.
    """
    try:
        from nearline.evaluate.page import render  # noqa: PLC0415 - needs the extra `report`
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("nearline"):
            raise
        raise MissingExtraError(*REPORT_EXTRA) from error
    return render


def write_report(path: Path, report: Report) -> None:
    """Write the report as one HTML file that needs no other and no network; raises what `renderer` does."""
    path.write_text(renderer()(report), encoding="utf-8")
