"""A body whose candidates all bring the same features by name -> an array of them, without an object for each value.

Most of what a request with features by name costs is making, and taking apart, a Python object for every value. As
clients send them, all candidates have the same features of one bag in the same order. Such a body is read here; of any
other, right or wrong, nothing is said: `nearline.serve.request.decode` reads it, and says what is wrong.
"""

from functools import lru_cache
from typing import Annotated, Final, final

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct

from nearline.kernels._features import read_json_alike
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.request import Features, Name, PolicyChoice, RankRequest, TimeMs

_LEAST: Final = 4
"""Candidates fewer than these are not worth it."""
_MOST_KEPT: Final = 16 * 1024
"""Names of features that take more bytes than these in a candidate are not kept for the next request."""


@final
class _Candidate(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A `Candidate` with nothing but features, as they are written."""

    id: Name
    features: Raw


@final
class _Request(Struct, frozen=True, forbid_unknown_fields=True):
    """A `RankRequest` of such candidates: the same fields in the same order."""

    candidates: Annotated[list[_Candidate], Meta(min_length=_LEAST)]
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


_decoder = msgspec.json.Decoder(_Request)
_features = msgspec.json.Decoder(dict[str, dict[str, float]])


def read_named(body: bytes) -> tuple[RankRequest, CandidateMatrix] | None:
    """The request, without candidates, and its candidates; None where the body is not of this kind.

    Features are read once each, so a body in which they may be given twice is not of this kind, nor is one with
    escapes, in which the name of a field could hide.
    """
    if b"\\" in body or (given := body.count(b'"features"')) < _LEAST:
        return None
    try:
        found = _decoder.decode(body)
        first = _features.decode(found.candidates[0].features)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(first) != 1 or given != len(found.candidates) + bool(found.features):
        return None
    ((bag, one),) = first.items()
    keys = tuple(one)
    values = np.empty((len(found.candidates), len(keys)))
    rows = [candidate.features for candidate in found.candidates]
    strings = _kept_strings if len(rows[0]) <= _MOST_KEPT else _strings
    if bag in found.features or not read_json_alike(rows, *strings(bag, keys), values):
        return None
    request = RankRequest([], *msgspec.structs.astuple(found)[1:])
    return request, CandidateMatrix(
        [candidate.id for candidate in found.candidates], {bag: values}, {bag: keys}
    )


def _strings(bag: str, keys: tuple[str, ...]) -> tuple[bytes, list[bytes]]:
    """The names as they are written in JSON."""
    return msgspec.json.encode(bag), [msgspec.json.encode(key) for key in keys]


_kept_strings: Final = lru_cache(64)(_strings)
