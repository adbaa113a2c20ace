"""One entity: what each effect believes of it and how that has moved, its last examples, its last ranking."""

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from nearline.dashboard.ranking import Shown, last_ranking
from nearline.dashboard.watched import Look
from nearline.errors import DataError
from nearline.events.impression import Impression
from nearline.events.wire import decode_event
from nearline.model.belief import describe
from nearline.model.effects import RandomEffect
from nearline.store.records import Records, select_records
from nearline.store.seam import ModelStore
from nearline.store.seeding import with_records
from nearline.store.versions import versions_of

COEFFICIENTS: Final = 20
MOVED: Final = 5
"""Coefficients whose history is drawn."""
VERSIONS: Final = 50
EXAMPLES: Final = 25


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What one effect believes of an entity.

    Attributes
    ----------
    document : what `nearline.model.belief.describe` says of it.
    versions : what is kept of it, oldest first; `as_of_ms` says of when.
    moved : the coefficients furthest from the prior, each with its mean in every version.
    """

    effect: str
    kind: str
    document: dict[str, Any]
    versions: tuple[dict[str, Any], ...]
    moved: tuple[tuple[str, tuple[float, ...]], ...]


@final
@dataclass(frozen=True, slots=True)
class Example:
    """A labelled row of an entity, as it was served.

    `parts` : offset, fixed effect and each random effect, on the link scale. `expected`, `loss` : as served, None
    where no generation served it.
    """

    impression: Impression
    known_ms: int
    label: float
    expected: float | None
    loss: float | None
    parts: dict[str, float]


@final
@dataclass(frozen=True, slots=True)
class Entity:
    """All there is to see of a name; an effect that does not know it is not in `known`."""

    name: str
    known: tuple[Known, ...]
    examples: tuple[Example, ...]
    ranking: tuple[Shown, ...]

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.known or self.examples or self.ranking)


def entity(look: Look, store: ModelStore, name: str, effect: str | None = None) -> Entity:
    """What there is to see of an entity, of one effect or of all."""
    effects = [one for one in look.model.random if effect in {None, one.name}]
    kinds = {one.kind for one in effects}
    known = [_known(one, store, look.generation, name) for one in effects]
    return Entity(
        name,
        tuple(one for one in known if one is not None),
        _examples(look, kinds, name),
        last_ranking(look.events, kinds, name, look.model.outcome),
    )


def _known(effect: RandomEffect, store: ModelStore, generation: int, name: str) -> Known | None:
    kept = store.history(generation, effect.name, name)
    if not len(kept):
        return None
    kept = select_records(kept, np.arange(max(0, len(kept) - VERSIONS), len(kept)))
    present = with_records(effect, [name], select_records(kept, np.array([len(kept) - 1])))
    document = describe(present, name, COEFFICIENTS)
    return Known(
        effect.name,
        effect.kind,
        document,
        tuple(versions_of(effect, name, kept)),
        _moved(effect, name, kept, document) if len(kept) > 1 else (),
    )


def _moved(
    effect: RandomEffect, name: str, kept: Records, document: dict[str, Any]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    strongest = [(one["bag"], one["feature"], one["prior_mean"]) for one in document["coefficients"][:MOVED]]
    means: list[dict[tuple[str, str], float]] = []
    for i in range(len(kept)):
        then = describe(with_records(effect, [name], select_records(kept, np.array([i]))), name, 10**9)
        means.append({(one["bag"], one["feature"]): one["mean"] for one in then["coefficients"]})
    return tuple(
        (feature, tuple(then.get((bag, feature), prior) for then in means))
        for bag, feature, prior in strongest
    )


def _examples(look: Look, kinds: set[str], name: str) -> tuple[Example, ...]:
    rows, judged = look.rows, look.judged
    mine = {int(i) for kind in kinds for i in rows.of(kind, name)}
    place = {int(row): at for at, row in enumerate(judged.index.tolist()) if row in mine}
    full = judged.levels[-1]
    found = []
    for i in sorted(mine, reverse=True)[:EXAMPLES]:
        try:
            impression = decode_event(rows.records[i])
        except DataError:
            continue
        assert isinstance(impression, Impression)  # noqa: S101 - a row is made from one
        at = place.get(i)
        effects = {effect: float(mean[i]) for effect, mean in rows.predicted.mean.items()}
        found.append(
            Example(
                impression,
                int(rows.known_ms[i]),
                float(rows.predicted.y[i]),
                None if at is None else float(full.response[at]),
                None if at is None else float(full.loss[at]),
                {"offset": impression.offset, "fixed": impression.fixed} | effects,
            )
        )
    return tuple(found)
