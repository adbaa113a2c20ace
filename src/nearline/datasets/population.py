"""Users with tastes and items with appeals, drawn as in `generated`, and how both drift.

Every coefficient follows a process of its own, stationary with the standard deviation it has in `generated`, whose
correlation with itself t later is exp(-t / time constant) (Ornstein and Uhlenbeck, doi:10.1103/PhysRev.36.823).
"""

import math
from dataclasses import dataclass, replace
from typing import Self, final

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.datasets.generated import (
    DEVICE_EFFECT,
    FIXED,
    GENRE_EFFECT,
    GENRES,
    INTERCEPT,
    ITEM_STD,
    USER_STD,
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """The truth at one time.

    Attributes
    ----------
    genre, length : int64[items] into `GENRES`, and float64[items].
    age : float64[users].
    taste : float64[features of USER_STD, users].
    appeal : float64[features of ITEM_STD, items].
    """

    genre: Ints
    length: Floats
    age: Floats
    taste: Floats
    appeal: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, users: int, items: int) -> Self:
        """A population of so many."""
        genre, length = rng.integers(len(GENRES), size=items), rng.normal(size=items)
        age = rng.normal(size=users)
        return cls(genre, length, age, _drawn(rng, USER_STD, users), _drawn(rng, ITEM_STD, items))

    def logits(self, user: Ints, item: Ints, device: Ints, intercept: float = FIXED[INTERCEPT]) -> Floats:
        """The log odds of a click, for arrays of users, items and devices that broadcast together."""
        logit = self.taste[0, user] + self.taste[1, user] * self.length[item]
        logit = logit + self.taste[2 + self.genre[item], user]
        logit += self.appeal_of(user, item)
        logit += intercept + FIXED["length"] * self.length[item] + FIXED["age"] * self.age[user]
        logit += np.array(GENRE_EFFECT)[self.genre[item]] + np.array(DEVICE_EFFECT)[device]
        return np.asarray(logit, dtype=np.float64)

    def appeal_of(self, user: Ints, item: Ints) -> Floats:
        """What the items' own coefficients add to the log odds."""
        return np.asarray(self.appeal[0, item] + self.appeal[1, item] * self.age[user], dtype=np.float64)

    def appeal_variance(self, user: Ints) -> Floats:
        """The variance of `appeal_of` over items that nothing is known of."""
        return np.asarray(ITEM_STD[INTERCEPT] ** 2 + (ITEM_STD["age"] * self.age[user]) ** 2)

    def moved(self, rng: np.random.Generator, days: float, user_days: float, item_days: float) -> Self:
        """The population so many days later, for these time constants of users and items."""
        taste = _moved(rng, self.taste, USER_STD, days / user_days)
        return replace(self, taste=taste, appeal=_moved(rng, self.appeal, ITEM_STD, days / item_days))

    def redrawn(self, rng: np.random.Generator, items: Ints) -> Self:
        """The population after the appeal of these items has changed to that of others."""
        appeal = self.appeal.copy()
        appeal[:, items] = _drawn(rng, ITEM_STD, len(items))
        return replace(self, appeal=appeal)


def _drawn(rng: np.random.Generator, std: dict[str, float], count: int) -> Floats:
    """Coefficients [features, entities] out of the population."""
    drawn: Floats = rng.normal(size=(len(std), count)) * np.array(list(std.values()))[:, None]
    return drawn


def _moved(rng: np.random.Generator, now: Floats, std: dict[str, float], time_constants: float) -> Floats:
    """The coefficients so many time constants later."""
    stays = math.exp(-time_constants)
    return stays * now + math.sqrt(1.0 - stays**2) * _drawn(rng, std, now.shape[1])
