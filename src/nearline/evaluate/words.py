"""Results to short plain sentences and well-set numbers."""

import math

from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.results import Evaluation
from nearline.posterior.outcomes import Outcome

_SPACE = "\u00a0"
_UNDEFINED = "n/a"


def number(value: float, digits: int = 4, *, sign: bool = False) -> str:
    """Return a value with fixed decimals and a real minus, "n/a" if it is undefined."""
    if not math.isfinite(value):
        return _UNDEFINED
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "\u2212")


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage, "n/a" if it is undefined."""
    return f"{100.0 * share:.{digits}f}{_SPACE}%" if math.isfinite(share) else _UNDEFINED


def interval(estimate: Estimate, digits: int = 4, *, sign: bool = False) -> str:
    """Return the two ends of an interval, "n/a" if there is none."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return _UNDEFINED
    return f"{number(estimate.low, digits, sign=sign)} to {number(estimate.high, digits, sign=sign)}"


def count(value: int) -> str:
    """Return a count with its thousands apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 1.0:
        return f"{1000.0 * seconds:.0f}{_SPACE}ms"
    if seconds < 120.0:
        return f"{seconds:.1f}{_SPACE}s"
    return f"{seconds / 60.0:.1f}{_SPACE}min"


def memory(size_bytes: int) -> str:
    """Return an amount of memory in MiB or GiB."""
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:.0f}{_SPACE}MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f}{_SPACE}GiB"


def verdict(evaluation: Evaluation) -> str:
    """Return how good the model is, in sentences that need no statistics."""
    match evaluation.outcome:
        case Outcome.BERNOULLI:
            said = [_ranking(evaluation), _calibration(evaluation), _ratio(evaluation)]
        case Outcome.NORMAL:
            said = [_error(evaluation), _coverage(evaluation)]
        case Outcome.POISSON:
            said = [_ratio(evaluation), _error(evaluation)]
    return " ".join(sentence for sentence in said if sentence)


def provenance(evaluation: Evaluation) -> str:
    """Return on what the numbers rest: how many rows, and what the intervals are."""
    level, unit = percent(evaluation.level, 0), evaluation.resampled_by
    rows = f"Measured on {count(evaluation.overall.rows)} rows that the model was not trained on."
    draws = f"The {level} intervals come from {evaluation.resamples} bootstrap resamples of"
    if unit is None:
        return f"{rows} {draws} single rows."
    return f"{rows} {draws} whole entities ({unit}), because the rows of one {unit} depend on each other."


def _ranking(evaluation: Evaluation) -> str:
    auc = _estimate(evaluation, "auc")
    if not math.isfinite(auc.value):
        return "Only one of the two outcomes occurs, so nothing can be said of the ranking."
    return (
        "Of two random rows with different outcomes the model ranks the right one first "
        f"{percent(auc.value)} of the time{_in_brackets(evaluation, auc)}; a coin does half the time."
    )


def _calibration(evaluation: Evaluation) -> str:
    gap = _estimate(evaluation, "ece").value
    if not math.isfinite(gap):
        return ""
    return f"Its probabilities are off by {100.0 * gap:.1f} percentage points on average."


def _ratio(evaluation: Evaluation) -> str:
    ratio = _estimate(evaluation, "observed_over_expected").value
    if not math.isfinite(ratio):
        return ""
    return f"For every 100 events it predicts, {100.0 * ratio:.1f} happen."


def _error(evaluation: Evaluation) -> str:
    rmse, level = _estimate(evaluation, "rmse"), percent(evaluation.level, 0)
    ends = interval(rmse, 3)
    brackets = f" ({level} interval {ends})" if ends != _UNDEFINED else ""
    return f"Its predictions are off by {number(rmse.value, 3)}{brackets}, as a root mean square."


def _coverage(evaluation: Evaluation) -> str:
    coverage = evaluation.overall.find("coverage_95")
    if coverage is None:
        return ""
    return f"Its 95{_SPACE}% intervals hold {percent(coverage.estimate.value)} of the outcomes."


def _in_brackets(evaluation: Evaluation, share: Estimate) -> str:
    if not math.isfinite(share.low):
        return ""
    ends = f"{100.0 * share.low:.1f} to {percent(share.high)}"
    return f" ({percent(evaluation.level, 0)} interval {ends})"


def _estimate(evaluation: Evaluation, metric: str) -> Estimate:
    result = evaluation.overall.find(metric)
    return Estimate(math.nan) if result is None else result.estimate
