"""What is known of one event: what was shown, what somebody did about it, or that time has passed.

An event holds what is learned from it as it was when it was served: features, entities and what each effect
contributed. So learning needs no look-up, and sees what serving saw.
"""

import math
from collections.abc import Iterator
from typing import Annotated, TypeAlias, final

from msgspec import Meta, Struct

from nearline.errors import DataError

MAX_NAME_BYTES = 256
"""The longest id of an event, and the longest name of an entity, in bytes of UTF-8."""
MAX_TIME_MS = 253_402_300_800_000
"""Times are before this: the year 10000."""

TimeMs: TypeAlias = Annotated[int, Meta(ge=0, lt=MAX_TIME_MS)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Contribution: TypeAlias = tuple[float, float]
"""Mean and variance of what one random effect added to the linear predictor."""
Features: TypeAlias = dict[str, float] | list[float]
"""The features of one bag: key to value, or a dense vector."""


@final
class Impression(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Something that was shown.

    Attributes
    ----------
    id : names the impression; its feedback says it, and a second impression of the same id is a duplicate.
    time_ms : when it was shown, in milliseconds since 1970 (UTC).
    entities : kind of entity to the entity's name, as in ``{"user": "u17"}``.
    features : bag to its features. A key is "name", or "name=term" split at the first "="; a list is a dense
        vector, whose features have the names "0", "1", ...
    contributions : random effect to (mean, variance) of what it contributed as served, on the link scale; an
        effect that is not there contributed 0.
    offset : added to the linear predictor by whoever asked.
    fixed : what the fixed effect contributed as served.
    propensity : probability with which the policy chose this, above 0; None if unknown.
    policy : name of the policy that chose it.
    generation : of the model that served; 0 is none.
    versions : kind of entity to the version of its record as served.
    resolves_ms : when its label will be known at the latest, as far as was known when it was served; None is the
        attribution window.
    weight : counts as so many rows.
    """

    id: str
    time_ms: TimeMs
    entities: dict[str, str] = {}
    features: dict[str, Features] = {}
    contributions: dict[str, Contribution] = {}
    offset: float = 0.0
    fixed: float = 0.0
    propensity: float | None = None
    policy: str | None = None
    generation: Count = 0
    versions: dict[str, Count] = {}
    resolves_ms: TimeMs | None = None
    weight: float = 1.0


@final
class Feedback(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """What somebody did about an impression.

    Attributes
    ----------
    impression : id of the impression.
    time_ms : when it was done, in milliseconds since 1970 (UTC).
    label : the response, in the unit of the outcome (0 or 1 for Bernoulli).
    weight : multiplies the weight of the impression.
    id : names this feedback; a second one of the same id is a duplicate. None: without a name.
    """

    impression: str
    time_ms: TimeMs
    label: float
    weight: float = 1.0
    id: str | None = None


@final
class Tick(Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Nothing happened up to `time_ms`, in milliseconds since 1970 (UTC): moves event time when traffic stops."""

    time_ms: TimeMs


Event: TypeAlias = Impression | Feedback | Tick


def feature_name_and_term(key: str) -> tuple[str, str]:
    """Name and term of a feature key: "genre=Drama" is ("genre", "Drama"), "age" is ("age", "")."""
    name, _, term = key.partition("=")
    return name, term


def require_valid(event: Event) -> None:
    """Raise a `DataError` that names the field if a number is not finite or a value is out of its range.

    Types are taken for granted: the decoders check them, and that times and counts are in range.
    """
    for path, expected, found in _faults(event):
        raise DataError(f"{path}: expected {expected}, got {found}")


Fault: TypeAlias = tuple[str, str, str]
"""Path of the field, what was expected there, what was found."""


def _faults(event: Event) -> Iterator[Fault]:
    if not 0 <= event.time_ms < MAX_TIME_MS:
        yield "time_ms", "milliseconds since 1970, before the year 10000", str(event.time_ms)
    if isinstance(event, Impression):
        yield from _impression_faults(event)
    elif isinstance(event, Feedback):
        yield from _name_faults("impression", event.impression)
        if event.id is not None:
            yield from _name_faults("id", event.id)
        yield from _number_faults("label", event.label)
        yield from _not_negative("weight", event.weight)


def _impression_faults(impression: Impression) -> Iterator[Fault]:
    yield from _name_faults("id", impression.id)
    for kind, name in impression.entities.items():
        yield from _name_faults(f"entities.{kind}", name)
    for bag, features in impression.features.items():
        values = features if isinstance(features, list) else features.values()
        if not all(map(math.isfinite, values)):
            keyed = enumerate(features) if isinstance(features, list) else features.items()
            for key, value in keyed:
                yield from _number_faults(f"features.{bag}.{key}", value)
    for effect, (mean, variance) in impression.contributions.items():
        yield from _number_faults(f"contributions.{effect}.mean", mean)
        yield from _not_negative(f"contributions.{effect}.variance", variance)
    yield from _number_faults("offset", impression.offset)
    yield from _number_faults("fixed", impression.fixed)
    if impression.propensity is not None and not 0.0 < impression.propensity <= 1.0:
        yield "propensity", "a probability above 0 and at most 1", str(impression.propensity)
    for path, count in (
        ("generation", impression.generation),
        *((f"versions.{kind}", version) for kind, version in impression.versions.items()),
    ):
        if not 0 <= count < 2**63:
            yield path, "an integer from 0 to 2^63 - 1", str(count)
    if impression.resolves_ms is not None and not impression.time_ms <= impression.resolves_ms < MAX_TIME_MS:
        yield (
            "resolves_ms",
            f"a time not before the impression's, {impression.time_ms}",
            str(impression.resolves_ms),
        )
    yield from _not_negative("weight", impression.weight)


def _name_faults(path: str, name: str) -> Iterator[Fault]:
    if not name:
        yield path, f"1 to {MAX_NAME_BYTES} bytes of UTF-8", '""'
        return
    if name.isascii():
        size = len(name)
    else:
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            yield path, "text that UTF-8 can write", repr(name)
            return
    if size > MAX_NAME_BYTES:
        yield path, f"1 to {MAX_NAME_BYTES} bytes of UTF-8", f"{size} bytes, {name[:20]!r}..."


def _number_faults(path: str, value: float) -> Iterator[Fault]:
    if not math.isfinite(value):
        yield path, "a finite number", as_written(value)


def _not_negative(path: str, value: float) -> Iterator[Fault]:
    if not 0.0 <= value < math.inf:
        yield path, "a finite number, 0 or more", as_written(value)


def as_written(value: float) -> str:
    """A number as JSON would have it, and as people know those that JSON lacks: NaN, Infinity."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(value)
