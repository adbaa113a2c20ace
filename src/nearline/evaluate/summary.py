"""Held-out rows and their predictions to one table of metrics, overall and by how much each entity was seen.

A personalized model earns its keep on entities it knows well, and must not lose on those it has never seen,
so each metric comes for all rows and by the number of training rows of the row's entity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from nearline.arrays import Bools, Floats, Ints
from nearline.errors import DataError
from nearline.evaluate.bootstrap import Estimate, Statistic, bootstrap, estimates
from nearline.evaluate.catalogue import METRICS
from nearline.evaluate.measures import Measures
from nearline.evaluate.per_entity import EntityValues, entity_aucs, entity_precisions
from nearline.evaluate.ranked import ratio
from nearline.evaluate.results import Evaluation, MetricResult, Slice
from nearline.evaluate.weights import checked_weight
from nearline.posterior.outcomes import Outcome

SIZE_GROUPS: Final = (("new", 0, 0), ("1-5", 1, 5), ("6-50", 6, 50), ("more than 50", 51, None))
"""Name, fewest and most training rows of an entity in each size group."""

_ANY: Final = (-np.inf, np.inf)


@final
@dataclass(frozen=True, slots=True, eq=False)
class EntitySizes:
    """The entity of each row, and how many rows of that entity the training had; int64, shape (rows,)."""

    codes: Ints
    training_rows: Ints

    def __post_init__(self) -> None:
        if self.codes.ndim != 1 or self.codes.shape != self.training_rows.shape:
            raise DataError(
                f"entity sizes: expected codes and training rows of one shape (rows,), "
                f"got {self.codes.shape} and {self.training_rows.shape}"
            )


def evaluate(
    y: Floats,
    prediction: Floats,
    weight: Floats | None,
    outcome: Outcome,
    entities: Mapping[str, EntitySizes],
    rng: np.random.Generator,
    *,
    prediction_std: Floats | None = None,
    baseline: Floats | None = None,
    k: int = 10,
    level: float = 0.95,
    resamples: int = 200,
    resampled_by: str | None = None,
) -> Evaluation:
    """Return the metrics of `prediction`, with bootstrap intervals of `level`, overall and by entity size.

    `y`, `prediction` (the mean response: a probability, a mean, a rate) and `weight` are of shape (rows,); so
    are `prediction_std` (the predictive std of a Normal outcome, in units of y; without it no coverage is
    measured) and `baseline`, another model's predictions: with those, each metric of which more or less
    is better has its gain over the baseline, with the interval of the difference on the same resamples.

    Whole entities of the type `resampled_by` are resampled, by default the first type in `entities`; single
    rows only if there is none. Metrics within entities resample the entities of their own type.
    """
    weight = checked_weight(y, prediction, weight, outcome)
    _check_beside(y, {"prediction std": prediction_std, "baseline": baseline}, entities)
    by = resampled_by if resampled_by is not None else next(iter(entities), None)
    if by is not None and by not in entities:
        raise DataError(f"resampled_by: no entity type {by!r} among {sorted(entities)}")
    codes = {name: sizes.codes for name, sizes in entities.items()}
    rows = _Rows(outcome, y, prediction, weight, prediction_std, baseline, codes)
    how = _Resampling(rng, resamples, level, by, k)
    overall = Slice(None, "all", y.size, None, _results(rows, how, tuple(entities)))
    groups = tuple(
        _slice(rows, how, name, sizes, group) for name, sizes in entities.items() for group in SIZE_GROUPS
    )
    return Evaluation(outcome, overall, groups, level, resamples, by, k)


def _check_beside(
    y: Floats, beside: Mapping[str, Floats | None], entities: Mapping[str, EntitySizes]
) -> None:
    for name, other in beside.items():
        if other is not None and (other.shape != y.shape or not np.all(np.isfinite(other))):
            raise DataError(f"{name}: expected {y.size} finite numbers, one per row of y")
    for name, sizes in entities.items():
        if sizes.codes.shape != y.shape:
            raise DataError(f"entities.{name}: expected {y.size} rows, got {sizes.codes.size}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    outcome: Outcome
    y: Floats
    prediction: Floats
    weight: Floats
    prediction_std: Floats | None
    baseline: Floats | None
    codes: Mapping[str, Ints]

    def where(self, chosen: Bools) -> "_Rows":
        std, baseline = self.prediction_std, self.baseline
        return _Rows(
            self.outcome,
            self.y[chosen],
            self.prediction[chosen],
            self.weight[chosen],
            None if std is None else std[chosen],
            None if baseline is None else baseline[chosen],
            {name: codes[chosen] for name, codes in self.codes.items()},
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Resampling:
    rng: np.random.Generator
    resamples: int
    level: float
    by: str | None
    k: int


def _slice(
    rows: _Rows, how: _Resampling, entity_type: str, sizes: EntitySizes, group: tuple[str, int, int | None]
) -> Slice:
    name, fewest, most = group
    chosen = sizes.training_rows >= fewest
    if most is not None:
        chosen &= sizes.training_rows <= most
    some = rows.where(chosen)
    count, entities = some.y.size, np.unique(some.codes[entity_type]).size
    if not np.any(some.weight > 0.0):
        return Slice(entity_type, name, count, entities, ())
    return Slice(entity_type, name, count, entities, _results(some, how, (entity_type,)))


def _results(rows: _Rows, how: _Resampling, within: tuple[str, ...]) -> tuple[MetricResult, ...]:
    results = _row_results(rows, how)
    if rows.outcome is Outcome.BERNOULLI:
        results += tuple(result for name in within for result in _entity_results(rows, how, name))
    return results


def _row_results(rows: _Rows, how: _Resampling) -> tuple[MetricResult, ...]:
    model = Measures.prepare(rows.outcome, rows.y, rows.prediction, rows.prediction_std)
    names = model.names
    gained: tuple[str, ...] = ()
    statistic: Statistic = model.of
    if rows.baseline is not None:
        baseline = Measures.prepare(rows.outcome, rows.y, rows.baseline)
        gained = tuple(name for name in baseline.names if METRICS[name].better != 0)
        statistic = _with_gains(model, baseline, gained)
    codes = None if how.by is None else rows.codes[how.by]
    replicates = bootstrap(statistic, rows.weight, how.rng, resamples=how.resamples, entity_codes=codes)
    ranges = [(METRICS[name].lowest, METRICS[name].highest) for name in names] + [_ANY] * len(gained)
    values = statistic(rows.weight[None, :])[0]
    found = estimates(values, replicates, level=how.level, ranges=ranges)
    gains: dict[str, Estimate] = dict(zip(gained, found[len(names) :], strict=True))
    return tuple(
        MetricResult(name, estimate, gain=gains.get(name))
        for name, estimate in zip(names, found[: len(names)], strict=True)
    )


def _with_gains(model: Measures, baseline: Measures, gained: tuple[str, ...]) -> Statistic:
    """Return the statistic that has the metrics of the model, then its gains on the baseline."""
    own_columns = [model.names.index(name) for name in gained]
    other_columns = [baseline.names.index(name) for name in gained]
    signs = np.array([METRICS[name].better for name in gained], dtype=np.float64)

    def statistic(weight: Floats) -> Floats:
        own, other = model.of(weight), baseline.of(weight)
        return np.hstack([own, signs * (own[:, own_columns] - other[:, other_columns])])

    return statistic


def _entity_results(rows: _Rows, how: _Resampling, entity_type: str) -> tuple[MetricResult, ...]:
    codes = rows.codes[entity_type]

    def both(score: Floats) -> tuple[EntityValues, EntityValues]:
        return entity_aucs(rows.y, score, rows.weight, codes), entity_precisions(rows.y, score, codes, how.k)

    baseline = (None, None) if rows.baseline is None else both(rows.baseline)
    own = zip(("per_entity_auc", "precision_at_k"), both(rows.prediction), baseline, strict=True)
    return tuple(_entity_result(name, entity_type, mine, theirs, how) for name, mine, theirs in own)


def _entity_result(
    name: str, entity_type: str, own: EntityValues, baseline: EntityValues | None, how: _Resampling
) -> MetricResult:
    if own.value.size == 0:
        return MetricResult(name, Estimate(float("nan")), entity_type, 0, None)
    columns = [own.value] if baseline is None else [own.value, own.value - baseline.value]
    values = np.column_stack(columns)

    def statistic(weight: Floats) -> Floats:
        return ratio(weight @ values, weight.sum(axis=1, keepdims=True))

    replicates = bootstrap(statistic, own.weight, how.rng, resamples=how.resamples)
    ranges = [(METRICS[name].lowest, METRICS[name].highest), _ANY][: len(columns)]
    found = estimates(statistic(own.weight[None, :])[0], replicates, level=how.level, ranges=ranges)
    return MetricResult(
        name, found[0], entity_type, own.value.size, found[1] if baseline is not None else None
    )
