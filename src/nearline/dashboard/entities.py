"""The last rows -> the entities that deserve a look: those that are new, and those predicted worse than before."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from nearline.arrays import Floats
from nearline.dashboard.row_tail import ServedRows
from nearline.dashboard.watched import Look
from nearline.store.seam import ModelStore

SHOWN: Final = 10
LATELY: Final = 10
"""The last so many rows of an entity are held against those before."""
LEAST_BEFORE: Final = 10
STANDARD_ERRORS: Final = 3.0
LEAST_RISE: Final = 0.1
_CANDIDATES: Final = 500
"""The record is read of so many of the entities seen last."""


@final
@dataclass(frozen=True, slots=True)
class Newcomer:
    """An entity with few rows, seen lately: rows learned by its effect, and when it was last shown."""

    effect: str
    kind: str
    name: str
    rows_learned: int
    shown_ms: int


@final
@dataclass(frozen=True, slots=True)
class Drifter:
    """An entity whose last rows were predicted worse than those before: the mean losses, and the rise in its errors.

    `rows` : how many of its rows were looked at.
    """

    kind: str
    name: str
    rows: int
    before: float
    lately: float
    standard_errors: float


def newcomers(look: Look, store: ModelStore) -> list[Newcomer]:
    """Of each effect the entities with the fewest rows among the 500 seen last, at most 10."""
    found = []
    for effect in look.model.random:
        last = _last_shown(look.rows, effect.kind)
        names = sorted(last, key=last.__getitem__, reverse=True)[:_CANDIDATES]
        learned = store.get_many(look.generation, effect.name, names).rows.tolist()
        mine = [
            Newcomer(effect.name, effect.kind, name, rows, last[name])
            for name, rows in zip(names, learned, strict=True)
        ]
        found += sorted(mine, key=lambda one: (one.rows_learned, -one.shown_ms))[:SHOWN]
    return found


def drifters(look: Look) -> list[Drifter]:
    """Entities whose last 10 rows have a mean loss above that of at least 10 before, the clearest first, at most 10.

    Above means by more than 0.1, and by more than 3 standard errors of the difference (Welch). With thousands of
    entities a few are there by chance.
    """
    found: list[Drifter] = []
    for kind in dict.fromkeys(effect.kind for effect in look.model.random):
        found += _drifters_of(kind, look)
    return sorted(found, key=lambda one: -one.standard_errors)[:SHOWN]


def _drifters_of(kind: str, look: Look) -> list[Drifter]:
    judged, named = look.judged, look.rows.entities[kind]
    places: dict[str, list[int]] = {}
    for place, row in enumerate(judged.index.tolist()):
        if (name := named[row]) is not None:
            places.setdefault(name, []).append(place)
    found = []
    for name, mine in places.items():
        if len(mine) >= LATELY + LEAST_BEFORE:
            loss = judged.levels[-1].loss[mine]
            one = _compared(loss[:-LATELY], loss[-LATELY:])
            if one is not None:
                found.append(Drifter(kind, name, len(mine), *one))
    return found


def _compared(before: Floats, lately: Floats) -> tuple[float, float, float] | None:
    """Both means, and their difference in standard errors; None if it is no rise to speak of."""
    rise = float(lately.mean() - before.mean())
    error = float(np.sqrt(before.var(ddof=1) / len(before) + lately.var(ddof=1) / len(lately)))
    if rise <= LEAST_RISE or rise <= STANDARD_ERRORS * error:
        return None
    return float(before.mean()), float(lately.mean()), rise / error if error else float("inf")


def _last_shown(rows: ServedRows, kind: str) -> dict[str, int]:
    return {
        name: shown
        for name, shown in zip(rows.entities[kind], rows.shown_ms.tolist(), strict=True)
        if name is not None
    }
