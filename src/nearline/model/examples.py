"""Labelled rows, held as columns: what batch training learns from and evaluation scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.arrays import Bools, Columns, Floats, Ints
from nearline.errors import DataError
from nearline.model.features import Bag
from nearline.posterior.outcomes import Outcome, is_valid_response

Rows: TypeAlias = Bools | NDArray[np.integer[Any]]
MISSING = -1
"""The code of a row without an entity."""

_NOT_GIVEN: Floats = np.empty(0)


@final
@dataclass(frozen=True, slots=True, eq=False)
class EntityColumn:
    """The entity of each row, for one kind of entity (such as user).

    codes: int32[n], the position in `names`, or -1 where the row has no such entity.
    names: [entities], unique, without nulls; some may have no row.
    """

    codes: Columns
    names: pa.StringArray

    def __post_init__(self) -> None:
        if self.codes.dtype != np.int32 or self.codes.ndim != 1:
            raise DataError(
                f"entity codes: expected int32[n], got {self.codes.dtype}{list(self.codes.shape)}"
            )
        outside = self.codes[(self.codes < MISSING) | (self.codes >= len(self.names))]
        if len(outside):
            raise DataError(f"entity codes: expected -1 to {len(self.names) - 1}, got {outside[0]}")
        if self.names.null_count or len(self.names.unique()) != len(self.names):
            raise DataError("entity names: expected unique names without nulls")

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Rows) -> "EntityColumn":
        """Return the entities of the given rows (indices or a mask); the names stay as they are."""
        return EntityColumn(codes=self.codes[rows], names=self.names)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Rows with a response, weights, offsets, times, named features and entities, all [n] or of n rows.

    response: float64[n], in the unit of the outcome (0 or 1 for Bernoulli).
    weight: float64[n], a row of weight 2 counts as two rows; 1 unless given.
    offset: float64[n], added to the linear predictor; 0 unless given.
    time_ms: int64[n], milliseconds since 1970 (UTC), or None if rows have no time.
    bags: the features, by bag.
    entities: the entities, by kind of entity.
    """

    response: Floats
    weight: Floats = field(default_factory=lambda: _NOT_GIVEN)
    offset: Floats = field(default_factory=lambda: _NOT_GIVEN)
    time_ms: Ints | None = None
    bags: Mapping[str, Bag] = field(default_factory=dict)
    entities: Mapping[str, EntityColumn] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.response)
        if self.weight is _NOT_GIVEN:
            object.__setattr__(self, "weight", np.ones(rows))
        if self.offset is _NOT_GIVEN:
            object.__setattr__(self, "offset", np.zeros(rows))
        object.__setattr__(self, "bags", MappingProxyType(dict(self.bags)))
        object.__setattr__(self, "entities", MappingProxyType(dict(self.entities)))
        for name in ("response", "weight", "offset"):
            _require_array(name, getattr(self, name), np.float64, rows)
        if self.time_ms is not None:
            _require_array("time_ms", self.time_ms, np.int64, rows)
        for kind, named in (("bag", self.bags), ("entities", self.entities)):
            for name, part in named.items():
                if len(part) != rows:
                    raise DataError(
                        f"examples: {kind} {name!r} has {len(part)} rows, the response has {rows}"
                    )

    def __len__(self) -> int:
        return len(self.response)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.response, self.weight, self.offset, self.time_ms, dict(self.bags), dict(self.entities))
        return Examples, parts

    def take(self, rows: Rows) -> "Examples":
        """Return the given rows (indices in the order wanted, or a mask), with all keys and names."""
        return Examples(
            response=self.response[rows],
            weight=self.weight[rows],
            offset=self.offset[rows],
            time_ms=None if self.time_ms is None else self.time_ms[rows],
            bags={name: bag.take(rows) for name, bag in self.bags.items()},
            entities={name: column.take(rows) for name, column in self.entities.items()},
        )


def split_random(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Return a random `fraction` (0 to 1) of the rows and the rest, each in the order they had.

    The first part has round(fraction * n) rows; the same seed and n give the same split.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction: expected 0 to 1, got {fraction}")
    chosen = np.zeros(len(examples), dtype=np.bool_)
    order = np.random.default_rng(seed).permutation(len(examples))
    chosen[order[: round(fraction * len(examples))]] = True
    return examples.take(chosen), examples.take(~chosen)


def finite_rows(examples: Examples, *, response: bool = True) -> tuple[Bools, dict[str, int]]:
    """Return which rows can be learned from, bool[n], and how many cannot, by reason.

    A row with several faults counts under the first, so the counts add up to the rows left out. Reasons
    without a row are not listed. With `response` False the response is not looked at (rows to be scored).
    """
    bad = {
        "response is not a finite number": ~np.isfinite(examples.response) & response,
        "weight is not a finite number": ~np.isfinite(examples.weight),
        "weight is negative": examples.weight < 0.0,
        "offset is not a finite number": ~np.isfinite(examples.offset),
    }
    for name, bag in examples.bags.items():
        bad[f"a feature of bag {name!r} is not a finite number"] = _rows_with_bad_feature(bag)
    good = np.ones(len(examples), dtype=np.bool_)
    counts = {}
    for reason, rows in bad.items():
        counts[reason] = int(np.count_nonzero(good & rows))
        good &= ~rows
    return good, {reason: count for reason, count in counts.items() if count}


def usable_rows(examples: Examples, outcome: Outcome) -> tuple[Bools, dict[str, int]]:
    """Return which rows a model of the outcome can be learned from or judged by, and how many cannot, by reason."""
    good, counts = finite_rows(examples)
    allowed = is_valid_response(outcome, examples.response)
    refused = int(np.count_nonzero(good & ~allowed))
    if refused:
        counts[f"response is not one a {outcome.name.capitalize()} outcome allows"] = refused
    return good & allowed, counts


def _rows_with_bad_feature(bag: Bag) -> Bools:
    entries = np.flatnonzero(~np.isfinite(bag.matrix.data))
    bad = np.zeros(len(bag), dtype=np.bool_)
    bad[np.searchsorted(bag.matrix.indptr, entries, side="right") - 1] = True
    return bad


def _require_array(name: str, array: NDArray[Any], dtype: type, rows: int) -> None:
    if array.shape != (rows,) or array.dtype != dtype:
        expected = f"{np.dtype(dtype)}[{rows}]"
        raise DataError(f"examples: {name}: expected {expected}, got {array.dtype}{list(array.shape)}")
