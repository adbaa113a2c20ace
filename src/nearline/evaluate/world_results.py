"""Runs of several worlds -> clicks, regret, calibration and freshness of each arm, with intervals over the worlds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from scipy.stats import t as student

from nearline.arrays import Floats
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.world_run import ArmRecord, WorldRun

LEVEL: Final = 0.95
PARTS: Final = 4
"""Regret is given of each of so many parts of the run."""


@final
@dataclass(frozen=True, slots=True)
class ArmSummary:
    """What became of an arm, the mean over worlds with its interval.

    Attributes
    ----------
    clicks : that it got.
    share : of the clicks that whoever knows the truth would expect, those to be expected of what it showed.
    regret : of each quarter of the run, the expected clicks that it missed by 1,000 visits.
    observed_over_expected : its clicks, by those it expected itself.
    age_minutes : at the median visit, the time since which it had learned nothing that was shown.
    """

    name: str
    clicks: Estimate
    share: Estimate
    regret: tuple[Estimate, ...]
    observed_over_expected: Estimate
    age_minutes: Estimate


def summaries(runs: Sequence[WorldRun]) -> list[ArmSummary]:
    """A summary of every arm, in the order of the arms."""
    return [_summary(name, runs) for name in runs[0].arms]


def share_of(runs: Sequence[WorldRun], arm: str, other: str) -> Estimate:
    """The clicks to be expected of what one arm showed, by those of another."""
    return over_worlds([run.arms[arm].expected.sum() / run.arms[other].expected.sum() for run in runs])


def cumulative_regret(run: WorldRun, arm: str) -> Floats:
    """The expected clicks that an arm has missed up to each visit, float64[visits]."""
    return np.asarray(np.cumsum(run.best - run.arms[arm].expected), dtype=np.float64)


def over_worlds(values: Sequence[float]) -> Estimate:
    """The mean, with Student's interval of confidence `LEVEL`; of one world without an interval."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Estimate(mean)
    half = student.ppf(0.5 + LEVEL / 2, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))
    return Estimate(mean, mean - float(half), mean + float(half))


def _summary(name: str, runs: Sequence[WorldRun]) -> ArmSummary:
    arms = [run.arms[name] for run in runs]
    regret = np.array([_regret(run, arm) for run, arm in zip(runs, arms, strict=True)])
    return ArmSummary(
        name,
        over_worlds([float(arm.clicks.sum()) for arm in arms]),
        over_worlds([arm.expected.sum() / run.best.sum() for run, arm in zip(runs, arms, strict=True)]),
        tuple(over_worlds(part) for part in regret.T.tolist()),
        over_worlds([arm.clicks.sum() / arm.predicted.sum() for arm in arms]),
        over_worlds([float(np.median(arm.age_ms)) / 60_000 for arm in arms]),
    )


def _regret(run: WorldRun, arm: ArmRecord) -> list[float]:
    """By 1,000 visits, of each part of the run."""
    return [1000.0 * float(part.mean()) for part in np.array_split(run.best - arm.expected, PARTS)]
