"""The blocks of the descent: each refits one effect to what the others leave unexplained."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.arrays import ArrowArray, Columns, Csr, Floats, Ints
from nearline.batch.settings import FixedSettings, RandomSettings
from nearline.fixed.linear import fit_linear
from nearline.model.effects import FixedCoefficients, RandomEffect, design, entity_column
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import ColumnRegistry
from nearline.posterior import outcomes
from nearline.posterior.blocks import Blocks, active_layout, group_rows, share
from nearline.posterior.evidence import complete, extract_evidence, layout_for, select_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.prior import FULL_COLUMNS, Moments, initial_prior, maximise, moments
from nearline.posterior.score import mean_of_blocks, score_blocks
from nearline.posterior.update import Labels, Report, Status, update_many


@final
@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What every coordinate is fitted to: response and weight float64[n] (divided by the noise variance)."""

    outcome: Outcome
    y: Floats
    weight: Floats


@final
class FixedCoordinate:
    """The linear fixed effect."""

    def __init__(
        self, examples: Examples, settings: FixedSettings, start: FixedCoefficients | None, *, anchored: bool
    ) -> None:
        self.settings = settings
        self._registry = ColumnRegistry(intercept=True)
        if start is not None:
            self._registry = ColumnRegistry.from_table(start.registry.to_table())
        self._matrix = design(self._registry, settings.bags, examples, grow=not settings.locked)
        columns = self._registry.version
        self.coefficients = (
            np.zeros(columns) if start is None else _extended(start.coefficients, columns, 0.0)
        )
        self._started = start is not None
        self._past = None if start is None else start.precision
        self._anchor: tuple[Floats, Floats] | None = None
        if anchored and start is not None and start.precision is not None:
            self._anchor = self.coefficients, _extended(start.precision, columns, settings.l2)

    def update(self, target: Target, offset: Floats, correction: Floats, threads: int) -> None:
        """Refit. `correction` float64[n] adds to the gradient in each row's linear predictor."""
        if self.settings.locked:
            return
        adjustment = np.asarray(self._matrix.T @ correction, dtype=np.float64)
        l2: float | Floats = self.settings.l2
        if self._anchor is not None:
            anchor, l2 = self._anchor
            adjustment = adjustment - l2 * anchor
        fit = fit_linear(
            self._matrix,
            target.y,
            target.weight,
            offset,
            target.outcome,
            l2=l2,
            l1=self.settings.l1,
            start=self.coefficients if self._started else None,
            adjustment=adjustment,
            threads=threads,
        )
        self.coefficients = fit.coefficients
        self._started = True

    def contribution(self) -> Floats:
        """X . coefficients of each row, float64[n]."""
        return np.asarray(self._matrix @ self.coefficients, dtype=np.float64)

    def effect(self, target: Target, linear: Floats) -> FixedCoefficients:
        """The effect as it now stands, with its curvature where the linear predictor is `linear`."""
        return FixedCoefficients(
            self.settings.bags, self._registry, self.coefficients, self._precision(target, linear)
        )

    def _precision(self, target: Target, linear: Floats) -> Floats | None:
        if self.settings.locked and self._past is not None:
            return self._past
        curvature = target.weight * outcomes.curvature(target.outcome, linear)
        squared = self._matrix.copy()
        squared.data **= 2
        if self._anchor is not None:
            past = self._anchor[1]
        else:
            past = np.full(len(self.coefficients), self.settings.l2)
            past[0] = 0.0  # the intercept is not shrunk
        return np.asarray(past + squared.T @ curvature, dtype=np.float64)


@final
class _Grouped:
    """Rows brought into the order of their entities once, so that every later pass reads memory in order."""

    def __init__(self, matrix: Csr, entity: Ints, entities: int) -> None:
        self._count = len(entity)
        self._order = np.argsort(entity, kind="stable")[np.count_nonzero(entity < 0) :]
        self.rows = group_rows(matrix[self._order], entity[self._order], entities)

    def take(self, values: Floats) -> Floats:
        """Values of all examples -> of the grouped rows."""
        return values[self._order]

    def put(self, values: Floats) -> Floats:
        """Values of the grouped rows -> of all examples; 0 for those left out."""
        out = np.zeros(self._count)
        out[self._order] = values
        return out


@final
class RandomCoordinate:
    """One random effect, all its entities at once."""

    def __init__(
        self, examples: Examples, settings: RandomSettings, start: RandomEffect | None, *, anchored: bool
    ) -> None:
        self.settings = settings
        self._registry = ColumnRegistry(intercept=True)
        if start is not None:
            self._registry = ColumnRegistry.from_table(start.registry.to_table())
        matrix = design(self._registry, settings.bags, examples, grow=not settings.locked)
        column = entity_column(examples, settings.kind)
        self._names, entity = _number_entities(column, start)
        self._row_count = np.zeros(len(self._names), dtype=np.int64)
        if start is not None and (anchored or settings.locked):
            self._row_count[: start.entities] = start.row_count
        learned = _rows_to_learn(entity, self._row_count, settings)
        self._all = _Grouped(matrix, entity, len(self._names))
        self._learned = self._all
        if not np.array_equal(learned, entity >= 0):
            self._learned = _Grouped(matrix, np.where(learned, entity, -1), len(self._names))
        self._rows = self._learned.rows
        self._stray = _stray_mean(matrix, entity)
        self._full = settings.precision == "full"
        self._estimate = settings.prior_variance is None
        self.prior = self._first_prior(start, self._learned.take(examples.weight))
        self._evidence: Blocks | None = None
        if start is not None and (anchored or settings.locked):
            self._evidence = select_evidence(start.evidence, _old_places(start.entities, len(self._names)))
            self._estimate = False
        if not settings.locked:
            self._row_count += np.diff(self._rows.row_start)
        self._layout = self._choose_layout()
        self._beliefs: Blocks | None = None
        self._moments: Moments | None = None
        self.failures: Counter[Status] = Counter()

    def _first_prior(self, start: RandomEffect | None, weight: Floats) -> Gaussian:
        columns = self._registry.version
        if self.settings.prior_variance is not None:
            fresh = Gaussian(np.zeros(columns), np.full(columns, 1.0 / self.settings.prior_variance))
        else:
            fresh = initial_prior(self._rows, weight)
        if start is not None:
            return _extended_prior(start.prior, fresh, columns)
        if columns > FULL_COLUMNS or not self._full:
            return Gaussian(fresh.mean, _diagonal(fresh))
        return Gaussian(fresh.mean, np.diag(_diagonal(fresh)))

    def _choose_layout(self) -> tuple[Ints, Columns | None]:
        if self._evidence is not None:
            return layout_for(self._all.rows, self._evidence, self.prior)
        if self.prior.is_diagonal:
            return active_layout(self._all.rows)
        return np.arange(len(self._names) + 1, dtype=np.int64) * self._registry.version, None

    def update(self, target: Target, offset: Floats, prior_steps: int, threads: int) -> None:
        """Refit every entity; before that, move the population prior where the last fit calls for it."""
        if self.settings.locked:
            if self._beliefs is None:
                self._beliefs = self._start_blocks(threads)
            return
        take = self._learned.take
        labels = Labels(take(target.y), take(target.weight), take(offset))
        steps = prior_steps if self._moments is None and self._estimate else 0
        for _ in range(steps):
            self._fit(target, labels, threads)
            self._maximise()
        self._maximise()
        self._fit(target, labels, threads)

    def _maximise(self) -> None:
        if self._estimate and self._moments is not None:
            self.prior = maximise(self._moments, self.prior, estimate_mean=self.settings.estimate_prior_mean)

    def _start_blocks(self, threads: int) -> Blocks:
        assert self._evidence is not None  # noqa: S101 - locked and anchored effects have a start
        return complete(self._evidence, self.prior, self._layout, threads=threads)

    def _fit(self, target: Target, labels: Labels, threads: int) -> None:
        prior = share(self.prior) if self._evidence is None else self._start_blocks(threads)
        fitted = update_many(
            self._rows,
            labels,
            prior,
            target.outcome,
            full=self._full,
            layout=self._layout,
            start=None if self._beliefs is None else self._beliefs.mean,
            threads=threads,
        )
        self._beliefs = fitted.beliefs
        self.failures = _failures(fitted.report)
        self._moments = None
        if self._estimate or target.outcome is not Outcome.NORMAL:
            self._moments = moments(
                self._rows, labels, fitted.beliefs, self.prior.mean, target.outcome, threads=threads
            )

    def contribution(self, threads: int) -> Floats:
        """X . b of each row, float64[n]."""
        if self._beliefs is None:
            return np.zeros(self._stray.shape[0])
        mean = mean_of_blocks(self._all.rows, self._beliefs, threads=threads)
        return np.asarray(self._all.put(mean) + self._stray @ self.prior.mean, dtype=np.float64)

    @property
    def has_beliefs(self) -> bool:
        """Whether the effect was visited yet."""
        return self._beliefs is not None

    def variance(self, threads: int) -> Floats:
        """X' V x of each row, float64[n]: what is not known of the entity's part."""
        assert self._beliefs is not None  # noqa: S101 - called after an update
        return self._all.put(score_blocks(self._all.rows, self._beliefs, threads=threads)[1])

    def correction(self, target: Target, linear: Floats) -> Floats:
        """Half the gradient of log det H in each row's linear predictor, the mode moving along, float64[n].

        Added to the fixed effect's gradient, it makes its coefficients maximise the Laplace marginal likelihood
        rather than the likelihood at the modes; 0 for Normal outcomes (see `nearline.posterior.prior`).
        """
        if self._moments is None or target.outcome is Outcome.NORMAL:
            return np.zeros_like(linear)
        third = outcomes.slope_of_curvature(target.outcome, linear)
        second = outcomes.curvature(target.outcome, linear)
        put = self._learned.put
        return 0.5 * target.weight * (third * put(self._moments.leverage) - second * put(self._moments.pull))

    def effect(self, threads: int) -> RandomEffect:
        """The effect as it now stands."""
        assert self._beliefs is not None  # noqa: S101 - called after an update
        layout = active_layout(self._rows, self._evidence) if self._rows.is_sparse else self._layout
        evidence = extract_evidence(self._beliefs, self.prior, layout, threads=threads)
        return RandomEffect(
            self.settings.name,
            self.settings.kind,
            self.settings.bags,
            self._registry,
            self.prior,
            evidence,
            self._names,
            self._row_count,
        )


def _extended(values: Floats, columns: int, fill: float) -> Floats:
    return np.concatenate([values, np.full(columns - len(values), fill)])


def _diagonal(prior: Gaussian) -> Floats:
    return prior.precision if prior.is_diagonal else np.diag(prior.precision).copy()


def _extended_prior(old: Gaussian, fresh: Gaussian, columns: int) -> Gaussian:
    """The old prior; columns it does not know are independent of the others and start as `fresh`."""
    known = len(old.mean)
    if known == columns:
        return old
    mean = _extended(old.mean, columns, 0.0)
    if old.is_diagonal:
        return Gaussian(mean, np.concatenate([old.precision, _diagonal(fresh)[known:]]))
    precision = np.diag(_diagonal(fresh))
    precision[:known, :known] = old.precision
    return Gaussian(mean, precision)


def _number_entities(column: EntityColumn, start: RandomEffect | None) -> tuple[pa.StringArray, Ints]:
    """Names of all entities, those of `start` first, and the number of each row's entity (-1: none)."""
    codes = column.codes
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(column.names)))
    seen = _at(column.names, used)
    known = start.names if start is not None else pa.array([], pa.string())
    place_of: ArrowArray = pc.index_in(seen, known)
    new = np.flatnonzero(place_of.is_null().to_numpy(zero_copy_only=False))
    names: Any = pa.concat_arrays([known.cast(pa.string()), _at(seen, new).cast(pa.string())])
    place = pc.index_in(column.names, names).fill_null(-1).to_numpy(zero_copy_only=False)
    return names, np.append(place, -1)[codes].astype(np.int64)


def _at(names: ArrowArray, places: NDArray[np.integer[Any]]) -> ArrowArray:
    return names.take(pa.array(places))


def _old_places(known: int, entities: int) -> Ints:
    place = np.arange(entities)
    return np.where(place < known, place, -1)


def _rows_to_learn(entity: Ints, rows_before: Ints, settings: RandomSettings) -> NDArray[np.bool_]:
    """Which rows an effect learns from: not those of entities below the lower bound, and a sample above the cap.

    `rows_before` int64[entities], learned earlier, count towards the lower bound. The sample keeps the rows whose
    mixed index is smallest: always the same ones.
    """
    learned = entity >= 0
    count = np.bincount(entity[learned], minlength=len(rows_before))
    learned &= np.append(count + rows_before, 0)[entity] >= settings.min_rows
    if settings.max_rows is not None:
        order = np.lexsort((_mixed(np.arange(len(entity), dtype=np.uint64)), entity))
        first = np.cumsum(np.append(0, count))[:-1] + np.count_nonzero(entity < 0)
        rank = np.arange(len(entity)) - np.append(first, 0)[entity[order]]
        learned[order[rank >= settings.max_rows]] = False
    return learned


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): bits that look random."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _stray_mean(matrix: Csr, entity: Ints) -> Csr:
    """The rows without an entity, all others emptied: they have the population prior's mean."""
    stray = matrix.copy()
    stray.data = stray.data * np.repeat(entity < 0, np.diff(stray.indptr))
    stray.eliminate_zeros()
    return stray


def _failures(report: Report) -> Counter[Status]:
    counts = Counter(
        {Status(int(s)): int(n) for s, n in zip(*np.unique(report.status, return_counts=True), strict=True)}
    )
    del counts[Status.LEARNED]
    del counts[Status.NO_ROWS]
    return counts
