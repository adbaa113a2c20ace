"""What one arm of a simulated world logs -> estimates of how another would have done, and how it would have."""

from dataclasses import dataclass
from typing import final

import numpy as np

from nearline.bandit.off_policy import Estimate, doubly_robust, inverse_propensity, self_normalised
from nearline.evaluate.world import Visit, World
from nearline.evaluate.world_arms import Arm


@final
@dataclass(frozen=True, slots=True)
class Judged:
    """A policy judged by the logs of another.

    Attributes
    ----------
    truth : clicks a visit to be expected of the target at these visits.
    logged : the same of the logging policy.
    estimates : by name.
    """

    truth: float
    logged: float
    estimates: dict[str, Estimate]


def judge_by_logs(world: World, logging: Arm, target: Arm) -> Judged:
    """Estimate the clicks a visit of `target` from the logs of `logging`, in a world with one position.

    The target leaves nothing to chance. Neither arm learns, so that both are the same from the first visit to the last.
    """
    rows = np.array([_row(visit, logging, target) for visit in world.visits()])
    reward, propensity, chosen, predicted, expected, truth, logged = rows.T
    estimates = {
        "inverse propensity": inverse_propensity(reward, propensity, chosen),
        "self-normalised": self_normalised(reward, propensity, chosen),
        "doubly robust": doubly_robust(reward, propensity, chosen, predicted, expected),
    }
    return Judged(float(truth.mean()), float(logged.mean()), estimates)


def _row(visit: Visit, logging: Arm, target: Arm) -> tuple[float, ...]:
    """Reward, propensity, whether the target chose the same, predictions of both, expected clicks of both."""
    shown, would = logging.show(visit), target.show(visit)
    return (
        float(visit.clicks(shown.places)[0]),
        float(shown.propensity[0]),
        float(shown.places[0] == would.places[0]),
        float(shown.predicted[0]),
        float(would.predicted[0]),
        float(visit.expected(would.places)[0]),
        float(visit.expected(shown.places)[0]),
    )
