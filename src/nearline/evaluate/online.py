"""Level 3: the random effects of a model learn a stream, while its fixed effect and its priors stay."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
import pyarrow as pa

from nearline.arrays import ArrowArray, Bools, Floats, Ints
from nearline.errors import ConfigError
from nearline.evaluate.replay import Step, Stream
from nearline.evaluate.stream_effects import EffectsOfStream
from nearline.evaluate.waiting import Waiting
from nearline.model.effects import RandomEffect
from nearline.model.game import GameModel, expected_response
from nearline.posterior.evidence import aged
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.score import score_blocks
from nearline.stream.effect_rows import EffectRows
from nearline.stream.given_others import Observed
from nearline.stream.known_table import KnownTable
from nearline.stream.update import Rule, learn, score


@final
@dataclass(frozen=True, slots=True)
class OnlineSettings:
    """How the random effects of a model learn a stream; each mapping is by effect.

    Attributes
    ----------
    forgetting : of its evidence; nothing is forgotten where it is absent.
    spread : factor on the population covariance; 1 where it is absent.
    against : an effect -> the one whose entities it shares, with the opposite sign: the two players of a match, of whom
        what speaks for the one speaks against the other. Its own prior is not used.
    mini_batch : an entity learns once so many of its rows wait; 1 learns each as soon as its label is known.
    """

    forgetting: Mapping[str, Forgetting] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    mini_batch: int = 1

    def __post_init__(self) -> None:
        if self.mini_batch < 1:
            raise ConfigError(f"mini_batch: expected 1 or more, got {self.mini_batch}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Effect:
    """One random effect of the stream: its rows, its rule, what is known, and what it contributed as served.

    `nobody` is the mean and variance that the prior gives each row, float64[n], 0 where it has an entity; None where
    all have one.
    """

    rows: EffectRows
    rule: Rule
    known: KnownTable
    names: ArrowArray
    waiting: Waiting
    learned: Bools
    mean: Floats
    variance: Floats
    nobody: tuple[Floats, Floats] | None


@final
class OnlineLevel:
    """Every random effect learns each row as soon as its label is known, given the others as served.

    Beliefs begin at the priors of `model`; its evidence is not used. Walk the stream from its first row to learn it.
    `shared` is that of another level over the same columns, entities and `against`; it saves time.
    """

    def __init__(
        self,
        stream: Stream,
        model: GameModel,
        settings: OnlineSettings | None = None,
        *,
        name: str = "level 3",
        threads: int = 1,
        shared: EffectsOfStream | None = None,
    ) -> None:
        self._name, self._threads = name, threads
        self._stream, self._outcome, self._model = stream, model.outcome, model
        self._settings = settings or OnlineSettings()
        self._offset = stream.examples.offset + model.fixed.contribution(stream.examples)
        self.shared = shared or EffectsOfStream(stream, model, self._settings.against)
        self._effects = _effects(self.shared, model, self._settings, len(stream))

    @property
    def name(self) -> str:
        """What to call it in tables."""
        return self._name

    def plan(self, stream: Stream, begin: int, end: int) -> list[Step]:
        """Waves: what is known is kept by entity."""
        return self.shared.plan(stream, begin, end)

    def score(self, rows: Ints) -> Floats:
        """Expected response of rows, each at its own time; what they were served with is remembered."""
        linear, variance = self._offset[rows], np.zeros(len(rows))
        time_ms = self._stream.time_ms[rows]
        for effect in self._effects:
            some = effect.rows.at(rows, time_ms)
            known = effect.known.take(some.entity)
            mean, spread = score(known, some.rows, effect.rule, some.time_ms, threads=self._threads)
            if effect.nobody is not None:
                mean += effect.nobody[0][rows]
                spread += effect.nobody[1][rows]
            effect.mean[rows], effect.variance[rows] = mean, spread
            linear += mean
            variance += spread
        return expected_response(self._outcome, linear, variance)

    def learn(self, rows: Ints) -> None:
        """Learn rows, each effect given what the others contributed when the row was scored."""
        for effect in self._effects:
            due = effect.waiting.due(rows, effect.rows.entity[rows])
            if len(due):
                self._learn(effect, due)

    def _learn(self, effect: _Effect, rows: Ints) -> None:
        examples = self._stream.examples
        offset, variance = self._offset[rows], np.zeros(len(rows))
        for other in self._effects:
            if other is not effect:
                offset += other.mean[rows]
                variance += other.variance[rows]
        observed = Observed(
            examples.response[rows],
            examples.weight[rows],
            offset,
            variance,
            self._stream.time_ms[rows],
            effect.mean[rows],
        )
        some = effect.rows.at(rows)
        known = effect.known.take(some.entity)
        learned = learn(known, some.rows, observed, effect.rule, threads=self._threads)
        effect.known.put(some.entity, learned.known)
        effect.learned[rows] = True

    def refitted(self, model: GameModel, rows: Ints) -> "OnlineLevel":
        """A level that goes on with another fixed effect, other priors and columns.

        It has learned `rows`, which this one scored: each effect given what the others contributed then, in one
        mini-batch of each entity.
        """
        level = OnlineLevel(self._stream, model, self._settings, name=self._name, threads=self._threads)
        for old, new in zip(self._effects, level._effects, strict=True):
            new.mean[:], new.variance[:] = old.mean, old.variance
        for effect in level._effects:
            if len(rows):
                level._learn(effect, rows)
        return level

    def model(self, now_ms: int) -> GameModel:
        """What is known at a time as a model: priors with their spread, and each entity's evidence aged up to then."""
        if self._settings.against:
            raise ConfigError("against: effects that share their beliefs cannot be made a model")
        random = tuple(
            _aged(old, new, now_ms) for old, new in zip(self._model.random, self._effects, strict=True)
        )
        return replace(self._model, random=random)


def _aged(effect: RandomEffect, stream: _Effect, now_ms: int) -> RandomEffect:
    entity = stream.known.learned
    known = stream.known.take(entity)
    keep = stream.rule.forgetting.keep_of_belief(known.as_of_ms, np.full(len(entity), now_ms))
    if stream.rule.forgetting.time_constant_ms is None:
        keep = np.ones(len(entity))
    count = np.bincount(stream.rows.entity[stream.learned & (stream.rows.entity >= 0)])
    return replace(
        effect,
        prior=stream.rule.prior,
        evidence=aged(known.evidence, keep),
        names=stream.names.take(pa.array(entity)),
        row_count=count[entity].astype(np.int64),
    )


def _effects(
    shared: EffectsOfStream, model: GameModel, settings: OnlineSettings, rows: int
) -> tuple[_Effect, ...]:
    rules = {effect.name: _rule(model, effect, settings) for effect in model.random}
    known = {effect.name: KnownTable(len(effect.prior.mean), full=effect.is_full) for effect in model.random}
    return tuple(
        _Effect(
            effect.rows,
            rules[effect.leader],
            known[effect.leader],
            effect.names,
            Waiting(settings.mini_batch),
            np.zeros(rows, dtype=bool),
            np.zeros(rows),
            np.zeros(rows),
            _of_nobody(effect.rows, rules[effect.leader], rows),
        )
        for effect in shared.effects
    )


def _of_nobody(of_effect: EffectRows, rule: Rule, rows: int) -> tuple[Floats, Floats] | None:
    """What the prior says of rows without an entity, as a model scores them."""
    index, features = of_effect.of_nobody()
    if not len(index):
        return None
    mean, variance = np.zeros(rows), np.zeros(rows)
    mean[index], variance[index] = score_blocks(features, rule.shared)
    return mean, variance


def _rule(model: GameModel, effect: RandomEffect, settings: OnlineSettings) -> Rule:
    return Rule(
        Gaussian(effect.prior.mean, effect.prior.precision / settings.spread.get(effect.name, 1.0)),
        model.outcome,
        model.noise_variance,
        settings.forgetting.get(effect.name, Forgetting()),
    )
