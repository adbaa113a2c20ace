"""The features of a request's candidates -> what the fixed effect says of each, and a row for each random effect."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Protocol, TypeAlias, final

import numpy as np
from msgspec import Struct
from scipy.sparse import coo_array, csr_array

from nearline.arrays import Csr, Floats, Ints
from nearline.kernels import _posterior
from nearline.serve.layout import Entries, Layout, entries_of
from nearline.serve.request import Features

Part: TypeAlias = tuple[Ints, Ints, Floats, Ints | None]
"""Features of one bag as `kernels._posterior.gather_rows` takes them: columns by number, numbers, values, rows."""


class KeptRows(Protocol):
    """Rows of candidates whose features the server keeps, by slot, ready for one generation."""

    @property
    def fixed(self) -> Floats:
        """What the fixed effect says of each, without intercept, float64[slots]."""
        ...

    def dense(self, effect: int) -> Floats | None:
        """Their rows of a dense effect without its intercept, float64[slots, columns]; None where all are zero."""

    def sparse(self, effect: int, slots: Ints) -> tuple[Ints, Ints, Floats]:
        """Place in `slots`, column and value of each of their entries of a sparse effect."""


@final
class Featured(Struct, frozen=True, eq=False):
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


@final
class GatheredRows(Struct, frozen=True, eq=False):
    """The rows of C candidates of one dense effect, by where they are: see `kernels._posterior.gather_rows`."""

    count: int
    columns: int
    parts: list[Part]
    kept: Floats | None
    at: Ints | None

    def dense(self) -> Floats:
        """The rows, float64[C, columns]."""
        rows = np.empty((self.count, self.columns))
        _posterior.gather_rows(self.parts, self.kept, self.at, self.count, self.columns, rows)
        return rows


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
    _posterior.add_linear(*fixed_parts(layout, featured), total)
    return total


def fixed_parts(
    layout: Layout, featured: Featured
) -> tuple[list[tuple[Floats, Ints, Floats, Ints | None]], Floats | None, Ints | None]:
    """Features with the fixed effect's coefficients, kept sums and where they are, for `kernels._posterior`."""
    entries = chain(featured.shared.items(), featured.own.items())
    parts = [(layout.bags[bag].fixed, one.number, one.values, one.row) for bag, one in entries]
    if featured.kept is None:
        return parts, None, None
    rows, slots = featured.kept
    return parts, rows.fixed, slots


def dense_rows(layout: Layout, effect: int, featured: Featured) -> GatheredRows:
    """The candidates' rows of one dense random effect; column 0 is the intercept."""
    return GatheredRows(featured.count, layout.sizes[effect], *dense_parts(layout, effect, featured))


def dense_parts(
    layout: Layout, effect: int, featured: Featured
) -> tuple[list[Part], Floats | None, Ints | None]:
    """Features with their columns in a dense random effect, kept rows and where they are, for `kernels._posterior`."""
    entries = chain(featured.shared.items(), featured.own.items())
    parts = [(layout.bags[bag].columns[effect], one.number, one.values, one.row) for bag, one in entries]
    rows, slots = (None, None) if featured.kept is None else featured.kept
    return parts, None if rows is None else rows.dense(effect), slots


def sparse_rows(layout: Layout, effect: int, featured: Featured) -> Csr:
    """The candidates' rows of one sparse random effect; column 0 is the intercept."""
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
        at = np.flatnonzero(slots >= 0)
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
