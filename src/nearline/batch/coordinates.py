"""The blocks of the descent: each refits one effect to what the others leave unexplained."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from nearline.arrays import Columns, Floats, Ints
from nearline.batch.carried_over import extended, extended_prior, shaped, with_untouched
from nearline.batch.entity_rows import GroupedRows, number_entities, rows_to_learn, stray_rows
from nearline.batch.settings import FixedSettings, RandomSettings
from nearline.fixed.linear import checked_rows, fit_linear
from nearline.model.effects import FixedCoefficients, RandomEffect, design, entity_column
from nearline.model.examples import Examples
from nearline.model.features import ColumnRegistry
from nearline.posterior import outcomes
from nearline.posterior.blocks import Blocks, active_layout, share
from nearline.posterior.evidence import complete, extract_evidence, layout_for, select_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.posterior.prior import FULL_COLUMNS, Moments, initial_prior, maximise, moments
from nearline.posterior.score import mean_of_blocks, score_blocks
from nearline.posterior.update import Labels, Report, Status, update_many

_WEAK = 0.01
"""Precision of the prior on an intercept that the responses leave without a finite optimum: one of std 10."""

_FIXED_TOLERANCE, _RANDOM_TOLERANCE = 1e-3, 1e-6
"""Where Newton's method may stop, as `fit_linear` and `update_many` count it. The step that was small enough is still
taken, which about squares what is left, and the next sweep goes on from there."""


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
        self._rows = checked_rows(self._matrix)
        columns = self._registry.version
        self.coefficients = np.zeros(columns) if start is None else extended(start.coefficients, columns, 0.0)
        self._start = start
        self._started = start is not None
        self.unsettled: str | None = None
        self._anchor: tuple[Floats, Floats] | None = None
        if anchored and start is not None and start.precision is not None:
            self._anchor = self.coefficients, extended(start.precision, columns, settings.l2)

    def update(self, target: Target, offset: Floats, correction: Floats, threads: int) -> None:
        """Refit. `correction` float64[n] adds to the gradient in each row's linear predictor."""
        if self.settings.locked:
            return
        adjustment = np.asarray(self._matrix.T @ correction, dtype=np.float64)
        l2: float | Floats = self.settings.l2
        if self._anchor is not None:
            anchor, l2 = self._anchor
            adjustment = adjustment - l2 * anchor
        held = self._anchor is None and _is_at_limit(target)
        if held:
            l2 = np.full(len(self.coefficients), self.settings.l2)
            l2[0] = _WEAK
        fit = fit_linear(
            self._rows,
            target.y,
            target.weight,
            offset,
            target.outcome,
            l2=l2,
            l1=self.settings.l1,
            start=self.coefficients if self._started else None,
            adjustment=adjustment,
            tolerance=_FIXED_TOLERANCE,
            threads=threads,
        )
        self.coefficients = fit.coefficients
        self.unsettled = None if fit.converged else fit.reason
        if held:
            self.unsettled = f"every response is {target.y[0]:g}: a weak prior holds the intercept, of std 10"
        self._started = True

    def contribution(self) -> Floats:
        """X . coefficients of each row, float64[n]."""
        return np.asarray(self._matrix @ self.coefficients, dtype=np.float64)

    def effect(self, target: Target, linear: Floats) -> FixedCoefficients:
        """The effect as it now stands, with its curvature where the linear predictor is `linear`."""
        if self.settings.locked and self._start is not None:
            return self._start
        curvature = target.weight * outcomes.curvature(target.outcome, linear)
        squared = self._matrix.copy()
        squared.data **= 2
        past = np.full(len(self.coefficients), self.settings.l2)
        past[0] = 0.0
        if self._anchor is not None:
            past = self._anchor[1]
        precision = past + np.asarray(squared.T @ curvature)
        return FixedCoefficients(self.settings.bags, self._registry, self.coefficients, precision)


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
        self._names, entity = number_entities(column, start)
        self._start = start
        goes_on = start is not None and (anchored or settings.locked)
        known_rows = np.zeros(len(self._names), dtype=np.int64)
        if start is not None and goes_on:
            known_rows[: start.entities] = start.row_count
        learned = rows_to_learn(entity, known_rows, settings)
        self._all = GroupedRows(matrix, entity, len(self._names))
        self._learned = self._all
        if not np.array_equal(learned, entity >= 0):
            self._learned = GroupedRows(matrix, np.where(learned, entity, -1), len(self._names))
        self._rows = self._learned.rows
        self._stray = stray_rows(matrix, entity)
        self._full = settings.precision == "full"
        self._warm = start is not None
        self._estimate = settings.prior_variance is None
        self.prior = self._first_prior(start, goes_on=goes_on, weight=self._learned.take(examples.weight))
        self._evidence: Blocks | None = None
        if start is not None and goes_on:
            place = np.arange(len(self._names))
            self._evidence = select_evidence(start.evidence, np.where(place < start.entities, place, -1))
            self._estimate = False
        self._row_count = np.diff(self._rows.row_start) + known_rows
        self._layout = self._choose_layout()
        self._beliefs: Blocks | None = None
        self._begin: Floats | None = None
        self._report: Report | None = None
        self._fitted_to: tuple[Outcome, Labels, Floats | None] | None = None
        self._moments: Moments | None = None

    def _first_prior(self, start: RandomEffect | None, *, goes_on: bool, weight: Floats) -> Gaussian:
        """The prior of `start` if its evidence, which is what lies beyond it, is kept; else as the settings say."""
        columns = self._registry.version
        diagonal = columns > FULL_COLUMNS or not self._full
        if self.settings.prior_variance is not None:
            fresh = Gaussian(np.zeros(columns), np.full(columns, 1.0 / self.settings.prior_variance))
        else:
            fresh = initial_prior(self._rows, weight)
        if start is not None and goes_on:
            return extended_prior(start.prior, fresh, columns)
        if start is not None and self.settings.prior_variance is None:
            fresh = extended_prior(start.prior, fresh, columns)
        return shaped(fresh, diagonal=diagonal)

    def _choose_layout(self) -> tuple[Ints, Columns | None]:
        if self._evidence is not None:
            return layout_for(self._all.rows, self._evidence, self.prior)
        if self.prior.is_diagonal:
            return active_layout(self._all.rows)
        return np.arange(len(self._names) + 1, dtype=np.int64) * self._registry.version, None

    def update(
        self,
        target: Target,
        offset: Floats,
        prior_steps: int,
        threads: int,
        other_variance: Floats | None = None,
    ) -> None:
        """Refit every entity; before that, move the population prior where the last fit calls for it.

        `offset`, `other_variance` float64[n]: of each row, what the other effects contribute, and its variance
        (None: 0).
        """
        if self.settings.locked:
            if self._beliefs is None:
                self._beliefs = self._start_blocks(threads)
            return
        take = self._learned.take
        labels = Labels(take(target.y), take(target.weight), take(offset))
        others = None if other_variance is None else take(other_variance)
        steps = prior_steps if self._beliefs is None and self._estimate and not self._warm else 0
        for _ in range(steps):
            self._fit(target, labels, others, threads)
            self._maximise(threads)
        self._maximise(threads)
        self._fit(target, labels, others, threads)

    def restart(self) -> None:
        """Begin again as an effect not yet visited, whose prior and means are known."""
        self._warm, self._beliefs = True, None
        self._fitted_to = self._moments = None

    def _maximise(self, threads: int) -> None:
        if self._estimate and self._fitted_to is not None:
            found = self._moments_of_fit(threads)
            self.prior = maximise(found, self.prior, estimate_mean=self.settings.estimate_prior_mean)

    def _moments_of_fit(self, threads: int) -> Moments:
        """The moments of the beliefs under the prior they were fitted with, when they are first asked for."""
        if self._moments is None:
            assert self._beliefs is not None and self._fitted_to is not None  # noqa: S101, PT018 - asked after a fit
            outcome, labels, others = self._fitted_to
            self._moments = moments(
                self._rows,
                labels,
                self._beliefs,
                self.prior.mean,
                outcome,
                other_variance=others,
                threads=threads,
            )
        return self._moments

    def _prior_blocks(self, threads: int) -> Blocks:
        return share(self.prior) if self._evidence is None else self._start_blocks(threads)

    def _start_blocks(self, threads: int) -> Blocks:
        assert self._evidence is not None  # noqa: S101 - locked and anchored effects have a start
        return complete(self._evidence, self.prior, self._layout, threads=threads)

    def _fit(self, target: Target, labels: Labels, others: Floats | None, threads: int) -> None:
        fitted = update_many(
            self._rows,
            labels,
            self._prior_blocks(threads),
            target.outcome,
            full=self._full,
            layout=self._layout,
            start=self._begin,
            tolerance=_RANDOM_TOLERANCE,
            threads=threads,
        )
        self._beliefs, self._begin = fitted.beliefs, fitted.beliefs.mean
        self._report = fitted.report
        self._fitted_to, self._moments = (target.outcome, labels, others), None

    @property
    def beliefs(self) -> Blocks:
        """What is believed of each entity, the other effects taken as known."""
        assert self._beliefs is not None  # noqa: S101 - called after an update
        return self._beliefs

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
        if self._fitted_to is not None and self._learned is self._all:
            return self._all.put(self._moments_of_fit(threads).leverage)
        return self._all.put(score_blocks(self._all.rows, self._beliefs, threads=threads)[1])

    def correction(self, target: Target, linear: Floats, threads: int) -> Floats:
        """Half the gradient of log det H in each row's linear predictor, the mode moving along, float64[n].

        Added to the fixed effect's gradient, it makes its coefficients maximise the Laplace marginal likelihood
        rather than the likelihood at the modes; 0 for Normal outcomes (see `nearline.posterior.prior`).
        """
        if self._fitted_to is None or target.outcome is Outcome.NORMAL:
            return np.zeros_like(linear)
        found = self._moments_of_fit(threads)
        third = outcomes.slope_of_curvature(target.outcome, linear)
        second = outcomes.curvature(target.outcome, linear)
        put = self._learned.put
        return 0.5 * target.weight * (third * put(found.leverage) - second * put(found.pull))

    @property
    def failures(self) -> Counter[Status]:
        """Entities that the last fit could not fit, by reason."""
        return _failures(self._report) if self._report is not None else Counter()

    def counted(self, weight: Floats) -> Floats:
        """`weight` float64[n] of the rows that the beliefs were learned from, 0 of all others."""
        if self._report is None:  # locked
            return np.zeros_like(weight)
        entity_learned = np.repeat(self._report.status == Status.LEARNED, self._rows.rows_per_entity)
        counted = entity_learned & (self._report.row_learned != 0)
        return self._learned.put(self._learned.take(weight) * counted)

    def reweighed(self, weight: Floats, threads: int) -> Blocks:
        """The beliefs with their means, and the precision that rows of curvature `weight` float64[n] add up to."""
        assert self._beliefs is not None  # noqa: S101 - called after an update
        if self.settings.locked:
            return self._beliefs
        labels = Labels(np.zeros(self._rows.count), self._learned.take(weight))
        prior = self._prior_blocks(threads)
        found = update_many(
            self._rows, labels, prior, Outcome.NORMAL, full=self._full, layout=self._layout, threads=threads
        )
        beliefs = replace(found.beliefs, mean=self._beliefs.mean)
        return with_untouched(beliefs, self._beliefs, found.report.status != Status.LEARNED)

    def effect(self, threads: int, beliefs: Blocks | None = None) -> RandomEffect:
        """The effect as it now stands, or with these beliefs: its own, reweighed."""
        if self.settings.locked and self._start is not None:
            return self._start
        layout = active_layout(self._rows, self._evidence) if self._rows.is_sparse else self._layout
        evidence = extract_evidence(beliefs or self.beliefs, self.prior, layout, threads=threads)
        if self._evidence is not None:
            evidence = with_untouched(evidence, self._evidence, self._rows.rows_per_entity == 0)
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


def _is_at_limit(target: Target) -> bool:
    """Whether all responses are at one end of their range, so that no finite intercept fits them best."""
    y = target.y[target.weight > 0.0]
    if target.outcome is Outcome.NORMAL:
        return False
    return bool(np.all(y == 0.0) or (target.outcome is Outcome.BERNOULLI and np.all(y == 1.0)))


def _failures(report: Report) -> Counter[Status]:
    counts = Counter(
        {Status(int(s)): int(n) for s, n in zip(*np.unique(report.status, return_counts=True), strict=True)}
    )
    del counts[Status.LEARNED]
    del counts[Status.NO_ROWS]
    return counts
