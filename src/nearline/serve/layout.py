"""A model -> where each named feature goes: its coefficient in the fixed effect, its column in each random effect.

Made once for a generation. A request looks a name up once, whatever the number of effects.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, TypeAlias, final

import numpy as np
import pyarrow as pa
from msgspec import Struct

from nearline.arrays import Floats, Ints
from nearline.events.impression import feature_name_and_term
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel

FeaturesOfBag: TypeAlias = dict[str, float] | list[float]
UNKNOWN: Final = -1
_ORDERS: Final = 256
"""Lists of keys of a bag whose numbers are kept."""
WIDEST_DENSE: Final = 128
"""Effects of more columns than this have sparse rows."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class BagColumns:
    """The features of one bag that any part of the model knows, numbered 0 to n - 1.

    Attributes
    ----------
    number : key to number.
    fixed : float64[n + 1], coefficient of each in the fixed effect, 0 where that does not know it.
    columns : of each random effect, int64[n + 1], the column of each feature or -1.

    The last entry stands for features nobody knows, whose number is -1.
    """

    number: dict[str, int]
    fixed: Floats
    columns: tuple[Ints, ...]
    _known: dict[tuple[str, ...], Ints] = field(default_factory=dict)

    def numbers(self, keys: Iterable[str]) -> Ints:
        """The number of each key, int64[keys]."""
        get = self.number.get
        found = [get(key, UNKNOWN) for key in keys]
        return np.array(found, dtype=np.int64)

    def numbers_of(self, keys: tuple[str, ...]) -> Ints:
        """The same of keys that come in this order time and again, as clients send them."""
        if (found := self._known.get(keys)) is None:
            if len(self._known) >= _ORDERS:
                self._known.clear()
            found = self._known[keys] = self.numbers(map(canonical, keys))
        return found


@final
class Entries(Struct, frozen=True, eq=False):
    """Features of one bag for candidates 0 to C - 1.

    Either a block, `number` int64[m] and `values` float64[C, m], where `row` is None; or one entry each, `row`,
    `number` and `values` all [entries].
    """

    number: Ints
    values: Floats
    row: Ints | None = None


@final
class Layout:
    """Bag to `BagColumns`, and the intercepts."""

    def __init__(self, model: GameModel) -> None:
        self.fixed_intercept = (
            float(model.fixed.coefficients[0]) if model.fixed.registry.has_intercept else 0.0
        )
        self.sizes = tuple(len(effect.registry) for effect in model.random)
        numbers: dict[str, dict[str, int]] = {}
        parts = [(model.fixed.bags, model.fixed.registry), *((e.bags, e.registry) for e in model.random)]
        found = [_columns_of(bags, registry, numbers) for bags, registry in parts]
        self.bags = {
            bag: BagColumns(number, *_tables(bag, len(number), found, model.fixed.coefficients))
            for bag, number in numbers.items()
        }
        for bags, _ in parts:  # a bag of which nothing is known yet is a bag of the model all the same
            for bag in bags:
                none = BagColumns({}, np.zeros(1), tuple(np.full(1, UNKNOWN, np.int64) for _ in self.sizes))
                self.bags.setdefault(bag, none)

    def is_dense(self, effect: int) -> bool:
        """Whether the effect's rows are dense."""
        return self.sizes[effect] <= WIDEST_DENSE


_Found: TypeAlias = dict[str, tuple[Ints, Ints]]


def _columns_of(bags: Sequence[str], registry: ColumnRegistry, numbers: dict[str, dict[str, int]]) -> _Found:
    """By bag the numbers of the features that a registry knows, and their columns; new features get a number."""
    table = registry.to_table()
    found: dict[str, tuple[list[int], list[int]]] = {}
    for column, (bag, name, term) in enumerate(_keys(table)):
        if bag not in bags:
            continue
        key = f"{name}={term}" if term else name
        if feature_name_and_term(key) != (name, term):
            continue  # no key of an event says it
        number = numbers.setdefault(bag, {})
        at, columns = found.setdefault(bag, ([], []))
        at.append(number.setdefault(key, len(number)))
        columns.append(column)
    return {bag: (np.array(at, np.int64), np.array(cols, np.int64)) for bag, (at, cols) in found.items()}


def _keys(table: pa.Table) -> Iterable[tuple[str, str, str]]:
    return zip(*(table.column(name).to_pylist() for name in ("bag", "name", "term")), strict=True)


def _tables(
    bag: str, count: int, found: Sequence[_Found], coefficients: Floats
) -> tuple[Floats, tuple[Ints, ...]]:
    columns = []
    for of_part in found:
        table = np.full(count + 1, UNKNOWN, np.int64)
        if bag in of_part:
            number, column = of_part[bag]
            table[number] = column
        columns.append(table)
    fixed = np.where(columns[0] >= 0, coefficients[columns[0]], 0.0)
    return fixed, tuple(columns[1:])


def canonical(key: str) -> str:
    """A key as the layout has it: "age=" is "age"."""
    return key[:-1] if key.endswith("=") and key.count("=") == 1 else key


def entries_of(bag: BagColumns, features: Sequence[FeaturesOfBag], rows: Ints | None) -> Entries:
    """The entries of some candidates' features of a bag.

    `rows` int64[len(features)] says which candidates they are; None is all of them in order.
    """
    first = features[0]
    keys = list_keys(first)
    if len(features) == 1 and rows is None:
        values = np.array(list(first.values()) if isinstance(first, dict) else first, np.float64)
        return Entries(bag.numbers_of(tuple(keys)), values[None, :])
    same = all(type(one) is type(first) and len(one) == len(first) for one in features) and (
        isinstance(first, list) or all(list(one) == keys for one in features)
    )
    if same:
        flat = chain.from_iterable(one if isinstance(one, list) else one.values() for one in features)
        values = np.fromiter(flat, np.float64, len(features) * len(keys))
        number = bag.numbers_of(tuple(keys))
        if rows is None:
            return Entries(number, values.reshape(len(features), len(keys)))
        row = np.repeat(rows, len(keys))
        return Entries(np.tile(number, len(features)), values.ravel(), row)
    all_keys: list[str] = []
    all_values: list[float] = []
    for one in features:
        all_keys += list_keys(one)
        all_values += one.values() if isinstance(one, dict) else one
    at = np.arange(len(features)) if rows is None else rows
    row = np.repeat(at, [len(one) for one in features])
    return Entries(bag.numbers(map(canonical, all_keys)), np.array(all_values, np.float64), row)


_positions: list[str] = []


def list_keys(features: FeaturesOfBag) -> list[str]:
    """The keys of a bag's features, in order."""
    if isinstance(features, dict):
        return list(features)
    while len(_positions) < len(features):
        _positions.append(str(len(_positions)))
    return _positions[: len(features)]
