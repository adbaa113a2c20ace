"""Numbers of candidates in columns -> rows of a reply: as values of `nearline.serve.reply`, or as JSON at once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from nearline.arrays import Floats, Ints
from nearline.kernels._templates import json_rows
from nearline.serve.explained import Explained
from nearline.serve.reply import Ranked, Scored

_Column: TypeAlias = Floats | Ints | list[str] | list[int] | list[bytes]
_encode = msgspec.json.Encoder().encode


def ranked_rows(
    names: Sequence[str],
    impressions: Sequence[str],
    scores: Floats,
    propensities: Floats,
    errors: Floats,
    parts: Explained,
) -> list[Ranked]:
    """What is shown, first to last."""
    of_each = zip(
        names,
        impressions,
        scores.tolist(),
        propensities.tolist(),
        parts.std.tolist(),
        parts.linear.tolist(),
        _contributions(parts),
        _versions(parts),
        errors.tolist(),
        *_expected(parts),
        strict=True,
    )
    return [Ranked(*one) for one in of_each]


def scored_rows(names: Sequence[str], parts: Explained) -> list[Scored]:
    """What is believed of candidates, in their order."""
    of_each = zip(
        names,
        parts.std.tolist(),
        parts.linear.tolist(),
        _contributions(parts),
        _versions(parts),
        *_expected(parts),
        strict=True,
    )
    return [Scored(*one) for one in of_each]


def ranked_json(
    names: list[str],
    impressions: list[str],
    scores: Floats,
    propensities: Floats,
    errors: Floats,
    parts: Explained,
) -> bytes:
    """The rows of `ranked_rows` as JSON, with commas between them."""
    counted = bool(errors.any())
    fields: list[_Column] = [names, impressions, scores, propensities, parts.std, parts.linear]
    keys = ("id", "impression", "score", "propensity", "std", "linear")
    last: list[_Column] = [errors] if counted else []
    return _json(keys, fields, ("propensity_error",) if counted else (), last, parts)


def scored_json(names: list[str], parts: Explained) -> bytes:
    """The rows of `scored_rows` likewise."""
    return _json(("id", "std", "linear"), [names, parts.std, parts.linear], (), [], parts)


def _json(
    keys: tuple[str, ...],
    columns: list[_Column],
    more: tuple[str, ...],
    last: list[_Column],
    parts: Explained,
) -> bytes:
    around = _template(
        keys,
        tuple(name for name, _, _ in parts.effects),
        tuple(kind for kind, _ in parts.versions),
        (*more, "probability" if parts.is_yes_or_no else "mean"),
    )
    contributions = [parts.offset, parts.fixed, *(mean for _, mean, _ in parts.effects)]
    versions = [of_kind for _, of_kind in parts.versions]
    return json_rows(around, [*columns, *contributions, *versions, *last, parts.expected])


@lru_cache(64)
def _template(
    keys: tuple[str, ...], effects: tuple[str, ...], kinds: tuple[str, ...], more: tuple[str, ...]
) -> list[bytes]:
    """The JSON around the values of `keys`, of contributions, of versions, and of `more`."""
    around = [b"{"]

    def add(names: Sequence[str]) -> None:
        for place, name in enumerate(names):
            around[-1] += (b"," if place else b"") + _encode(name) + b":"
            around.append(b"")

    add(keys)
    around[-1] += b',"contributions":{'
    add(("offset", "fixed", *effects))
    around[-1] += b'},"versions":{'
    add(kinds)
    around[-1] += b"},"
    add(more)
    around[-1] += b"}"
    return around


def _contributions(parts: Explained) -> list[dict[str, float]]:
    """Of each every part of its linear predictor."""
    names = ["offset", "fixed", *(name for name, _, _ in parts.effects)]
    columns = [parts.offset, parts.fixed, *(mean for _, mean, _ in parts.effects)]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _versions(parts: Explained) -> list[dict[str, int]]:
    return [{kind: of_each[i] for kind, of_each in parts.versions} for i in range(len(parts.linear))]


def _expected(parts: Explained) -> tuple[list[float] | list[UnsetType], list[float] | list[UnsetType]]:
    """The expected responses as probabilities, or else as means."""
    values, unset = parts.expected.tolist(), [UNSET] * len(parts.expected)
    return (values, unset) if parts.is_yes_or_no else (unset, values)
