"""Logs of one policy to estimates of how another would have done: its mean reward per impression.

A row is one impression: what it earned, the propensity with which the logging policy chose it, and the probability with
which the policy to judge, the target, would have. With weights w = target / propensity, over n rows::

    replay matching       sum of reward over rows the target chooses too / their number      (Li et al., WSDM 2011)
    inverse propensity    sum w reward / n                                    (Horvitz and Thompson 1952)
    self-normalised       sum w reward / sum w                                (Swaminathan and Joachims, NeurIPS 2015)
    doubly robust         sum (expected + w (reward - predicted)) / n         (Dudik, Langford and Li, ICML 2011)

All are unbiased, or consistent, if the logging policy can choose whatever the target can, and if what a row earns does
not depend on what else was shown. Propensities of lists are those of a candidate at a position
(`nearline.bandit.Ranking`), so the rows of a list are judged one by one; give their request as `group`, for they are
not independent of each other.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import DataError

Interval = Literal["normal", "bootstrap"]
_AT_ONCE = 1 << 22  # numbers drawn by the bootstrap at a time


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean reward per impression of a policy, as estimated from the logs of another.

    Attributes
    ----------
    value, standard_error : in the unit of the reward; the error by the delta method, over groups.
    low, high : the interval of confidence `level`; of the kind `interval`.
    rows, groups : of the logs.
    effective_rows : (sum w)^2 / sum w^2: as many rows of equal weight would tell as much.
    largest_weight : of a row, before clipping.
    clipped : share of rows whose weight was clipped.
    clipping_bias : estimate of what clipping took off the value; 0 without clipping.
    """

    value: float
    standard_error: float
    low: float
    high: float
    level: float
    interval: Interval
    rows: int
    groups: int
    effective_rows: float
    largest_weight: float
    clipped: float = 0.0
    clipping_bias: float = 0.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """How intervals are made.

    Attributes
    ----------
    interval : "normal", value +- quantile * standard error; or "bootstrap", quantiles over resampled groups, which
        knows that rare rewards make estimates skew.
    level : of confidence.
    group : int64[n], what rows belong together, as those of one request; None: each row by itself.
    resamples, seed : of the bootstrap.
    """

    interval: Interval = "normal"
    level: float = 0.95
    group: Ints | None = None
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.interval not in {"normal", "bootstrap"}:
            raise DataError(f'interval: expected "normal" or "bootstrap", got {self.interval!r}')
        if not 0.0 < self.level < 1.0:
            raise DataError(f"level: expected a number between 0 and 1, got {self.level}")


_ROWS_ALONE = Confidence()


def replay_matching(
    reward: Floats, propensity: Floats, chosen: Bools, *, confidence: Confidence = _ROWS_ALONE
) -> Estimate:
    """Estimate from uniformly random logs, by the rows that the target chooses too: `chosen` bool[n].

    Raises
    ------
    DataError
        The propensities are not all the same, or no row is chosen.
    """
    _require_logs(reward, propensity, chosen.astype(np.float64))
    if len(reward) and not np.allclose(propensity, propensity[0], rtol=1e-9, atol=0.0):
        raise DataError(
            f"propensity: replay matching needs logs chosen uniformly at random, got {propensity.min():g} to "
            f"{propensity.max():g}; use inverse_propensity or self_normalised"
        )
    weight = chosen.astype(np.float64)
    return _ratio(weight * reward, weight, weight, confidence)


def inverse_propensity(
    reward: Floats,
    propensity: Floats,
    target: Floats,
    *,
    clip: float | None = None,
    confidence: Confidence = _ROWS_ALONE,
) -> Estimate:
    """Estimate by weighting each row by target / propensity, float64[n] each.

    `clip` holds weights to that at most: less variance, and of rewards from 0 a value too low by what `clipping_bias`
    estimates, mean (w - clip)+ reward.
    """
    _require_logs(reward, propensity, target)
    weight, lost = _clipped(target / propensity, clip)
    return _ratio(weight * reward, np.ones(len(reward)), weight, confidence, lost, lost * reward)


def self_normalised(
    reward: Floats,
    propensity: Floats,
    target: Floats,
    *,
    clip: float | None = None,
    confidence: Confidence = _ROWS_ALONE,
) -> Estimate:
    """Estimate as by `inverse_propensity`, divided by the sum of the weights in place of n.

    A little biased in small logs, and mostly less variable: adding a constant to all rewards adds it to the value.
    """
    _require_logs(reward, propensity, target)
    weight, lost = _clipped(target / propensity, clip)
    return _ratio(weight * reward, weight, weight, confidence, lost, lost * reward)


def doubly_robust(
    reward: Floats,
    propensity: Floats,
    target: Floats,
    predicted: Floats,
    expected: Floats,
    *,
    clip: float | None = None,
    confidence: Confidence = _ROWS_ALONE,
) -> Estimate:
    """Estimate by a model of the reward, corrected by the weighted rows where it was wrong.

    `predicted` float64[n] is the model's reward of what was shown; `expected` float64[n] its mean over what the target
    would show, the sum over candidates of target probability * prediction. Right if either the propensities or the
    model are. The model must not have been fitted to these rows, or the interval is too narrow.
    """
    _require_logs(reward, propensity, target, predicted=predicted, expected=expected)
    weight, lost = _clipped(target / propensity, clip)
    total = expected + weight * (reward - predicted)
    return _ratio(total, np.ones(len(reward)), weight, confidence, lost, lost * (reward - predicted))


def _require_logs(reward: Floats, propensity: Floats, target: Floats, **models: Floats) -> None:
    columns = {"reward": reward, "propensity": propensity, "target": target, **models}
    if reward.ndim != 1 or len(reward) == 0:
        raise DataError(f"reward: expected one value for each of one or more rows, got shape {reward.shape}")
    for name, values in columns.items():
        if values.shape != reward.shape:
            raise DataError(
                f"{name}: expected a value for each of {len(reward)} rows, got shape {values.shape}"
            )
        if not np.all(np.isfinite(values)):
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"{name} of row {row}: expected a finite number, got {values[row]}")
    for name, values, fits in (
        ("propensity", propensity, (propensity > 0.0) & (propensity <= 1.0)),
        ("target", target, (target >= 0.0) & (target <= 1.0)),
    ):
        if not np.all(fits):
            row = int(np.flatnonzero(~fits)[0])
            what = "a probability above 0 and at most 1" if name == "propensity" else "a probability"
            raise DataError(f"{name} of row {row}: expected {what}, got {values[row]}")


def _clipped(weight: Floats, clip: float | None) -> tuple[Floats, Floats]:
    """Weights held to `clip`, and what was taken off each."""
    if clip is None:
        return weight, np.zeros(len(weight))
    if not clip > 0.0:
        raise DataError(f"clip: expected a number above 0, got {clip}")
    held = np.minimum(weight, clip)
    return held, weight - held


def _ratio(
    above: Floats,
    below: Floats,
    weight: Floats,
    confidence: Confidence,
    lost: Floats | None = None,
    bias: Floats | None = None,
) -> Estimate:
    """Sum of `above` / sum of `below`, with the interval that groups of rows, drawn at random, give it."""
    if not below.sum() > 0.0:
        raise DataError("target: expected it to choose what was shown in at least one row, got none")
    lost = np.zeros(len(above)) if lost is None else lost
    tops, bottoms = _by_group(above, confidence.group), _by_group(below, confidence.group)
    value, groups = tops.sum() / bottoms.sum(), len(tops)
    # The delta method: the ratio moves by (top - value * bottom) / sum of bottoms with each group.
    moves = (tops - value * bottoms) / bottoms.sum()
    error = float(np.sqrt(np.sum(moves**2) * groups / max(groups - 1, 1))) if groups > 1 else float("inf")
    if confidence.interval == "normal":
        reach = NormalDist().inv_cdf(0.5 + confidence.level / 2.0) * error
        low, high = value - reach, value + reach
    else:
        low, high = _bootstrap(tops, bottoms, confidence)
    return Estimate(
        value=float(value),
        standard_error=error,
        low=float(low),
        high=float(high),
        level=confidence.level,
        interval=confidence.interval,
        rows=len(above),
        groups=groups,
        effective_rows=float(weight.sum() ** 2 / np.sum(weight**2)) if np.any(weight) else 0.0,
        largest_weight=float((weight + lost).max()),
        clipped=float(np.mean(lost > 0.0)),
        clipping_bias=0.0 if bias is None else float(bias.sum() / below.sum()),
    )


def _by_group(values: Floats, group: Ints | None) -> Floats:
    if group is None:
        return values
    if group.shape != values.shape:
        raise DataError(f"group: expected a value for each of {len(values)} rows, got shape {group.shape}")
    _, place = np.unique(group, return_inverse=True)
    return np.asarray(np.bincount(place, values), dtype=np.float64)


def _bootstrap(tops: Floats, bottoms: Floats, confidence: Confidence) -> tuple[float, float]:
    """Quantiles of the ratio over groups drawn with replacement (Efron 1979); draws without any weight are left out."""
    rng, groups, ratios = np.random.default_rng(confidence.seed), len(tops), []
    at_once = max(1, _AT_ONCE // groups)
    for begin in range(0, confidence.resamples, at_once):
        drawn = rng.integers(groups, size=(min(at_once, confidence.resamples - begin), groups))
        below = bottoms[drawn].sum(axis=1)
        ratios.append(tops[drawn].sum(axis=1)[below > 0.0] / below[below > 0.0])
    tail = (1.0 - confidence.level) / 2.0
    low, high = np.quantile(np.concatenate(ratios), [tail, 1.0 - tail])
    return float(low), float(high)
