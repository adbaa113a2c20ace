"""A fitted effect -> its coefficients, labelled with their features."""

from typing import Any

import numpy as np
import pyarrow as pa

from nearline.arrays import Floats
from nearline.model.effects import FixedCoefficients, RandomEffect

_Labels = list[tuple[str, str, int | None]]


def feature_labels(fixed: FixedCoefficients, columns: tuple[str, ...]) -> list[str]:
    """Return a label for each of `fixed_coefficients`: name, or name=term."""
    return [f"{name}={term}" if term else name for name, term, _ in _in_order(fixed, columns)]


def fixed_coefficients(fixed: FixedCoefficients, columns: tuple[str, ...]) -> Floats:
    """Return the coefficients of the features of the columns of X, in their order, float64[k].

    A column of numbers has one coefficient, 0 if it was 0 in every row; a column of strings has one for each
    string, in the order in which they were first met.
    """
    at = [place for _, _, place in _in_order(fixed, columns)]
    return np.array([0.0 if place is None else fixed.coefficients[place] for place in at], dtype=np.float64)


def _in_order(fixed: FixedCoefficients, columns: tuple[str, ...]) -> _Labels:
    """Return name, term and place of every feature, the intercept aside."""
    table = fixed.registry.to_table(start=1)
    known: dict[str, _Labels] = {name: [] for name in columns}
    keys: Any = (table.column(part).to_pylist() for part in ("name", "term", "column"))
    for name, term, place in zip(*keys, strict=True):
        known.setdefault(name, []).append((name, term, place))
    return [label for name, labels in known.items() for label in labels or [(name, "", None)]]


def entity_table(effect: RandomEffect, entity: str) -> pa.Table:
    """Return feature, term, mean and std of each coefficient of one entity, the intercept first.

    Coefficients the entity has no evidence for, and all those of an entity nobody knows, have the prior's.
    """
    belief, columns = effect.belief(entity)
    mean, std = effect.prior.mean.copy(), effect.prior.std.copy()
    mean[columns], std[columns] = belief.mean, belief.std
    keys: Any = effect.registry.to_table()
    columns_of = [keys.column("name"), keys.column("term"), pa.array(mean), pa.array(std)]
    return pa.table(columns_of, names=["feature", "term", "mean", "std"])
