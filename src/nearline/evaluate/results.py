"""What an evaluation found, as frozen values, and the same as JSON."""

import math
from dataclasses import dataclass
from typing import Any, final

from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.catalogue import label
from nearline.posterior.outcomes import Outcome


@final
@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric (a name in `METRICS`) with its interval.

    `entity_type` and `entities` (how many could be measured) are of metrics within entities only. `gain` is
    how much better than the baseline the value is (below zero: worse), None without a baseline.
    """

    metric: str
    estimate: Estimate
    entity_type: str | None = None
    entities: int | None = None
    gain: Estimate | None = None


@final
@dataclass(frozen=True, slots=True)
class Slice:
    """The metrics of some rows: all (`entity_type` None), or those whose entity is in a size group.

    `metrics` is empty for a group without rows of positive weight.
    """

    entity_type: str | None
    group: str
    rows: int
    entities: int | None
    metrics: tuple[MetricResult, ...]

    def find(self, metric: str, entity_type: str | None = None) -> MetricResult | None:
        """Return the result of one metric, None if it was not measured."""
        for result in self.metrics:
            if result.metric == metric and result.entity_type == entity_type:
                return result
        return None


@final
@dataclass(frozen=True, slots=True)
class Evaluation:
    """A table of metrics with intervals of `level`: overall, and by entity size for each entity type.

    The intervals come from `resamples` bootstrap draws of whole entities of the type `resampled_by`, or of
    single rows if that is None.
    """

    outcome: Outcome
    overall: Slice
    groups: tuple[Slice, ...]
    level: float
    resamples: int
    resampled_by: str | None
    k: int

    def label(self, result: MetricResult) -> str:
        """Return the name of a metric for people, such as "AUC within user"."""
        return label(result.metric, entity_type=result.entity_type, k=self.k)

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as what JSON can hold; an undefined number is None."""
        return {
            "outcome": self.outcome.name.lower(),
            "interval": {
                "level": self.level,
                "resamples": self.resamples,
                "resampled_by": self.resampled_by or "row",
            },
            "k": self.k,
            "rows": self.overall.rows,
            "metrics": _metrics(self.overall),
            "groups": [
                {
                    "entity_type": group.entity_type,
                    "training_rows": group.group,
                    "rows": group.rows,
                    "entities": group.entities,
                    "metrics": _metrics(group),
                }
                for group in self.groups
            ],
        }


def _metrics(rows: Slice) -> list[dict[str, Any]]:
    found = []
    for result in rows.metrics:
        entry: dict[str, Any] = {"metric": result.metric, **_numbers(result.estimate)}
        if result.entity_type is not None:
            entry |= {"entity_type": result.entity_type, "entities": result.entities}
        if result.gain is not None:
            entry["gain"] = _numbers(result.gain)
        found.append(entry)
    return found


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}
