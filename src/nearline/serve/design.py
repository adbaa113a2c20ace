"""The features of a request's candidates -> what the fixed effect says of each, and a row for each random effect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

import numpy as np
from scipy.sparse import coo_array, csr_array

from nearline.arrays import Csr, Floats, Ints
from nearline.serve.layout import Entries, Layout, entries_of
from nearline.serve.request import Features

EffectFeatures: TypeAlias = "Floats | Csr"
"""Rows of one effect, float64[C, columns] or sparse; column 0 is the intercept."""


class KeptRows(Protocol):
    """Rows of candidates whose features the server keeps, ready for one generation."""

    def fixed(self, slots: Ints) -> Floats:
        """What the fixed effect says of each, without intercept, float64[slots]."""

    def dense(self, effect: int, slots: Ints) -> Floats | None:
        """Their rows of a dense effect without its intercept, a copy; None where all are zero."""

    def sparse(self, effect: int, slots: Ints) -> tuple[Ints, Ints, Floats]:
        """Place in `slots`, column and value of each of their entries of a sparse effect."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Featured:
    """The features of the C candidates of a request.

    Attributes
    ----------
    count : C.
    shared : bag to the features that all have, as entries of one row.
    own : bag to those of candidates that brought their own.
    kept : rows and slots, int64[C], of those whose features are kept; slot -1 of one whose are not.
    """

    count: int
    shared: Mapping[str, Entries]
    own: Mapping[str, Entries]
    kept: tuple[KeptRows, Ints] | None = None


def shared_entries(layout: Layout, features: Features) -> dict[str, Entries]:
    """The entries of features that all candidates share; bags the model does not know are left out."""
    return {
        bag: entries_of(layout.bags[bag], [one], None) for bag, one in features.items() if bag in layout.bags
    }


def own_entries(
    layout: Layout, features: Sequence[Features], places: Sequence[int], count: int
) -> dict[str, Entries]:
    """The entries of features that candidates have by themselves; `places` says which of `count` those are."""
    by_bag: dict[str, tuple[list[dict[str, float] | list[float]], list[int]]] = {}
    for place, bags in zip(places, features, strict=True):
        for bag, one in bags.items():
            if bag in layout.bags:
                found = by_bag.setdefault(bag, ([], []))
                found[0].append(one)
                found[1].append(place)
    entries = {}
    for bag, (some, at) in by_bag.items():
        rows = None if len(at) == count else np.array(at, np.int64)
        entries[bag] = entries_of(layout.bags[bag], some, rows)
    return entries


def fixed_scores(layout: Layout, featured: Featured) -> Floats:
    """What the fixed effect says of each candidate, float64[C]."""
    total = np.full(featured.count, layout.fixed_intercept)
    for bag, entries in featured.shared.items():
        total += layout.bags[bag].fixed[entries.number] @ entries.values.ravel()
    for bag, entries in featured.own.items():
        coefficients = layout.bags[bag].fixed[entries.number]
        if entries.row is None:
            total += entries.values @ coefficients
        else:
            total += np.bincount(entries.row, coefficients * entries.values, minlength=featured.count)
    if featured.kept is not None:
        rows, slots = featured.kept
        at = _kept_places(slots)
        total[at] += rows.fixed(slots[at])
    return total


def effect_features(layout: Layout, effect: int, featured: Featured) -> EffectFeatures:
    """The candidates' rows of one random effect."""
    if layout.is_dense(effect):
        return _dense(layout, effect, featured)
    return _sparse(layout, effect, featured)


def _dense(layout: Layout, effect: int, featured: Featured) -> Floats:
    size = layout.sizes[effect]
    base = np.zeros(size)
    base[0] = 1.0
    for bag, entries in featured.shared.items():
        column = layout.bags[bag].columns[effect][entries.number]
        known = column >= 0
        np.add.at(base, column[known], entries.values.ravel()[known])
    features = _kept_dense(effect, featured)
    if features is None:
        features = np.empty((featured.count, size))
        features[:] = base
    else:
        features += base
    for bag, entries in featured.own.items():
        column = layout.bags[bag].columns[effect][entries.number]
        known = column >= 0
        if not known.any():
            continue
        if entries.row is None and _is_distinct(column[known]):
            features[:, column[known]] += entries.values if known.all() else entries.values[:, known]
        else:
            row, column, values = _as_entries(entries, column, featured.count)
            known = column >= 0
            np.add.at(features, (row[known], column[known]), values[known])
    return features


def _kept_dense(effect: int, featured: Featured) -> Floats | None:
    if featured.kept is None:
        return None
    rows, slots = featured.kept
    if slots.min() >= 0:
        return rows.dense(effect, slots)
    at = _kept_places(slots)
    found = rows.dense(effect, slots[at])
    if found is None:
        return None
    features = np.zeros((featured.count, found.shape[1]))
    features[at] = found
    return features


def _sparse(layout: Layout, effect: int, featured: Featured) -> Csr:
    count = featured.count
    every = np.arange(count)
    parts: list[tuple[Ints, Ints, Floats]] = [(every, np.zeros(count, np.int64), np.ones(count))]
    for bag, entries in featured.shared.items():
        column = layout.bags[bag].columns[effect][entries.number]
        known = column >= 0
        column, values = column[known], entries.values.ravel()[known]
        parts.append((np.repeat(every, len(column)), np.tile(column, count), np.tile(values, count)))
    for bag, entries in featured.own.items():
        column = layout.bags[bag].columns[effect][entries.number]
        row, column, values = _as_entries(entries, column, count)
        known = column >= 0
        parts.append((row[known], column[known], values[known]))
    if featured.kept is not None:
        rows, slots = featured.kept
        at = _kept_places(slots)
        place, column, values = rows.sparse(effect, slots[at])
        parts.append((at[place], column, values))
    row, column, value = (np.concatenate([part[i] for part in parts]) for i in range(3))
    matrix = coo_array((value, (row, column)), shape=(count, layout.sizes[effect])).tocsr()
    matrix.sort_indices()
    return csr_array(matrix)


def _as_entries(entries: Entries, column: Ints, count: int) -> tuple[Ints, Ints, Floats]:
    if entries.row is not None:
        return entries.row, column, entries.values
    width = len(entries.number)
    return np.repeat(np.arange(count), width), np.tile(column, count), entries.values.ravel()


def _kept_places(slots: Ints) -> Ints:
    return np.flatnonzero(slots >= 0)


def _is_distinct(column: Ints) -> bool:
    """Whether no column is there twice."""
    return len(np.unique(column)) == len(column)
