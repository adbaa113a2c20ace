"""The parameter `random_effects`, in any of its forms -> effects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

from nearline.batch.settings import RandomSettings
from nearline.errors import ConfigError

Column: TypeAlias = str | int
Features: TypeAlias = Literal["all"] | tuple[Column, ...] | None


@final
@dataclass(frozen=True, slots=True)
class EntityEffect:
    """One small model for each value of an entity column.

    Attributes
    ----------
    entity : the column of the entities, by name (data frames) or by position (any X).
    features : the columns it weighs besides its intercept: None for none, "all" for every column that holds no
        entity, or a tuple of columns.
    prior_variance : variance of every coefficient between entities, in squared units of the linear predictor per
        unit of the feature; None estimates the population prior from the data.
    precision : keep the correlations between an entity's coefficients ("full") or not ("diagonal").
    min_rows : entities with fewer rows are left to the population prior.
    max_rows : learn from at most so many rows of an entity, a deterministic random sample; None for all.
    """

    entity: Column
    features: Features = None
    prior_variance: float | None = None
    precision: Literal["full", "diagonal"] = "full"
    min_rows: int = 1
    max_rows: int | None = None

    def settings(self, name: str, bag: str | None) -> RandomSettings:
        """What batch training calls this effect."""
        return RandomSettings(
            name=name,
            kind=name,
            bags=() if bag is None else (bag,),
            prior_variance=self.prior_variance,
            precision=self.precision,
            min_rows=self.min_rows,
            max_rows=self.max_rows,
        )


def entity_effects(given: Any) -> tuple[EntityEffect, ...]:
    """Return the effects that a value of `random_effects` describes.

    ================================  ==========================================================
    value                             effects
    ================================  ==========================================================
    None                              none
    a column                          one, an intercept for each of its entities
    an `EntityEffect`                 that one
    a mapping of columns to features  one each; features as of `EntityEffect.features`
    an iterable                       one for each item, a column or an `EntityEffect`
    ================================  ==========================================================

    Raises `ConfigError` for anything else.
    """
    if given is None:
        return ()
    if isinstance(given, str | int | EntityEffect):
        return (_effect(given),)
    if isinstance(given, Mapping):
        return tuple(EntityEffect(entity, _features(entity, chosen)) for entity, chosen in given.items())
    if isinstance(given, Iterable):
        return tuple(_effect(item) for item in given)
    raise _unexpected(given)


def _effect(item: Any) -> EntityEffect:
    if isinstance(item, EntityEffect):
        return item
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise _unexpected(item)
    return EntityEffect(item)


def _features(entity: Column, chosen: Any) -> Features:
    if chosen is None or chosen == "all":
        return chosen  # type: ignore[no-any-return]
    if isinstance(chosen, str | int) or not isinstance(chosen, Iterable):
        raise ConfigError(
            f'random_effects[{entity!r}]: expected None, "all" or a list of columns, got {chosen!r}'
        )
    return tuple(chosen)


def _unexpected(given: Any) -> ConfigError:
    return ConfigError(
        f"random_effects: expected a column, an EntityEffect, a list of them, or a mapping of columns to "
        f"features, got {given!r}"
    )
