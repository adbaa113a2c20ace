"""Generations of a model: which there are, which one serves, and which may go."""

from collections.abc import Mapping
from enum import StrEnum
from typing import final

import msgspec

from nearline.errors import ModelError
from nearline.model.game import GameModel

LONGEST_EFFECT = 200
"""Bytes of an effect's name."""


@final
class Status(StrEnum):
    """Where a generation is in its life."""

    TRAINING = "training"  # its model and records are being written
    CANDIDATE = "candidate"  # complete, not yet switched to
    LIVE = "live"  # scored with, and learned into
    RETIRED = "retired"  # another one took its place; it can be switched back to
    REFUSED = "refused"  # it did not pass the gate


@final
class EffectForm(msgspec.Struct, frozen=True):
    """A random effect of a generation: its name, its kind of entity, and whether precisions are full."""

    name: str
    kind: str
    full: bool


@final
class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One generation: a shared model with priors and columns, and the records of entities that go with them.

    Attributes
    ----------
    number : 1, 2, 3, ... in the order in which they were begun; never used twice.
    created_ms : when it was begun, in milliseconds since 1970 (UTC).
    level : what was trained: 1 everything, 2 all random effects.
    effects : its random effects.
    single : whether precisions are stored in float32.
    positions : the row-log position, for each partition, that its training reached.
    metrics : what the gate measured, by name.
    pinned : whether it is kept for good, as a baseline.
    """

    number: int
    created_ms: int
    level: int
    effects: tuple[EffectForm, ...]
    status: Status = Status.TRAINING
    single: bool = False
    positions: tuple[int, ...] = ()
    metrics: dict[str, float] = {}
    pinned: bool = False

    def is_full(self, effect: str) -> bool:
        """Whether the precisions of that random effect are full."""
        for form in self.effects:
            if form.name == effect:
                return form.full
        raise ModelError(
            f"no random effect {effect!r}: generation {self.number} has {[form.name for form in self.effects]}"
        )


def effect_forms(model: GameModel) -> tuple[EffectForm, ...]:
    """The random effects of a model, as a generation lists them.

    Raises a `ModelError` for a name that has a zero byte, which ends it in keys, or more than 200 bytes.
    """
    for effect in model.random:
        if "\0" in effect.name or len(effect.name.encode()) > LONGEST_EFFECT:
            raise ModelError(
                f"random effect {effect.name!r}: expected a name of at most {LONGEST_EFFECT} bytes without a zero byte"
            )
    return tuple(EffectForm(effect.name, effect.kind, effect.is_full) for effect in model.random)


@final
class Generations(msgspec.Struct, frozen=True, kw_only=True):
    """All generations of a store. A change returns a new value, or raises a `ModelError` and changes nothing.

    Attributes
    ----------
    known : oldest first.
    live : number of the one that serves; None before the first switch.
    earlier : numbers of those that served before it, the last one last; what a rollback goes back to.
    last : the last number given out.
    """

    known: tuple[Generation, ...] = ()
    live: int | None = None
    earlier: tuple[int, ...] = ()
    last: int = 0

    def find(self, number: int) -> Generation:
        """The generation of that number."""
        for generation in self.known:
            if generation.number == number:
                return generation
        raise ModelError(f"no generation {number}: there are {[one.number for one in self.known] or 'none'}")

    def serving(self) -> Generation:
        """The live one."""
        if self.live is None:
            raise ModelError("no generation is live yet: switch to one")
        return self.find(self.live)

    def begun(
        self,
        effects: tuple[EffectForm, ...],
        *,
        created_ms: int,
        level: int,
        positions: tuple[int, ...] = (),
        single: bool = False,
    ) -> tuple["Generations", Generation]:
        """With one more, in training; and that one."""
        generation = Generation(
            number=self.last + 1,
            created_ms=created_ms,
            level=level,
            effects=effects,
            positions=positions,
            single=single,
        )
        known = (*self.known, generation)
        return msgspec.structs.replace(self, known=known, last=generation.number), generation

    def marked(
        self,
        number: int,
        status: Status,
        *,
        positions: tuple[int, ...] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> "Generations":
        """With one as training, candidate or refused, with where its training got to and what its gate measured."""
        found = self.find(number)
        if status not in {Status.TRAINING, Status.CANDIDATE, Status.REFUSED}:
            raise ModelError(f"generation {number}: {status} is what a switch makes of it; call switch()")
        if found.status in {Status.LIVE, Status.RETIRED}:
            raise ModelError(f"generation {number}: expected one that has never served, it is {found.status}")
        changed = msgspec.structs.replace(
            found,
            status=status,
            positions=found.positions if positions is None else positions,
            metrics=found.metrics if metrics is None else dict(metrics),
        )
        return self._with(changed)

    def switched(self, number: int, *, force: bool = False) -> "Generations":
        """With another one live. One in training, or refused, only by `force`."""
        found = self.find(number)
        if number == self.live:
            return self
        if not force and found.status in {Status.TRAINING, Status.REFUSED}:
            raise ModelError(
                f"generation {number}: expected a candidate or one that served before, it is {found.status}"
            )
        earlier = self.earlier if self.live is None else (*self.earlier, self.live)
        return self._led_by(number, tuple(one for one in earlier if one != number))

    def rolled_back(self) -> "Generations":
        """With the one live again that was so before."""
        if not self.earlier:
            raise ModelError("nothing to roll back to: no other generation served before this one")
        return self._led_by(self.earlier[-1], self.earlier[:-1])

    def pinned(self, number: int, *, pinned: bool = True) -> "Generations":
        """With one kept for good, or no longer."""
        return self._with(msgspec.structs.replace(self.find(number), pinned=pinned))

    def pruned(self, keep: int, *, unfinished: bool = False) -> tuple["Generations", tuple[int, ...]]:
        """Without the retired and refused ones but the newest `keep` of them; and the numbers of those that went.

        Live, pinned and candidate ones stay. So do those in training, unless `unfinished` says that nobody trains.
        """
        if keep < 0:
            raise ModelError(f"keep: expected 0 or more generations, got {keep}")
        ended = {Status.RETIRED, Status.REFUSED}
        idle = [one.number for one in self.known if one.status in ended and not one.pinned]
        gone = idle[: max(0, len(idle) - keep)]
        if unfinished:
            gone += [one.number for one in self.known if one.status is Status.TRAINING and not one.pinned]
        known = tuple(one for one in self.known if one.number not in gone)
        earlier = tuple(number for number in self.earlier if number not in gone)
        return msgspec.structs.replace(self, known=known, earlier=earlier), tuple(sorted(gone))

    def _led_by(self, number: int, earlier: tuple[int, ...]) -> "Generations":
        known = tuple(
            msgspec.structs.replace(one, status=Status.LIVE)
            if one.number == number
            else msgspec.structs.replace(one, status=Status.RETIRED)
            if one.number == self.live
            else one
            for one in self.known
        )
        return msgspec.structs.replace(self, known=known, live=number, earlier=earlier)

    def _with(self, changed: Generation) -> "Generations":
        known = tuple(changed if one.number == changed.number else one for one in self.known)
        return msgspec.structs.replace(self, known=known)
