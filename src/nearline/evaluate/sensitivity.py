"""Level 3 with other settings: mini-batches of more rows, more and less forgetting, full and diagonal precision."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

from nearline.evaluate.choose import progressive_loss
from nearline.evaluate.online import OnlineSettings
from nearline.evaluate.replay import Stream
from nearline.evaluate.stream_effects import EffectsOfStream
from nearline.model.effects import RandomEffect
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian

MINI_BATCHES: Final = (1, 8, 64)
FORGETTING: Final = (None, 0.3, 0.1, 0.03)
"""Time constants, as parts of the time the stream takes; None forgets nothing."""
MOST_ROWS: Final = 20_000
"""The grid walks the last rows of a stream, so many at most; their second half is judged."""


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """Mean loss of level 3 with some settings.

    time_constant_ms : of every effect, None for nothing forgotten.
    rows : that were judged.
    """

    mini_batch: int
    time_constant_ms: float | None
    full: bool
    loss: float
    rows: int


def sensitivity_grid(
    stream: Stream, begin: int, model: GameModel, online: OnlineSettings, say: Callable[[str], None]
) -> tuple[Trial, ...]:
    """Every mini-batch with every rule of forgetting, and those rules with diagonal precision."""
    span = float(stream.time_ms[-1] - stream.time_ms[0])
    rules = [None if share is None else share * span for share in FORGETTING if span > 0.0 or share is None]
    some = stream.part(max(0, len(stream) - MOST_ROWS), len(stream))
    judged = max(len(some) // 2, begin - (len(stream) - len(some)))
    plain, trials = diagonal(model), []
    shared = EffectsOfStream(some, model, online.against)
    grid = [(size, True) for size in MINI_BATCHES] + [(1, False)]
    for size, full in grid:
        for rule in rules:
            say(f"level 3 in mini-batches of {size}" + ("" if full else ", diagonal"))
            forgetting = {effect.name: Forgetting(time_constant_ms=rule) for effect in model.random}
            settings = replace(online, forgetting=forgetting, mini_batch=size)
            loss = progressive_loss(
                some, model if full else plain, settings, begin=judged, end=len(some), shared=shared
            )
            trials.append(Trial(size, rule, full, loss, len(some) - judged))
    return tuple(trials)


def diagonal(model: GameModel) -> GameModel:
    """The model with priors and beliefs that keep no correlations, and no entities."""
    return replace(model, random=tuple(_diagonal(effect) for effect in model.random))


def _diagonal(effect: RandomEffect) -> RandomEffect:
    prior = Gaussian(effect.prior.mean, 1.0 / effect.prior.std**2)
    none = effect.names[:0]
    return replace(
        effect, prior=prior, evidence=no_evidence(0, full=False), names=none, row_count=effect.row_count[:0]
    )
