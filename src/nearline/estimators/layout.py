"""The columns of X, by name or by position -> which effect uses which of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from nearline.batch.settings import FIXED, FixedSettings, RandomSettings
from nearline.errors import ConfigError
from nearline.estimators.effects import Column, EntityEffect


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of X mean.

    Attributes
    ----------
    names : of all columns; x0, x1, ... where X has none.
    entities : positions of the entity columns.
    bags : bag to the positions of its features; each choice of columns is one bag, named after the first effect
        that made it.
    bag_of : effect ("fixed", or the name of an entity column) to its bag; None if it has an intercept alone.
    effects : the random effects, by the name of their entity column.
    """

    names: tuple[str, ...]
    entities: tuple[int, ...]
    bags: dict[str, tuple[int, ...]]
    bag_of: dict[str, str | None]
    effects: dict[str, EntityEffect]

    def column_names(self, positions: Iterable[int]) -> tuple[str, ...]:
        """Names of the columns at these positions."""
        return tuple(self.names[at] for at in positions)

    @property
    def fixed_columns(self) -> tuple[str, ...]:
        """Names of the columns the fixed effect weighs."""
        bag = self.bag_of[FIXED]
        return () if bag is None else self.column_names(self.bags[bag])

    def position(self, column: Column, role: str) -> int:
        """Return where a column is.

        Raises
        ------
        ConfigError
            There is no such column; `role` is the parameter that names it.
        """
        return _position(self.names, column, role)

    def fixed_settings(self, *, l2: float, l1: float, locked: bool) -> FixedSettings:
        """What batch training calls the fixed effect."""
        bag = self.bag_of[FIXED]
        return FixedSettings(bags=() if bag is None else (bag,), l2=l2, l1=l1, locked=locked)

    def random_settings(self) -> tuple[RandomSettings, ...]:
        """What batch training calls the random effects."""
        return tuple(effect.settings(name, self.bag_of[name]) for name, effect in self.effects.items())


def make_layout(names: Sequence[str], effects: Sequence[EntityEffect], fixed_features: Any) -> Layout:
    """Return the layout of columns of these names.

    Raises `ConfigError` for a column that is not there, or an entity column that is used twice or as a feature.
    """
    names = tuple(names)
    entities = tuple(_position(names, effect.entity, "random_effects") for effect in effects)
    if len(set(entities)) < len(entities):
        raise ConfigError(
            "random_effects: expected one effect for each entity column, got two for one column"
        )
    choices: dict[str, tuple[Any, str]] = {FIXED: (fixed_features, "fixed_features")}
    for effect, at in zip(effects, entities, strict=True):
        choices[names[at]] = () if effect.features is None else effect.features, "random_effects"
    if len(choices) <= len(effects):
        raise ConfigError(f"random_effects: an entity column cannot be called {FIXED!r}; rename it")
    bags: dict[str, tuple[int, ...]] = {}
    bag_of: dict[str, str | None] = {}
    named: dict[tuple[int, ...], str] = {}
    for name, (chosen, role) in choices.items():
        columns = _chosen(names, entities, chosen, role)
        bag_of[name] = named.setdefault(columns, name) if columns else None
        if columns:
            bags[named[columns]] = columns
    by_name = {names[at]: effect for at, effect in zip(entities, effects, strict=True)}
    return Layout(names, entities, bags, bag_of, by_name)


def _chosen(names: tuple[str, ...], entities: tuple[int, ...], chosen: Any, role: str) -> tuple[int, ...]:
    if isinstance(chosen, str) and chosen == "all":
        return tuple(at for at in range(len(names)) if at not in entities)
    if isinstance(chosen, str | int) or not isinstance(chosen, Iterable):
        raise ConfigError(f'{role}: expected "all" or a list of columns, got {chosen!r}')
    columns = tuple(_position(names, column, role) for column in chosen)
    for at in columns:
        if at in entities:
            raise ConfigError(f"{role}: column {names[at]!r} holds entities, so it cannot be a feature")
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{role}: expected each column once, got {list(chosen)}")
    return columns


def _position(names: tuple[str, ...], column: Column, role: str) -> int:
    if isinstance(column, str):
        if column in names:
            return names.index(column)
        raise ConfigError(f"{role}: no column {column!r} in X (its columns: {', '.join(names)})")
    if not -len(names) <= column < len(names):
        raise ConfigError(f"{role}: no column at position {column} in X, which has {len(names)}")
    return column % len(names)
