"""Examples -> a trained GAME model, by block coordinate descent.

Each effect in turn is refitted with all the others' contributions as its offset, so every visit is a problem the
effect can solve alone. The population priors move by one step of maximising the (Laplace) marginal likelihood
before each visit, so at the end of the descent coefficients, beliefs and priors agree with one another.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np

from nearline.arrays import Floats
from nearline.batch.coordinates import FixedCoordinate, RandomCoordinate, Target
from nearline.batch.crossed import beliefs_together
from nearline.batch.settings import FIXED, TrainingSettings
from nearline.errors import ConfigError, DataError
from nearline.fixed.linear import available_cores
from nearline.fixed.objective import inner
from nearline.model.examples import Examples, split_random, usable_rows
from nearline.model.game import GameModel
from nearline.posterior import outcomes
from nearline.posterior.outcomes import Outcome
from nearline.posterior.update import Status

Watch: TypeAlias = Callable[["Sweep"], None]
_LEAST_NOISE = 1e-6
"""The noise variance is held above this part of where its estimate begins: the variance of the response."""


@final
@dataclass(frozen=True, slots=True)
class Sweep:
    """How the fit stood after a pass over the effects: mean losses per unit of weight."""

    number: int
    training_loss: float
    validation_loss: float | None
    noise_variance: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A trained model and how it came about.

    Attributes
    ----------
    model : of the best sweep by validation loss if validation rows were given, else of the last.
    sweeps : every sweep made.
    best_sweep : the number of the sweep `model` is from.
    rows_set_aside : rows that were not learned, by reason.
    failures : entities that could not be fitted and keep their prior, by effect and reason.
    fixed_unsettled : why the last fit of the fixed effect did not converge, or None if it did.
    """

    model: GameModel
    sweeps: tuple[Sweep, ...]
    best_sweep: int
    rows_set_aside: dict[str, int]
    failures: dict[str, Counter[Status]]
    fixed_unsettled: str | None = None


def fit_game(
    examples: Examples,
    settings: TrainingSettings,
    *,
    start: GameModel | None = None,
    incremental: bool = False,
    validation: Examples | None = None,
    watch: Watch | None = None,
) -> Training:
    """Train a GAME model.

    Parameters
    ----------
    start : a model to begin from. Its columns keep their numbers, its entities their places, its priors are where
        the estimate begins, and its locked effects stay.
    incremental : learn `examples` as new evidence on top of `start`: every entity's belief is the prior of its
        update, and entities, features and coefficients that the new rows lack stay as they were; the population
        priors stay too, and the noise variance is that of old and new rows together. The fixed effect remembers
        the old rows by the diagonal of its precision. Without it the examples are all there is, and `start` only
        saves time.
    validation : rows by whose loss the best sweep is chosen; by default the share of the examples that the settings
        hold out, none if `incremental`.
    watch : called after each sweep.

    Raises
    ------
    DataError
        No row that can be learned; a bag or kind of entity the settings name is not in the examples.
    ConfigError
        The settings do not fit `start`.
    """
    _require_fitting(settings, start, incremental=incremental)
    held_out = settings.validation_fraction if not incremental else 0.0
    rows = _Rows.of(examples, settings, validation, held_out)
    descent = _Descent(rows.learned, settings, start, incremental=incremental)
    return _descend(descent, rows, settings, watch)


def fit_stages(
    examples: Examples, stages: Sequence[TrainingSettings], *, watch: Watch | None = None
) -> Iterator[Training]:
    """Train nested models one after another: each has the random effects of the one before, and more after them.

    Each goes on from where the one before ended, which saves time and nothing else. But for their random effects
    and their sequence the settings are those of the first. Arguments and errors are those of `fit_game`.
    """
    first = stages[0]
    rows = _Rows.of(examples, first, None, first.validation_fraction)
    descent = _Descent(rows.learned, replace(first, random=()), None, incremental=False)
    for settings in stages:
        _require_fitting(settings, None, incremental=False)
        descent.extend(settings)
        yield _descend(descent, rows, settings, watch)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows to learn from, those to validate on, and how many were set aside, by reason."""

    learned: Examples
    validation: Examples | None
    set_aside: dict[str, int]

    @classmethod
    def of(
        cls, examples: Examples, settings: TrainingSettings, validation: Examples | None, held_out: float
    ) -> "_Rows":
        """`held_out` is the share of the rows to validate on where no rows for that are given."""
        learned, set_aside = usable_examples(examples, settings.outcome, "can be learned from")
        if validation is None and held_out > 0.0:
            validation, learned = split_random(learned, held_out, settings.seed)
        if validation is not None:
            learned, _ = usable_examples(learned, settings.outcome, "is left to learn from")
            validation, _ = usable_examples(validation, settings.outcome, "can be validated on")
        return cls(learned, validation, set_aside)


def _descend(descent: "_Descent", rows: _Rows, settings: TrainingSettings, watch: Watch | None) -> Training:
    sweeps: list[Sweep] = []
    best: tuple[float, int, GameModel] | None = None
    for number in range(1, settings.sweeps + 1):
        descent.sweep()
        loss = None
        if rows.validation is not None:
            model = descent.model()
            loss = validation_loss(model, rows.validation)
            if best is None or loss < best[0]:
                best = loss, number, model
        sweeps.append(Sweep(number, descent.loss(), loss, descent.noise_variance))
        if watch is not None:
            watch(sweeps[-1])
        if _is_settled(sweeps, settings.tolerance):
            break
    number, model = (len(sweeps), descent.model()) if best is None else best[1:]
    return Training(model, tuple(sweeps), number, rows.set_aside, descent.failures(), descent.fixed_unsettled)


def validation_loss(model: GameModel, examples: Examples) -> float:
    """Mean loss of the model's linear predictor per unit of weight."""
    return _mean_loss(model.outcome, examples.response, model.score(examples).linear, examples.weight)


def _mean_loss(outcome: Outcome, y: Floats, linear: Floats, weight: Floats) -> float:
    return inner(weight, outcomes.loss(outcome, y, linear)) / float(weight.sum())


def _is_settled(sweeps: list[Sweep], tolerance: float) -> bool:
    if len(sweeps) < 2:
        return False
    before, now = sweeps[-2], sweeps[-1]
    noise = abs(now.noise_variance - before.noise_variance) <= tolerance * before.noise_variance
    return noise and abs(now.training_loss - before.training_loss) <= tolerance * abs(before.training_loss)


def usable_examples(examples: Examples, outcome: Outcome, purpose: str) -> tuple[Examples, dict[str, int]]:
    """The rows that can be used for a purpose, and how many cannot, by reason; a `DataError` if there are none."""
    good, set_aside = usable_rows(examples, outcome)
    if not np.any(examples.weight[good] > 0.0):
        why = f"set aside: {set_aside}" if set_aside else "none has a weight above 0"
        raise DataError(
            f"no row {purpose}: {len(examples)} rows, {why}"
            if len(examples)
            else f"no row {purpose}: none given"
        )
    return examples if good.all() else examples.take(good), set_aside


def _require_fitting(settings: TrainingSettings, start: GameModel | None, *, incremental: bool) -> None:
    """A `ConfigError` where the settings cannot go on from `start`."""
    known = {effect.name: effect for effect in start.random} if start is not None else {}
    if start is not None and start.outcome is not settings.outcome:
        raise ConfigError(f"outcome: expected {start.outcome.name.lower()}, as of the model to start from")
    dropped = sorted(set(known) - {effect.name for effect in settings.random})
    if incremental and dropped:
        raise ConfigError(f"random_effects: expected {dropped} too, as in the model that learns new rows")
    for effect in settings.random:
        path, old = f"random_effects.{effect.name}", known.get(effect.name)
        if old is None:
            if effect.locked:
                raise ConfigError(f"{path}.locked: expected a model to start from that has this effect")
            continue
        if old.kind != effect.kind:
            raise ConfigError(
                f"{path}.entity: expected {old.kind!r}, as in the model to start from, got {effect.kind!r}"
            )
        precision = "full" if old.is_full else "diagonal"
        if (incremental or effect.locked) and precision != effect.precision:
            raise ConfigError(
                f"{path}.precision: expected {precision!r}, as of the evidence learned before, got {effect.precision!r}"
            )


@final
class _Descent:
    """The state of the descent: every effect, and what each contributes to every row."""

    def __init__(
        self, examples: Examples, settings: TrainingSettings, start: GameModel | None, *, incremental: bool
    ) -> None:
        self._examples, self._settings = examples, settings
        self._threads = settings.threads or available_cores()
        known = {effect.name: effect for effect in start.random} if start is not None else {}
        self._fixed = FixedCoordinate(
            examples, settings.fixed, start.fixed if start is not None else None, anchored=incremental
        )
        self._random = {
            effect.name: RandomCoordinate(examples, effect, known.get(effect.name), anchored=incremental)
            for effect in settings.random
        }
        self._past = start if incremental else None
        self.noise_variance = settings.noise_variance or (
            start.noise_variance if start is not None else self._response_variance()
        )
        self._least_noise = _LEAST_NOISE * self.noise_variance
        self._parts = {name: np.zeros(len(examples)) for name in (FIXED, *self._random)}
        self._parts[FIXED] = self._fixed.contribution()

    def extend(self, settings: TrainingSettings) -> None:
        """Go on with these settings, whose random effects are those there are, and more.

        The fixed effect first takes what it can. To begin with what the random effects took instead is slow where
        several could take the same, as all their intercepts can.
        """
        for effect in settings.random:
            if effect.name in self._random:
                self._random[effect.name].restart()
            else:
                self._random[effect.name] = RandomCoordinate(self._examples, effect, None, anchored=False)
            self._parts[effect.name] = np.zeros(len(self._examples))
        self._settings = settings

    def _response_variance(self) -> float:
        if self._settings.outcome is not Outcome.NORMAL:
            return 1.0
        y, w = self._examples.response - self._examples.offset, self._examples.weight
        mean = np.average(y, weights=w)
        variance = float(np.average((y - mean) ** 2, weights=w))
        return variance if variance > 0.0 else 1.0

    def sweep(self) -> None:
        for name in self._settings.order:
            target = self._target()
            offset = self._linear() - self._parts[name]
            if name == FIXED:
                self._fixed.update(target, offset, self._correction(target), self._threads)
                self._parts[FIXED] = self._fixed.contribution()
            else:
                effect = self._random[name]
                others = self._variance_of_others(name)
                effect.update(target, offset, self._settings.prior_steps, self._threads, others)
                self._parts[name] = effect.contribution(self._threads)
            self._update_noise()

    def _target(self) -> Target:
        weight = self._examples.weight / self.noise_variance
        return Target(self._settings.outcome, self._examples.response, weight)

    def _linear(self) -> Floats:
        linear = self._examples.offset
        for part in self._parts.values():
            linear = linear + part
        return linear

    def _variance_of_others(self, name: str) -> Floats | None:
        """What is not known of the other random effects, float64[n]; None where it moves nothing."""
        others = [e for other, e in self._random.items() if other != name and e.has_beliefs]
        if self._settings.outcome is Outcome.NORMAL or not others:
            return None
        return np.asarray(np.sum([e.variance(self._threads) for e in others], axis=0), dtype=np.float64)

    def _correction(self, target: Target) -> Floats:
        linear = self._linear()
        parts = [effect.correction(target, linear, self._threads) for effect in self._random.values()]
        return np.asarray(np.sum(parts, axis=0) if parts else np.zeros_like(linear), dtype=np.float64)

    def _update_noise(self) -> None:
        """The noise variance most likely given the beliefs: residuals, and what is not known of the effects.

        Rows learned before count with the variance found then.
        """
        if self._settings.outcome is not Outcome.NORMAL or self._settings.noise_variance is not None:
            return
        square = (self._examples.response - self._linear()) ** 2
        for effect in self._random.values():
            if effect.has_beliefs:
                square = square + effect.variance(self._threads)
        total = inner(self._examples.weight, square)
        if self._past is not None:
            total += self._past.learned_weight * self._past.noise_variance
        self.noise_variance = max(total / self._learned_weight(), self._least_noise)

    def _learned_weight(self) -> float:
        before = self._past.learned_weight if self._past is not None else 0.0
        return before + float(self._examples.weight.sum())

    def loss(self) -> float:
        return _mean_loss(
            self._settings.outcome, self._examples.response, self._linear(), self._examples.weight
        )

    def model(self) -> GameModel:
        target = self._target()
        linear = self._linear()
        effects = tuple(self._random.values())
        curvature = target.weight * outcomes.curvature(target.outcome, linear)
        beliefs = beliefs_together(effects, curvature, self._threads)
        random = tuple(e.effect(self._threads, b) for e, b in zip(effects, beliefs, strict=True))
        fixed = self._fixed.effect(target, linear)
        return GameModel(self._settings.outcome, fixed, random, self.noise_variance, self._learned_weight())

    def failures(self) -> dict[str, Counter[Status]]:
        return {name: effect.failures for name, effect in self._random.items() if effect.failures}

    @property
    def fixed_unsettled(self) -> str | None:
        return self._fixed.unsettled
