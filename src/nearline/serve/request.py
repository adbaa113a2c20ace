"""What is asked: requests, from JSON or made in Python.

The features of a bag are given once for all candidates or with each candidate, not both: so what all candidates
share is computed once.
"""

from typing import Annotated, Any, TypeAlias, TypeVar, final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from nearline.events.impression import MAX_TIME_MS
from nearline.serve.faults import located

Features: TypeAlias = dict[str, dict[str, float] | list[float]]
"""Bag to its features: by name ("name" or "name=term"), or a list whose features are called "0", "1", ..."""
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
TimeMs: TypeAlias = Annotated[int, Meta(ge=0, lt=MAX_TIME_MS)]
S = TypeVar("S", bound=Struct)


@final
class Candidate(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Something that may be shown.

    Attributes
    ----------
    id : names it, and is the name of the entity of the model's item kind.
    features : its own, by bag; replaces those the server keeps.
    entities : of other kinds, such as ``{"author": "a7"}``.
    offset : added to its linear predictor.
    """

    id: Name
    features: Features = {}
    entities: dict[str, Name] = {}
    offset: float = 0.0


@final
class PolicyChoice(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy by name, with its parameter."""

    name: str
    epsilon: Annotated[float, Meta(ge=0.0, le=1.0)] | UnsetType = UNSET
    width: Annotated[float, Meta(ge=0.0)] | UnsetType = UNSET
    draws: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET


@final
class RankRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of these to show.

    Attributes
    ----------
    candidates : in any order; a string is the id of one whose features the server keeps.
    entities : kind of entity to its name, shared by all candidates, such as ``{"user": "u17"}``.
    features : shared by all candidates, by bag.
    k : how many to show; None is what the model's configuration says.
    policy : how to choose; None is the configured one.
    id : of the request, at most 200 bytes; one is made where none is given. Asked again under the same id, the
        impressions have the same ids, and the log takes them for duplicates.
    model : by name; None is the first one.
    offset : added to the linear predictor of all.
    time_ms : when it was asked, in milliseconds since 1970 (UTC); None is now.
    resolves_ms : when the labels will be known at the latest.
    deadline_ms : how long beliefs may be looked for; what is missing then is replaced by what is expected.
    """

    candidates: Annotated[list[Name | Candidate], Meta(min_length=1)]
    entities: dict[str, Name] = {}
    features: Features = {}
    k: Annotated[int, Meta(ge=1)] | None = None
    policy: str | PolicyChoice | None = None
    id: Annotated[str, Meta(min_length=1)] | None = None
    model: str | None = None
    offset: float = 0.0
    time_ms: TimeMs | None = None
    resolves_ms: TimeMs | None = None
    deadline_ms: Annotated[float, Meta(gt=0.0)] | None = None


@final
class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is believed of these; nothing is shown and nothing logged. Fields as of `RankRequest`."""

    candidates: Annotated[list[Name | Candidate], Meta(min_length=1)]
    entities: dict[str, Name] = {}
    features: Features = {}
    model: str | None = None
    offset: float = 0.0
    time_ms: TimeMs | None = None
    deadline_ms: Annotated[float, Meta(gt=0.0)] | None = None


@final
class FeedbackItem(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody did about an impression: its id, the response, when (None is now), and how much it counts.

    `id` names the feedback; sent again under the same id it is a duplicate.
    """

    impression: Name
    label: float
    time_ms: TimeMs | None = None
    weight: Annotated[float, Meta(ge=0.0)] = 1.0
    id: Name | None = None


@final
class FeedbackRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Feedback on some impressions of one model."""

    feedback: Annotated[list[FeedbackItem], Meta(min_length=1)]
    model: str | None = None


@final
class KeptFeatures(Struct, frozen=True, forbid_unknown_fields=True):
    """What the server keeps of a candidate: see `Candidate`."""

    features: Features = {}
    entities: dict[str, Name] = {}


@final
class KeepRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Features to keep of many candidates, by id."""

    candidates: dict[Name, KeptFeatures]


_MAPS: dict[str, tuple[Any, ...]] = {
    "features": (Features, dict[str, float]),
    "entities": (dict[str, Name],),
    "candidates": (dict[Name, KeptFeatures],),
}
_decoders: dict[type[Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (RankRequest, ScoreRequest, FeedbackRequest, KeptFeatures, KeepRequest)
}


def decode(body: bytes, kind: type[S]) -> S:
    """Return the request in a body of JSON.

    Raises
    ------
    RequestError
        It is none: with the path of the first field that is wrong, what was expected there and what was found.
    """
    try:
        decoded: S = _decoders[kind].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise located(body, kind, str(error), _MAPS) from error
    return decoded
