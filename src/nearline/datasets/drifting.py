"""A generated stream whose truth moves: the impressions of `generated`, over weeks, with tastes that drift.

Every coefficient of a user or an item follows a process of its own (`population`). Users and items appear over time.
What all have in common does not change.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import pyarrow as pa
from scipy.special import expit

from nearline.arrays import ArrowArray, Floats, Ints
from nearline.datasets.generated import (
    DEVICES,
    GENRES,
    ITEM_STD,
    USER_STD,
    Generated,
    TrueEffect,
    named,
    true_fixed,
)
from nearline.datasets.population import Population

DAY_MS: Final = 86_400_000
FIRST_MS: Final = 1_700_006_400_000
"""The time of the first impression: 15 November 2023, 0:00 UTC."""
STEPS_PER_DAY: Final = 4


@final
@dataclass(frozen=True, slots=True)
class Drift:
    """How the truth moves.

    Attributes
    ----------
    days : that the stream takes.
    user_days, item_days : time constants of the drift of users' and of items' coefficients.
    new_users, new_items : share of them who appear over time, evenly, rather than at the beginning.
    """

    days: int = 28
    user_days: float = 14.0
    item_days: float = 7.0
    new_users: float = 0.5
    new_items: float = 0.7

    def __str__(self) -> str:
        """In words, for reports."""
        return (
            f"Every user's taste drifts, and so does every item's appeal: {self.user_days:g} and "
            f"{self.item_days:g} days later a coefficient's correlation with what it was is 1 / e = 0.37. "
            f"{self.new_users:.0%} of the users and {self.new_items:.0%} of the items appear while the "
            f"{self.days} days go by. What all of them have in common does not change."
        )


def generate_stream(rows: int, seed: int, drift: Drift | None = None) -> Generated:
    """Draw `rows` impressions in the order of time, about 40 for each user and 160 for each item.

    The table has the columns of `generate` and "time", in ms since 1970. The truth of users and items is that at the
    end of the stream.
    """
    drift = drift or Drift()
    rng = np.random.default_rng(seed)
    users, items = max(2, rows // 40), max(2, rows // 160)
    user_from, item_from = (
        _appears(rng, count, share) for count, share in ((users, drift.new_users), (items, drift.new_items))
    )
    user_often, item_often = rng.gamma(1.5, size=users), rng.gamma(1.5, size=items)
    population = Population.drawn(rng, users, items)
    when = np.sort(rng.random(rows))
    steps = drift.days * STEPS_PER_DAY
    edges = np.searchsorted(when, np.arange(steps + 1) / steps)
    user, item, logit = np.empty(rows, np.int64), np.empty(rows, np.int64), np.empty(rows)
    device = rng.integers(len(DEVICES), size=rows)
    for step in range(steps):
        here = slice(int(edges[step]), int(edges[step + 1]))
        population = population.moved(rng, 1.0 / STEPS_PER_DAY, drift.user_days, drift.item_days)
        user[here] = _among(rng, user_often * (user_from <= step / steps), here.stop - here.start)
        item[here] = _among(rng, item_often * (item_from <= step / steps), here.stop - here.start)
        logit[here] = population.logits(user[here], item[here], device[here])
    columns: dict[str, ArrowArray] = {
        "time": pa.array(FIRST_MS + (when * drift.days * DAY_MS).astype(np.int64)),
        "user": named("user-", user),
        "item": named("item-", item),
        "genre": pa.array(np.array(GENRES)[population.genre[item]]),
        "length": pa.array(population.length[item]),
        "age": pa.array(population.age[user]),
        "device": pa.array(np.array(DEVICES)[device]),
        "clicked": pa.array((rng.random(rows) < expit(logit)).astype(np.int8)),
    }
    truth = {
        "fixed": true_fixed(),
        "per-user": TrueEffect(dict(zip(USER_STD, population.taste, strict=True)), "user-"),
        "per-item": TrueEffect(dict(zip(ITEM_STD, population.appeal, strict=True)), "item-"),
    }
    return Generated(pa.table(columns), truth)


def _appears(rng: np.random.Generator, count: int, share: float) -> Floats:
    """When each entity appears, as a part of the stream's time; at least one is there from the beginning."""
    at = np.where(rng.random(count) < share, rng.random(count), 0.0)
    at[0] = 0.0
    return at


def _among(rng: np.random.Generator, often: Floats, rows: int) -> Ints:
    return rng.choice(len(often), size=rows, p=often / often.sum()).astype(np.int64)
