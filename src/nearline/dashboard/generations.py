"""The generations of a store -> what their page says, and which of them can be switched to."""

from dataclasses import dataclass
from typing import Final, final

from nearline.store.generations import Generation, Status
from nearline.store.seam import ModelStore
from nearline.stream.drift import figures_in

SWITCHABLE: Final = frozenset({Status.CANDIDATE, Status.RETIRED})
_LEVELS: Final = {1: "1: everything", 2: "2: random effects"}


@final
@dataclass(frozen=True, slots=True)
class Listed:
    """A generation as it is listed; `can_switch` says whether it may be made live."""

    generation: Generation
    records: int
    level: str
    verdict: str
    can_switch: bool


def listed(store: ModelStore) -> list[Listed]:
    """All of them, the newest first."""
    return [
        Listed(
            one,
            store.count(one.number),
            _LEVELS.get(one.level, str(one.level)),
            verdict(one),
            one.status in SWITCHABLE,
        )
        for one in reversed(store.generations().known)
    ]


def verdict(generation: Generation) -> str:
    """What the gate said, in words, from what the generation has kept."""
    figures, served = figures_in(generation.metrics), generation.metrics.get("served_loss")
    margin = generation.metrics.get("margin")
    if figures is None or served is None or margin is None:
        return "no gate: published" if margin is None else "nothing to judge by"
    passed = figures.loss <= served + margin
    return (
        f"{'passed' if passed else 'refused'}: loss {figures.loss:.4f}, what served {served:.4f}, "
        f"margin {margin:g}, {figures.rows:,} rows"
    )
