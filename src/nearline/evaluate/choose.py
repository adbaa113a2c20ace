"""A stream and a model -> how level 3 should learn, chosen by its predictions of rows it had not learned yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.evaluate.metrics import row_log_loss, row_poisson_deviance
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Stream, replay
from nearline.evaluate.stream_effects import EffectsOfStream
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome

_LEAST_GAIN = 1e-4
"""What is less than this part of the loss is taken for chance."""

Tried: TypeAlias = Callable[[OnlineSettings, float], None]


def choose_settings(
    stream: Stream,
    model: GameModel,
    settings: OnlineSettings,
    *,
    begin: int,
    end: int,
    time_constants_ms: Sequence[float | None],
    spreads: Sequence[float] = (1.0,),
    effects: Sequence[str] | None = None,
    tried: Tried | None = None,
    threads: int = 1,
) -> OnlineSettings:
    """The settings with the least mean loss of rows `begin` up to `end`, each scored before it was learned.

    One effect after the other: its time constant (None: nothing is forgotten), then the spread of its prior. A list
    is tried in its order for as long as the loss falls, so put first what is there without evidence to the contrary.
    Rows from `end` on are not looked at. `effects` names those whose settings are chosen; without it, all.
    """
    shared = EffectsOfStream(stream, model, settings.against)

    def judge(candidate: OnlineSettings) -> float:
        return progressive_loss(
            stream, model, candidate, begin=begin, end=end, threads=threads, shared=shared
        )

    best = judge(settings)
    if tried is not None:
        tried(settings, best)
    for effect in model.random:
        if effect.name in settings.against or (effects is not None and effect.name not in effects):
            continue
        rules = [Forgetting(time_constant_ms=constant) for constant in time_constants_ms]
        for key, values in (("forgetting", rules), ("spread", list(spreads))):
            for value in values:
                current: Mapping[str, Any] = getattr(settings, key)
                if value == current.get(effect.name, Forgetting() if key == "forgetting" else 1.0):
                    continue
                changed: dict[str, Any] = {key: {**current, effect.name: value}}
                candidate = replace(settings, **changed)
                loss = judge(candidate)
                if tried is not None:
                    tried(candidate, loss)
                if loss > (1.0 - _LEAST_GAIN) * best:
                    break
                best, settings = loss, candidate
    return settings


def progressive_loss(
    stream: Stream,
    model: GameModel,
    settings: OnlineSettings,
    *,
    begin: int,
    end: int,
    threads: int = 1,
    shared: EffectsOfStream | None = None,
) -> float:
    """Mean loss of rows `begin` up to `end`, each scored before it was learned, all rows before learned too."""
    level = OnlineLevel(stream, model, settings, threads=threads, shared=shared)
    predicted = replay(stream, [level], end=end)[level.name][begin:]
    rows = np.arange(begin, end)
    return mean_loss(model.outcome, stream, rows, predicted)


def mean_loss(outcome: Outcome, stream: Stream, rows: Ints, predicted: Floats) -> float:
    """Mean loss per unit of weight of expected responses: see `row_loss`."""
    y, weight = stream.examples.response[rows], stream.examples.weight[rows]
    return float(np.average(row_loss(outcome, y, predicted), weights=weight))


def row_loss(outcome: Outcome, y: Floats, predicted: Floats) -> Floats:
    """Log loss, half the squared error, or half the deviance of each row, float64[rows]."""
    match outcome:
        case Outcome.BERNOULLI:
            return row_log_loss(y, predicted)
        case Outcome.NORMAL:
            return np.asarray((y - predicted) ** 2 / 2.0, dtype=np.float64)
        case Outcome.POISSON:
            return np.asarray(row_poisson_deviance(y, predicted) / 2.0, dtype=np.float64)
