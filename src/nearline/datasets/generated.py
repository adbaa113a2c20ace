"""A generated data set whose true coefficients are known: impressions of items on users, and who clicked.

Users differ in taste, items in appeal; both differences are drawn from Gaussians, so a right model has every
chance to find them again, and where it does not the fault is its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
from scipy.special import expit

from nearline.arrays import ArrowArray, Floats, Ints
from nearline.batch.tables import TableMapping

GENRES = ("news", "sport", "music", "film", "travel", "food")
DEVICES = ("phone", "tablet", "desktop")
INTERCEPT = "(intercept)"
MAPPING = TableMapping(
    response="clicked",
    entities={"user": "user", "item": "item"},
    bags={
        "context": ("genre", "length", "age", "device"),
        "of_item": ("genre", "length"),
        "of_user": ("age",),
    },
)

FIXED = {INTERCEPT: -0.6, "length": -0.4, "age": 0.3}
GENRE_EFFECT = (0.5, 0.2, -0.3, 0.0, -0.2, -0.1)
DEVICE_EFFECT = (0.3, 0.0, -0.3)
USER_STD = {INTERCEPT: 0.8, "length": 0.5} | {f"genre = {genre}": 0.6 for genre in GENRES}
ITEM_STD = {INTERCEPT: 0.7, "age": 0.4}


@final
@dataclass(frozen=True, slots=True, eq=False)
class TrueEffect:
    """The true coefficients of one effect: float64[entities] for each feature; one value for the fixed effect."""

    coefficients: Mapping[str, Floats]
    prefix: str = ""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Impressions (columns user, item, genre, length, age, device, clicked) and the truth behind them.

    Entity e of an effect is called its prefix followed by e.
    """

    table: pa.Table
    truth: Mapping[str, TrueEffect]


def generate(rows: int, seed: int) -> Generated:
    """Draw `rows` impressions, about 30 for each user and 120 for each item; activity is long-tailed."""
    rng = np.random.default_rng(seed)
    users, items = max(2, rows // 30), max(2, rows // 120)
    user, item = _long_tailed(rng, users, rows), _long_tailed(rng, items, rows)
    genre, length = rng.integers(len(GENRES), size=items), rng.normal(size=items)
    age, device = rng.normal(size=users), rng.integers(len(DEVICES), size=rows)
    taste = {name: rng.normal(scale=std, size=users) for name, std in USER_STD.items()}
    appeal = {name: rng.normal(scale=std, size=items) for name, std in ITEM_STD.items()}
    of_genre = np.array([taste[f"genre = {name}"] for name in GENRES])
    logit = (
        FIXED[INTERCEPT]
        + FIXED["length"] * length[item]
        + FIXED["age"] * age[user]
        + np.array(GENRE_EFFECT)[genre[item]]
        + np.array(DEVICE_EFFECT)[device]
        + taste[INTERCEPT][user]
        + taste["length"][user] * length[item]
        + of_genre[genre[item], user]
        + appeal[INTERCEPT][item]
        + appeal["age"][item] * age[user]
    )
    columns: dict[str, ArrowArray] = {
        "user": named("user-", user),
        "item": named("item-", item),
        "genre": pa.array(np.array(GENRES)[genre[item]]),
        "length": pa.array(length[item]),
        "age": pa.array(age[user]),
        "device": pa.array(np.array(DEVICES)[device]),
        "clicked": pa.array((rng.random(rows) < expit(logit)).astype(np.int8)),
    }
    truth = {
        "fixed": true_fixed(),
        "per-user": TrueEffect(taste, "user-"),
        "per-item": TrueEffect(appeal, "item-"),
    }
    return Generated(pa.table(columns), truth)


def _long_tailed(rng: np.random.Generator, entities: int, rows: int) -> Ints:
    activity = rng.gamma(1.5, size=entities)
    return rng.choice(entities, size=rows, p=activity / activity.sum()).astype(np.int64)


def true_fixed() -> TrueEffect:
    """What all have in common."""
    fixed = FIXED | {f"genre = {g}": b for g, b in zip(GENRES, GENRE_EFFECT, strict=True)}
    fixed |= {f"device = {d}": b for d, b in zip(DEVICES, DEVICE_EFFECT, strict=True)}
    return TrueEffect({name: np.array([value]) for name, value in fixed.items()})


def named(prefix: str, number: Ints) -> ArrowArray:
    """The names of entities: the prefix followed by the number."""
    return pa.array(np.char.add(prefix, number.astype(str)))
